"""Pseudo-spectral incompressible Navier-Stokes in two dimensions, vorticity form.

    d omega / dt = - curl div (u u) + nu lap omega - drag omega + curl (f + closure),    omega = dv/dx - du/dy

Legend: omega_hat `rfft2` coefficients of the vorticity, only the first `num_columns` along ky are kept (the others are
always zero under the 2/3 rule); velocity_bcxy collocated. The mean velocity is zero.

Cost of one right-hand side: four FFTs. curl div (u u) = (dxx - dyy) uv + dxy (v^2 - u^2) needs two products, where
the advective form u . grad omega needs five FFTs. The rest is memory traffic: coefficients have kx running fastest in
memory (`_kx_fastest`), and components are transformed one by one, so that no FFT copies its input first.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from hpcsurrogate.core.config import ConstantPowerForcing, Flow, Hyperviscosity
from hpcsurrogate.physics.forcing import LargeScaleDrive, body_force_hat
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.time_stepping import Decay, growth_rates, integrating_factor_rk4

Closure = Callable[[Tensor], Tensor]


def _kx_fastest(field_hat: Tensor) -> Tensor:
    """The same values in the memory order in which an FFT along x leaves its result; mixed orders cost three times."""
    return field_hat.mT.contiguous().mT


class SpectralSolver:
    """Right-hand side and time step; a fine grid makes it a DNS, a coarse one the spectral host of a closure.

    Parameters
    ----------
    grid : Grid
    flow : core.config.Flow      viscosity, drag, forcing
    dealias : str                "two_thirds" truncates at n/3; "shift" keeps all modes below the Nyquist frequency and
                                 moves the grid by half a cell on alternate stages, which cancels most of the aliasing
                                 (Patterson and Orszag 1971) at no cost
    hyperviscosity : Hyperviscosity or None     extra damping rate (k / kmax)^(2 power) [1/s], kmax = pi / h

    Notes
    -----
    Energy and enstrophy are conserved by the dealiased nonlinear term (tests/physics/test_spectral.py).
    All methods take any number of leading batch axes and are differentiable.
    """

    def __init__(
        self,
        grid: Grid,
        flow: Flow,
        dealias: str = "two_thirds",
        hyperviscosity: Hyperviscosity | None = None,
    ):
        self.grid, self.flow, self.dealias = grid, flow, dealias
        nx, ny = grid.shape
        self.num_columns = (ny - 1) // 3 + 1 if dealias == "two_thirds" else ny // 2 + 1
        columns = slice(0, self.num_columns)
        kx, ky = grid.kx, grid.ky[:, columns]
        self._mask = self._kept_modes()[:, columns]
        inverse_k2 = grid.inverse_k2[:, columns] * self._mask
        complex_dtype = torch.complex64 if grid.dtype == torch.float32 else torch.complex128
        self.complex_dtype = complex_dtype
        self._curl = torch.stack((-1j * ky.expand_as(self._mask), 1j * kx.expand_as(self._mask))).to(complex_dtype)
        self._curl = _kx_fastest(self._curl * self._mask)
        biot_savart = (torch.stack((1j * ky * inverse_k2, -1j * kx * inverse_k2))).to(complex_dtype)
        product = torch.stack(((kx**2 - ky**2) * self._mask, kx * ky * self._mask)).to(complex_dtype)
        hx, hy = grid.spacing
        half_cell = torch.exp(0.5j * (kx * hx + ky * hy)).to(complex_dtype)
        self._biot_savart = (_kx_fastest(biot_savart), _kx_fastest(biot_savart * half_cell))
        self._product = (_kx_fastest(product), _kx_fastest(product * half_cell.conj()))
        self._closure_curl = (self._curl, _kx_fastest(self._curl * half_cell.conj()))
        self.linear = _kx_fastest(growth_rates(flow, grid.k2, grid.spacing, hyperviscosity)[:, columns])
        force_hat = body_force_hat(flow.forcing, grid, points_per_wave=3 if dealias == "two_thirds" else 2)
        self._force_curl = (
            torch.zeros((), dtype=complex_dtype, device=grid.device)
            if force_hat is None
            else _kx_fastest((self._curl * force_hat[..., columns]).sum(-3))
        )
        self._drive = None
        if isinstance(flow.forcing, ConstantPowerForcing):
            self._drive = LargeScaleDrive(flow.forcing, (kx, ky), grid, of_vorticity=True)
        self._decay = Decay(self.linear, complex_dtype)

    def _kept_modes(self) -> Tensor:
        mask = self.grid.resolved.clone()
        mask[0, 0] = False
        if self.dealias == "two_thirds":
            nx, ny = self.grid.shape
            mx = torch.fft.fftfreq(nx, d=1 / nx, device=self.grid.device).abs()[:, None]
            my = torch.arange(ny // 2 + 1, device=self.grid.device)[None, :]
            mask &= (mx < nx / 3) & (my < ny / 3)
        return mask

    def with_damping(self, rates: Tensor) -> "SpectralSolver":
        """The same solver, its linear term less `rates`, shape of the grid's half-spectrum, real [1/s]."""
        damped = copy.copy(self)
        damped.linear = _kx_fastest(self.linear - rates[:, : self.num_columns].to(self.linear))
        damped._decay = Decay(damped.linear, self.complex_dtype)
        return damped

    def _to_physical(self, field_hat: Tensor) -> Tensor:
        # One axis at a time: the columns beyond num_columns are never transformed, and `contiguous` turns the array
        # to ky fastest, in blocks, much faster than the real FFT reads it across.
        along_x = torch.fft.ifft(field_hat, dim=-2).contiguous()
        return torch.fft.irfft(along_x, n=self.grid.shape[1], dim=-1)

    def _to_spectral(self, field: Tensor) -> Tensor:
        along_y = torch.fft.rfft(field, dim=-1).narrow(-1, 0, self.num_columns)
        return torch.fft.fft(along_y, dim=-2)

    def nonlinear(
        self, omega_hat: Tensor, stage: int = 0, closure: Closure | None = None, held_hat: Tensor | None = None
    ) -> Tensor:
        """All terms but the linear ones: advection, forcing, closure; same shape as `omega_hat` [1/s^2].

        With "shift", odd stages work on a grid moved by half a cell; a closure sees the velocity there, which
        changes nothing for a translation-invariant one. `held_hat` is added as it is.
        """
        shifted = stage % 2 if self.dealias == "shift" else 0
        u, v = (self._to_physical(symbol * omega_hat) for symbol in self._biot_savart[shifted])
        uv_symbol, difference_symbol = self._product[shifted]
        tendency = torch.addcmul(self._force_curl, uv_symbol, self._to_spectral(u * v))
        difference = torch.addcmul(v * v, u, u, value=-1)
        tendency = torch.addcmul(tendency, difference_symbol, self._to_spectral(difference))
        if closure is not None:
            closure_hat = self._to_spectral(closure(torch.stack((u, v), dim=-3)))
            tendency = tendency + (self._closure_curl[shifted] * closure_hat).sum(-3)
        if held_hat is not None:
            tendency = tendency + held_hat
        return tendency if self._drive is None else self._drive.add_to(tendency, omega_hat)

    def rhs(self, omega_hat: Tensor, stage: int = 0, closure: Closure | None = None) -> Tensor:
        """d omega_hat / dt, linear terms included."""
        return self.nonlinear(omega_hat, stage, closure) + self.linear * omega_hat

    def step(self, omega_hat: Tensor, dt: float, closure: Closure | None = None, hold: bool = False) -> Tensor:
        """One fourth-order step of dt [s]; viscosity, drag and damping are integrated exactly.

        The closure is called at each of the four stages, or with `hold` once, before them.
        """
        held_hat = None
        if hold and closure is not None:
            held_hat, closure = self.vorticity_hat_from_velocity(closure(self.velocity(omega_hat))), None
        return integrating_factor_rk4(
            lambda y, stage: self.nonlinear(y, stage, closure, held_hat), self._decay.over(dt / 2), omega_hat, dt
        )

    def velocity_hat(self, omega_hat: Tensor) -> Tensor:
        """Coefficients of the velocity that has this vorticity, shape (..., 2, nx, num_columns)."""
        return self._biot_savart[0] * omega_hat.unsqueeze(-3)

    def velocity(self, omega_hat: Tensor) -> Tensor:
        """Collocated velocity, shape (..., 2, nx, ny) [m/s]."""
        return self._to_physical(self.velocity_hat(omega_hat))

    def vorticity(self, omega_hat: Tensor) -> Tensor:
        """Collocated vorticity, shape (..., nx, ny) [1/s]."""
        return self._to_physical(omega_hat)

    def vorticity_hat_from_velocity(self, velocity_bcxy: Tensor) -> Tensor:
        """Kept modes of curl(velocity), from collocated velocity (..., 2, nx, ny) [m/s]."""
        return (self._curl * self._to_spectral(velocity_bcxy)).sum(-3)

    encode = vorticity_hat_from_velocity

    def max_velocity(self, omega_hat: Tensor) -> float:
        """Largest magnitude of a velocity component [m/s]."""
        return self.velocity(omega_hat).abs().max().item()

    def random_vorticity_hat(self, wavenumber: int, rms_velocity: float, generator: torch.Generator) -> Tensor:
        """Random field with an energy spectrum that peaks at `wavenumber` [2 pi / Lx].

        Parameters
        ----------
        wavenumber : int
        rms_velocity : float [m/s]    root mean square of the velocity magnitude
        generator : torch.Generator (CPU)

        Returns
        -------
        Tensor, complex, shape (nx, num_columns)
        """
        noise = torch.randn(self.grid.shape, generator=generator, dtype=torch.float64)
        noise = noise.to(device=self.grid.device, dtype=self.grid.dtype)
        k = self.grid.k2[:, : self.num_columns].sqrt() / (2 * math.pi / self.grid.lengths[0] * wavenumber)
        envelope = k**2 * torch.exp(-(k**2)) * self._mask
        omega_hat = envelope * self._to_spectral(noise)
        rms = self.velocity(omega_hat).square().sum(-3).mean().sqrt()
        return omega_hat * (rms_velocity / rms)

    random_state = random_vorticity_hat

    def refine(self, omega_hat: Tensor, finer: "SpectralSolver") -> Tensor:
        """The same field on the grid of `finer`, whose modes must include this solver's; missing modes are zero."""
        nx, ny = self.grid.shape
        target = torch.zeros(
            *omega_hat.shape[:-2],
            finer.grid.shape[0],
            finer.num_columns,
            dtype=finer.complex_dtype,
            device=omega_hat.device,
        )
        half = nx // 2
        columns = min(self.num_columns, finer.num_columns)
        source = (omega_hat * self._mask)[..., :columns].to(finer.complex_dtype)
        target[..., :half, :columns] = source[..., :half, :]
        target[..., -half + 1 :, :columns] = source[..., -half + 1 :, :]
        scale = finer.grid.shape[0] * finer.grid.shape[1] / (nx * ny)
        return target * scale * finer._mask
