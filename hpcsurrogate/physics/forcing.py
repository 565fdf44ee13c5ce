"""Body forces in Fourier space, so that any grid and any layout can evaluate them exactly.

Legend: m = number of waves across the domain along each axis; f_hat coefficients with the normalisation of `rfftn`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hpcsurrogate.core.config import ConstantPowerForcing, Forcing, KolmogorovForcing, NoForcing
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.transforms import mode_numbers


def body_force_hat(forcing: Forcing, grid: Grid, points_per_wave: int = 2) -> Tensor | None:
    """`rfftn` coefficients of a steady body force on the collocated points of `grid`.

    Parameters
    ----------
    forcing : a section of core.config
    grid : Grid of two or three dimensions, must resolve the forcing
    points_per_wave : int    the solver keeps waves of more points than that: 2, or 3 under the 2/3 rule

    Returns
    -------
    Tensor, complex, shape (d, nx, ny // 2 + 1) or (d, nx, ny, nz // 2 + 1) [m/s^2]. Free of divergence and mean, the
    same force on every grid (tests/physics/test_forcing.py). None without forcing, and for one that follows the
    velocity (`LargeScaleDrive`).

    Raises
    ------
    ConfigError    if the grid does not resolve the forcing wavenumber (the force would be lost without a word)
    """
    require_resolved(forcing, grid, points_per_wave)
    if isinstance(forcing, NoForcing | ConstantPowerForcing):
        return None
    if isinstance(forcing, KolmogorovForcing):
        return _kolmogorov(forcing.wavenumber, forcing.amplitude, grid)
    make = _ring if grid.num_dims == 2 else _shell
    return make(forcing.wavenumber, forcing.amplitude, forcing.seed, grid)


def require_resolved(forcing: Forcing, grid: Grid, points_per_wave: int = 2) -> None:
    """Check that a grid keeps the modes of a forcing; parameters and error as in `body_force_hat`."""
    if isinstance(forcing, NoForcing):
        return
    if points_per_wave * forcing.wavenumber >= min(grid.shape):
        raise ConfigError(
            f"flow.forcing.wavenumber: {forcing.wavenumber} waves need a grid of more than "
            f"{points_per_wave * forcing.wavenumber} points along each axis here, not {grid.shape}"
        )


FASTEST = 20.0


class LargeScaleDrive:
    """Body force in proportion to the largest scales of the velocity: f_hat = P / (2 E_f) u_hat for 0 < |m| <= m_f.

    Parameters
    ----------
    forcing : core.config.ConstantPowerForcing    P and m_f
    k : tuple of Tensors                          wavenumbers of the state's coefficients (`Grid.k`) [rad/m]
    grid : Grid                                   its lengths and number of points
    of_vorticity : bool                           the state is the vorticity in two dimensions, not the velocity
    total : callable                              sums a Tensor over the processes that share the state

    Notes
    -----
    E_f is the energy of the driven modes, so that u . f has the mean P (tests/physics/test_forcing.py). Modes with
    hardly any energy, as of a vortex that has none of them or of a fluid at rest, grow at FASTEST (P k_f^2)^(1/3) at
    most, k_f = 2 pi m_f / L; turbulence in balance has P / (2 E_f) near half of (P k_f^2)^(1/3).
    Source: S. Ghosal, T. S. Lund, P. Moin and K. Akselvoll, J. Fluid Mech. 286 (1995) 229, section 5.
    """

    def __init__(
        self,
        forcing: ConstantPowerForcing,
        k: Sequence[Tensor],
        grid: Grid,
        of_vorticity: bool = False,
        total: Callable[[Tensor], Tensor] = lambda value: value,
    ):
        require_resolved(forcing, grid)
        numbers = torch.meshgrid(*mode_numbers(k, grid.lengths), indexing="ij")
        norm2 = sum(m**2 for m in numbers)
        self._modes = torch.nonzero((norm2 > 0) & (norm2 <= forcing.wavenumber**2), as_tuple=True)
        self._power, self._total, self._of_vorticity = forcing.power, total, of_vorticity
        wavenumber = 2 * math.pi * forcing.wavenumber / max(grid.lengths)
        self._least_energy = forcing.power / (2 * FASTEST * (forcing.power * wavenumber**2) ** (1 / 3))
        # A coefficient with a wavenumber above zero along the last axis stands for its conjugate too.
        weights = 1.0 + (numbers[-1][self._modes] > 0)
        weights = weights.to(grid.dtype) * (0.5 / math.prod(grid.shape) ** 2)
        if of_vorticity:
            k2 = sum(axis_k**2 for axis_k in k)
            weights = weights / k2[self._modes]
        self._energy_weights = weights

    def add_to(self, rate_hat: Tensor, state_hat: Tensor) -> Tensor:
        """Add the force on `state_hat` to `rate_hat`, in place.

        Parameters
        ----------
        rate_hat, state_hat : Tensor, complex, (..., d, coefficients), or (..., coefficients) of a vorticity
        """
        driven = state_hat[(..., *self._modes)]
        energy = (driven.abs().square() * self._energy_weights).sum(-1, keepdim=True)
        energy = self._total(energy if self._of_vorticity else energy.sum(-2, keepdim=True))
        rate_hat[(..., *self._modes)] += self._power / (2 * energy.clamp(min=self._least_energy)) * driven
        return rate_hat


def _zeros(grid: Grid) -> Tensor:
    complex_dtype = torch.complex64 if grid.dtype == torch.float32 else torch.complex128
    return torch.zeros(grid.num_dims, *grid.k2.shape, dtype=complex_dtype, device=grid.device)


def _kolmogorov(wavenumber: int, amplitude: float, grid: Grid) -> Tensor:
    """f_x = amplitude sin(2 pi wavenumber y / Ly): coefficients -+ i/2 amplitude times the number of points."""
    force_hat = _zeros(grid)
    coefficient = -0.5j * amplitude * math.prod(grid.shape)
    if grid.num_dims == 2:
        force_hat[0, 0, wavenumber] = coefficient
    else:
        force_hat[0, 0, wavenumber, 0], force_hat[0, 0, -wavenumber, 0] = coefficient, -coefficient
    return force_hat


def _ring(wavenumber: int, amplitude: float, seed: int, grid: Grid) -> Tensor:
    """Stream function of unit modes with random phases on the shell; phases depend on (seed, mode), not on the grid."""
    generator = torch.Generator().manual_seed(seed)
    stream_hat = _zeros(grid)[0]
    largest = wavenumber + 1
    phases = 2 * math.pi * torch.rand(2 * largest + 1, largest + 1, generator=generator, dtype=torch.float64)
    for mx in range(-largest, largest + 1):
        for my in range(0, largest + 1):
            on_shell = abs(math.hypot(mx, my) - wavenumber) <= 0.5
            if on_shell and (my > 0 or mx > 0):
                phase = phases[mx + largest, my].item()
                stream_hat[mx, my] = complex(math.cos(phase), math.sin(phase)) / math.hypot(mx, my)
                if my == 0:
                    stream_hat[-mx, 0] = stream_hat[mx, 0].conj()
    force_hat = torch.stack((1j * grid.ky * stream_hat, -1j * grid.kx * stream_hat))
    force = torch.fft.irfft2(force_hat, s=grid.shape)
    rms = force.square().sum(0).mean().sqrt()
    return force_hat * (amplitude / rms)


def _shell(wavenumber: int, amplitude: float, seed: int, grid: Grid) -> Tensor:
    """Curl of a vector potential of unit modes with random phases on the shell; phases depend on (seed, mode)."""
    generator = torch.Generator().manual_seed(seed)
    largest = wavenumber + 1
    shape = (3, 2 * largest + 1, 2 * largest + 1, largest + 1)
    phases = 2 * math.pi * torch.rand(shape, generator=generator, dtype=torch.float64)
    signed, last = torch.arange(-largest, largest + 1), torch.arange(largest + 1)
    mx, my, mz = torch.meshgrid(signed, signed, last, indexing="ij")
    norm = torch.sqrt((mx**2 + my**2 + mz**2).double())
    # Of a mode and its conjugate in the plane mz = 0 one draws, the other follows.
    draws = (mz > 0) | (mx > 0) | ((mx == 0) & (my > 0))
    chosen = torch.nonzero((abs(norm - wavenumber) <= 0.5) & draws, as_tuple=True)
    m = torch.stack([axis[chosen] for axis in (mx, my, mz)]).double()
    potential = torch.polar(torch.ones_like(m), phases[(slice(None), *chosen)]) / norm[chosen]
    k = m * (2 * math.pi / torch.tensor(grid.lengths, dtype=torch.float64))[:, None]
    modes = torch.linalg.cross(1j * k, potential, dim=0)
    # Parseval: a mode and its conjugate together carry twice the square.
    modes *= amplitude * math.prod(grid.shape) / math.sqrt(2 * modes.abs().square().sum().item())
    force_hat = _zeros(grid)
    modes, (ix, iy, iz) = modes.to(force_hat), m.long().to(grid.device)
    force_hat[:, ix, iy, iz] = modes
    plane = iz == 0
    force_hat[:, -ix[plane], -iy[plane], 0] = modes[:, plane].conj()
    return force_hat
