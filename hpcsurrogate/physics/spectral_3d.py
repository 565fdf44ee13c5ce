"""Pseudo-spectral incompressible Navier-Stokes in three dimensions, velocity form.

    d u / dt = P( - div (u u) + f + closure ) + nu lap u - drag u

Legend: velocity_hat `rfftn` coefficients of the collocated velocity, shape (..., 3, nx, ny, num_columns): the columns
along kz that the dealiasing rule cuts are not kept; P projection on divergence-free fields. The mean velocity is zero.

Cost of one right-hand side: eight FFTs, three back and five forth. Of the six products u_i u_j the projection does not
see a multiple of the unit tensor, so ww is taken from the other two squares (C. Basdevant, J. Comput. Phys. 50 (1983)
209). A closure costs three more.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from hpcsurrogate.core.config import ConstantPowerForcing, Flow, Hyperviscosity
from hpcsurrogate.physics.forcing import LargeScaleDrive, body_force_hat, require_resolved
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.time_stepping import Decay, growth_rates, integrating_factor_rk4
from hpcsurrogate.physics.transforms import LocalTransform, largest_wave, mode_numbers, place_modes, spectrum_order

Closure = Callable[[Tensor], Tensor]


class SpectralSolver3D:
    """Right-hand side and time step; a fine grid makes it a DNS, a coarse one the spectral host of a closure.

    Parameters
    ----------
    grid : Grid                  of three dimensions
    flow : core.config.Flow      viscosity, drag, forcing
    dealias : str                "two_thirds" truncates at n/3; "shift" keeps all modes below the Nyquist frequency and
                                 moves the grid by half a cell on alternate stages, which cancels most of the aliasing
                                 (Patterson and Orszag 1971) at no cost
    hyperviscosity : Hyperviscosity or None     extra damping rate (k / kmax)^(2 power) [1/s], kmax = pi / h
    transform : LocalTransform or of the same methods     where the field lies; on this process if not given

    Notes
    -----
    Energy and helicity are conserved by the dealiased nonlinear term, and a flow without variation along z is that of
    the two-dimensional solver (tests/physics/test_spectral_3d.py). All methods take any number of leading batch axes
    and are differentiable.
    """

    def __init__(
        self,
        grid: Grid,
        flow: Flow,
        dealias: str = "two_thirds",
        hyperviscosity: Hyperviscosity | None = None,
        transform: LocalTransform | None = None,
    ):
        self.grid, self.flow, self.dealias = grid, flow, dealias
        self.num_columns = largest_wave(grid.shape[-1], dealias) + 1
        self.transform = transform or LocalTransform(grid, self.num_columns)
        self.complex_dtype = torch.complex64 if grid.dtype == torch.float32 else torch.complex128
        self._numbers = mode_numbers(self.transform.k, grid.lengths)
        self._k = tuple(k.to(self.complex_dtype) for k in self.transform.k)
        self._k2 = spectrum_order(sum(k**2 for k in self.transform.k))
        self._mask = spectrum_order(self._kept_modes())
        self._inverse_k2 = torch.where(self._k2 > 0, 1 / self._k2.clamp(min=torch.finfo(grid.dtype).tiny), 0)
        self._inverse_k2 = self._inverse_k2.to(self.complex_dtype)
        self._half_cell = self._half_cell_shift() if dealias == "shift" else None
        unshifted = (-1j * self._mask).to(self.complex_dtype)
        # What turns the sum over k_j T_ij into -d_j T_ij of the kept modes, on the grid itself and on the moved one.
        self._finish = (unshifted, None if self._half_cell is None else unshifted * self._half_cell.conj())
        self.linear = growth_rates(flow, self._k2, grid.spacing, hyperviscosity)
        self._force_hat = self._steady_force()
        self._drive = self._large_scale_drive()
        self._decay = Decay(self.linear, self.complex_dtype)

    def _kept_modes(self) -> Tensor:
        mask = torch.ones(self._k2.shape, dtype=torch.bool, device=self.grid.device)
        for axis, (numbers, n) in enumerate(zip(self._numbers, self.grid.shape, strict=True)):
            mask &= self.grid.along(axis, numbers.abs() <= largest_wave(n, self.dealias))
        return mask & (self._k2 > 0)

    def _half_cell_shift(self) -> Tensor:
        phase = sum(k * (h / 2) for k, h in zip(self.transform.k, self.grid.spacing, strict=True))
        return spectrum_order(torch.exp(1j * phase).to(self.complex_dtype))

    def with_damping(self, rates: Tensor) -> "SpectralSolver3D":
        """The same solver, its linear term less `rates`, shape of the grid's half-spectrum, real [1/s]."""
        damped = copy.copy(self)
        rates_here = place_modes(rates.to(self.linear), self.grid.shape, self.transform.k, self.grid.lengths)
        damped.linear = self.linear - rates_here
        damped._decay = Decay(damped.linear, self.complex_dtype)
        return damped

    def _steady_force(self) -> Tensor | None:
        forcing = self.flow.forcing
        require_resolved(forcing, self.grid, points_per_wave=3 if self.dealias == "two_thirds" else 2)
        # A few modes: made on the smallest grid that has them, then put where this process holds them.
        points = 2 * getattr(forcing, "wavenumber", 0) + 4
        small = Grid((points,) * 3, self.grid.lengths, self.grid.dtype, self.grid.device)
        force_hat = body_force_hat(forcing, small)
        if force_hat is None:
            return None
        scale = math.prod(self.grid.shape) / math.prod(small.shape)
        return place_modes(force_hat * scale, small.shape, self.transform.k, self.grid.lengths) * self._mask

    def _large_scale_drive(self) -> LargeScaleDrive | None:
        if not isinstance(self.flow.forcing, ConstantPowerForcing):
            return None
        return LargeScaleDrive(self.flow.forcing, self.transform.k, self.grid, total=self.transform.sum)

    # --- right-hand side and step ------------------------------------------------------------------------------------

    def nonlinear(
        self, velocity_hat: Tensor, stage: int = 0, closure: Closure | None = None, held_hat: Tensor | None = None
    ) -> Tensor:
        """All terms but the linear ones: advection, forcing, closure; divergence-free, shape of the input [m/s^2].

        With "shift", odd stages work on a grid moved by half a cell; a closure sees the velocity there, which
        changes nothing for a translation-invariant one. `held_hat` is added as it is.
        """
        shifted = stage % 2 if self.dealias == "shift" else 0
        components = velocity_hat.unbind(-4)
        if shifted:
            components = [self._half_cell * component for component in components]
        velocity = self.transform.to_physical(components)
        rates = self._flux_divergence(*velocity)
        if closure is not None:
            acceleration = closure(torch.stack(velocity, dim=-4))
            for rate, part_hat in zip(rates, self.transform.to_spectral(acceleration.unbind(-4)), strict=True):
                rate.add_(part_hat, alpha=1j)  # -i k_j T_ij + a_i = -i (k_j T_ij + i a_i)
        steady = self._force_hat if held_hat is None else held_hat
        if held_hat is not None and self._force_hat is not None:
            steady = self._force_hat + held_hat
        tendency = self._project_and_finish(rates, self._finish[shifted], steady)
        return tendency if self._drive is None else self._drive.add_to(tendency, velocity_hat)

    def _flux_divergence(self, u: Tensor, v: Tensor, w: Tensor) -> list[Tensor]:
        """k_j T_ij with T = u_i u_j - ww delta_ij, so that T_zz = 0; five transforms, those of the squares negative."""
        ww = w * w
        squares = [torch.addcmul(ww, part, part, value=-1) for part in (u, v)]
        minus_xx, minus_yy, xy, xz, yz = self.transform.to_spectral([*squares, u * v, u * w, v * w])
        kx, ky, kz = self._k
        along_x = (ky * xy).addcmul_(kz, xz).addcmul_(kx, minus_xx, value=-1)
        along_y = (kx * xy).addcmul_(kz, yz).addcmul_(ky, minus_yy, value=-1)
        along_z = (kx * xz).addcmul_(ky, yz)
        return [along_x, along_y, along_z]

    def _project_and_finish(self, rates: list[Tensor], finish: Tensor, steady: Tensor | None = None) -> Tensor:
        """steady + finish * (rates - k (k . rates) / k^2), stacked; overwrites `rates`."""
        kx, ky, kz = self._k
        potential = (kx * rates[0]).addcmul_(ky, rates[1]).addcmul_(kz, rates[2]).mul_(self._inverse_k2)
        projected = [rate.addcmul_(k, potential, value=-1) for k, rate in zip(self._k, rates, strict=True)]
        if steady is None:
            return _stack([part.mul_(finish) for part in projected])
        pairs = zip(projected, steady.unbind(-4), strict=True)
        return _stack([torch.addcmul(constant, part, finish) for part, constant in pairs])

    def rhs(self, velocity_hat: Tensor, stage: int = 0, closure: Closure | None = None) -> Tensor:
        """d velocity_hat / dt, linear terms included."""
        return self.nonlinear(velocity_hat, stage, closure) + self.linear * velocity_hat

    def step(self, velocity_hat: Tensor, dt: float, closure: Closure | None = None, hold: bool = False) -> Tensor:
        """One fourth-order step of dt [s]; viscosity, drag and damping are integrated exactly.

        The closure is called at each of the four stages, or with `hold` once, before them.
        """
        held_hat = None
        if hold and closure is not None:
            held_hat, closure = self.velocity_hat_from_velocity(closure(self.velocity(velocity_hat))), None
        return integrating_factor_rk4(
            lambda y, stage: self.nonlinear(y, stage, closure, held_hat), self._decay.over(dt / 2), velocity_hat, dt
        )

    # --- states and fields -------------------------------------------------------------------------------------------

    def velocity(self, velocity_hat: Tensor) -> Tensor:
        """Collocated velocity, shape (..., 3, nx, ny, nz) [m/s]."""
        return torch.stack(self.transform.to_physical(velocity_hat.unbind(-4)), dim=-4)

    def vorticity(self, velocity_hat: Tensor) -> Tensor:
        """Collocated vorticity, shape (..., 3, nx, ny, nz) [1/s]."""
        u, v, w = velocity_hat.unbind(-4)
        kx, ky, kz = (1j * k for k in self._k)
        curl_hat = [ky * w - kz * v, kz * u - kx * w, kx * v - ky * u]
        return torch.stack(self.transform.to_physical(curl_hat), dim=-4)

    def velocity_hat_from_velocity(self, velocity: Tensor) -> Tensor:
        """Kept modes of the divergence-free part of a collocated vector field (..., 3, nx, ny, nz)."""
        components = self.transform.to_spectral(velocity.unbind(-4))
        return self._project_and_finish(components, 1j * self._finish[0])

    encode = velocity_hat_from_velocity

    def max_velocity(self, velocity_hat: Tensor) -> float:
        """Largest magnitude of a velocity component [m/s]."""
        return self.transform.max(self.velocity(velocity_hat).abs().max()).item()

    def rms_velocity(self, velocity_hat: Tensor) -> Tensor:
        """Root mean square of the velocity's magnitude, shape of the batch [m/s]."""
        twice = self.grid.along(2, 1.0 + (self._numbers[2] > 0))
        square = (velocity_hat.abs().square() * twice).sum((-4, -3, -2, -1))
        return self.transform.sum(square).sqrt() / math.prod(self.grid.shape)

    def random_velocity_hat(self, wavenumber: int, rms_velocity: float, generator: torch.Generator) -> Tensor:
        """Random field with an energy spectrum ~ k^4 exp(-2 (k/k0)^2), peak at k0 = `wavenumber` [2 pi / Lx].

        Parameters
        ----------
        wavenumber : int
        rms_velocity : float [m/s]    root mean square of the velocity magnitude
        generator : torch.Generator (CPU)

        Returns
        -------
        Tensor, complex, shape (3, nx, ny, num_columns), divergence-free; the same field on every grid that resolves it
        """
        k0 = 2 * math.pi / self.grid.lengths[0] * wavenumber
        # Beyond six times the peak exp(-36) is nothing in float64: those modes are not drawn.
        limits = [math.ceil(6 * k0 * length / (2 * math.pi)) for length in self.grid.lengths]
        limits = [min(limit, n // 2 - 1) for limit, n in zip(limits, self.grid.shape, strict=True)]
        shape = [2 * limit + 2 for limit in limits]
        small = Grid(shape, self.grid.lengths, self.grid.dtype, self.grid.device)
        noise = torch.randn(3, *shape, generator=generator, dtype=torch.float64).to(small.k2)
        k = small.k2.sqrt() / k0
        noise_hat = torch.fft.rfftn(noise, dim=(-3, -2, -1)) * (k * torch.exp(-(k**2)))
        placed = place_modes(noise_hat, shape, self.transform.k, self.grid.lengths)
        velocity_hat = self._project_and_finish(list(placed.unbind(-4)), 1j * self._finish[0])
        return velocity_hat * (rms_velocity / self.rms_velocity(velocity_hat))

    random_state = random_velocity_hat

    def refine(self, velocity_hat: Tensor, finer: "SpectralSolver3D") -> Tensor:
        """The same field on the grid of `finer`, whose modes must include this solver's; missing modes are zero.

        This solver must hold its whole field on this process; `finer` may be shared by many.
        """
        scale = math.prod(finer.grid.shape) / math.prod(self.grid.shape)
        source = (velocity_hat * self._mask).to(finer.complex_dtype) * scale
        return place_modes(source, self.grid.shape, finer.transform.k, finer.grid.lengths) * finer._mask


def _stack(components: list[Tensor]) -> Tensor:
    """Components (..., nx, ny, M) one after the other, in the memory order that they have."""
    return torch.stack([component.movedim(-1, -3) for component in components], dim=-4).movedim(-3, -1)
