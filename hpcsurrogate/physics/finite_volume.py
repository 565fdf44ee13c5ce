"""Staggered, kinetic-energy-conserving finite volumes in two dimensions with exact pressure projection.

    d u / dt = P( - div (u u) + f + closure ) + nu lap u - drag u

Legend: u[i, j] at the face ((i+1) h, (j+1/2) h), v[i, j] at ((i+1/2) h, (j+1) h); state velocity_hat = `rfft2` of both
components on their own points; P projection on fields whose *discrete* divergence vanishes; w_n weights of the
differences and averages over n cells (n odd) that make up a scheme of order 2, 4 or 6.

Source of the fluxes: Y. Morinishi et al., J. Comput. Phys. 143 (1998) 90, equations 108 to 110 (Div-S schemes).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hpcsurrogate.core.config import Flow
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.forcing import body_force_hat
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.time_stepping import runge_kutta_4

Closure = Callable[[Tensor], Tensor]

# order -> {n: w_n}: the same weights for differences (f(+n/2) - f(-n/2)) / (n h) and averages (f(+n/2) + f(-n/2)) / 2.
WEIGHTS = {2: {1: 1.0}, 4: {1: 9 / 8, 3: -1 / 8}, 6: {1: 150 / 128, 3: -25 / 128, 5: 3 / 128}}
# order -> second-derivative stencil: centre, then distance 1, 2, 3.
LAPLACIAN = {2: (-2.0, 1.0), 4: (-5 / 2, 4 / 3, -1 / 12), 6: (-49 / 18, 3 / 2, -3 / 20, 1 / 90)}


class FiniteVolumeSolver:
    """Right-hand side and RK4 step on a staggered grid.

    Parameters
    ----------
    grid : Grid
    flow : core.config.Flow
    order : int    2, 4 or 6

    Raises
    ------
    ConfigError    if the grid is narrower than the stencil, or does not resolve the forcing

    Notes
    -----
    Momentum and, in the limit of small time steps, kinetic energy are conserved without viscosity; the discrete
    divergence stays at round-off (tests/physics/test_finite_volume.py). All methods take leading batch axes and are
    differentiable.
    """

    def __init__(self, grid: Grid, flow: Flow, order: int = 2):
        self.grid, self.flow, self.order = grid, flow, order
        self._weights = WEIGHTS[order]
        self._reach = max(self._weights)
        if min(grid.shape) < self._reach:
            raise ConfigError(
                f"host.grid: order {order} needs at least {self._reach + 1} points along each axis, not {grid.shape}"
            )
        self._complex = torch.complex64 if grid.dtype == torch.float32 else torch.complex128
        self._unit_divergence = self._projection_direction()
        self._linear = self._linear_symbol()
        self._force_hat = self._face_averaged_force()

    # --- symbols in Fourier space --------------------------------------------------------------------------------

    def _difference_symbol(self, axis: int) -> Tensor:
        """Symbol of the discrete derivative from faces to centres along one axis, complex, broadcastable."""
        k = self.grid.kx if axis == 0 else self.grid.ky
        h = self.grid.spacing[axis]
        symbol = sum(w * 2j / (n * h) * torch.sin(n * k * h / 2) for n, w in self._weights.items())
        return symbol * torch.exp(-0.5j * k * h)

    def _projection_direction(self) -> Tensor:
        """Unit vector field d with div = |d| d . u, so that P u = u - conj(d) (d . u); shape (2, nx, ny // 2 + 1)."""
        nx, ny = self.grid.shape
        dx, dy = (self._difference_symbol(axis).expand(nx, ny // 2 + 1) for axis in (0, 1))
        norm = torch.sqrt(dx.abs() ** 2 + dy.abs() ** 2)
        norm = torch.where(norm > 0, norm, 1.0)
        return torch.stack((dx / norm, dy / norm)).to(self._complex)

    def _linear_symbol(self) -> Tensor:
        """Viscosity and drag, real and negative, stored complex; shape (nx, ny // 2 + 1) [1/s]."""
        centre, *others = LAPLACIAN[self.order]
        symbol = 0.0
        for k, h in zip((self.grid.kx, self.grid.ky), self.grid.spacing, strict=True):
            symbol = symbol + centre / h**2
            for distance, weight in enumerate(others, start=1):
                symbol = symbol + 2 * weight * torch.cos(distance * k * h) / h**2
        return (self.flow.viscosity * symbol - self.flow.drag).to(self._complex)

    def _face_averaged_force(self) -> Tensor | None:
        """Body force averaged over the faces of the cells, as coefficients on the staggered points, projected."""
        force_hat = body_force_hat(self.flow.forcing, self.grid)
        if force_hat is None:
            return None
        (hx, hy), kx, ky = self.grid.spacing, self.grid.kx, self.grid.ky
        u_transfer = torch.sinc(ky * hy / (2 * torch.pi)) * torch.exp(1j * (kx * hx + ky * hy / 2))
        v_transfer = torch.sinc(kx * hx / (2 * torch.pi)) * torch.exp(1j * (kx * hx / 2 + ky * hy))
        transfer = torch.stack((u_transfer, v_transfer)).to(self._complex)
        return self._project_hat(force_hat * transfer)

    def _project_hat(self, vector_hat: Tensor) -> Tensor:
        weighted = self._unit_divergence * vector_hat
        divergence = weighted[..., :1, :, :] + weighted[..., 1:, :, :]
        return vector_hat - self._unit_divergence.conj() * divergence

    # --- fluxes in physical space ----------------------------------------------------------------------------------

    def _pad(self, velocity_bcxy: Tensor) -> Tensor:
        """Periodic halo of `reach` cells on every side."""
        batch = velocity_bcxy.shape[:-3]
        padded = F.pad(velocity_bcxy.reshape(-1, 2, *self.grid.shape), (self._reach,) * 4, mode="circular")
        return padded.reshape(*batch, 2, *padded.shape[-2:])

    def _interpolate(self, field: Tensor, axis: int) -> Tensor:
        """Twice the midpoint interpolation of the scheme's order along `axis`; `reach` points fewer than the input."""
        reach, total = self._reach, None
        size = field.shape[axis] - reach
        for n, weight in self._weights.items():
            inset = (reach - n) // 2
            low, high = field.narrow(axis, inset, size), field.narrow(axis, inset + n, size)
            if total is None:
                total = low + high if weight == 1 else (low + high) * weight
            else:
                total = torch.add(total, low + high, alpha=weight)
        return total

    def _add_flux_divergence(self, out: Tensor | None, advecting: Tensor, advected: Tensor, axis: int) -> Tensor:
        """out - sum_n w_n delta_n( advecting * average_n(advected) ) along `axis`.

        `advected` has `reach` more points than `advecting` along `axis`, which has `reach` more than the result;
        `advecting` is twice the velocity, as `_interpolate` returns it.
        """
        reach, h = self._reach, self.grid.spacing[axis]
        size = advecting.shape[axis]
        for n, weight in self._weights.items():
            inset = (reach - n) // 2
            flux = advecting * (advected.narrow(axis, inset, size) + advected.narrow(axis, inset + n, size))
            low, high = flux.narrow(axis, inset, size - reach), flux.narrow(axis, inset + n, size - reach)
            scale = -weight / (4 * n * h)
            difference = high - low
            out = difference * scale if out is None else torch.add(out, difference, alpha=scale)
        return out

    def advection(self, velocity_bcxy: Tensor) -> Tensor:
        """-div (u u) on the staggered points, not projected; shape of the input [m/s^2]."""
        (nx, ny), reach = self.grid.shape, self._reach
        u, v = self._pad(velocity_bcxy).unbind(-3)
        u_wide_x, u_wide_y = u.narrow(-1, reach, ny), u.narrow(-2, reach, nx)
        v_wide_x, v_wide_y = v.narrow(-1, reach, ny), v.narrow(-2, reach, nx)
        # Corners lie half a cell up and right of the centres: v between columns i and i+1 carries u along y,
        # u between rows j and j+1 carries v along x.
        before, between = reach // 2, (reach + 1) // 2
        v_at_corner = self._interpolate(v.narrow(-2, between, nx + reach).narrow(-1, before, ny + reach), -2)
        u_at_corner = self._interpolate(u.narrow(-1, between, ny + reach).narrow(-2, before, nx + reach), -1)
        u_rate = self._add_flux_divergence(None, self._interpolate(u_wide_x, -2), u_wide_x, -2)
        u_rate = self._add_flux_divergence(u_rate, v_at_corner, u_wide_y, -1)
        v_rate = self._add_flux_divergence(None, self._interpolate(v_wide_y, -1), v_wide_y, -1)
        v_rate = self._add_flux_divergence(v_rate, u_at_corner, v_wide_x, -2)
        return torch.stack((u_rate, v_rate), dim=-3)

    # --- right-hand side and step ------------------------------------------------------------------------------------

    def encode(self, velocity_bcxy: Tensor) -> Tensor:
        """State of the solver: `rfft2` coefficients of the velocity, (..., 2, nx, ny // 2 + 1)."""
        return torch.fft.rfft2(velocity_bcxy)

    def decode(self, velocity_hat: Tensor) -> Tensor:
        """Velocity on the staggered points, (..., 2, nx, ny) [m/s]."""
        # One axis at a time: torch's irfft2 copies its input first.
        along_x = torch.fft.ifft(velocity_hat, dim=-2)
        return torch.fft.irfft(along_x, n=self.grid.shape[1], dim=-1)

    def project(self, vector_bcxy: Tensor) -> Tensor:
        """Discretely divergence-free part of a staggered vector field; keeps the mean."""
        return self.decode(self._project_hat(self.encode(vector_bcxy)))

    def rhs(self, velocity_hat: Tensor, stage: int = 0, closure: Closure | None = None) -> Tensor:
        """d velocity_hat / dt with pressure; the closure sees, and answers at, the staggered points."""
        velocity = self.decode(velocity_hat)
        acceleration = self.advection(velocity)
        if closure is not None:
            acceleration = acceleration + closure(velocity)
        rate = torch.addcmul(self._project_hat(self.encode(acceleration)), self._linear, velocity_hat)
        return rate if self._force_hat is None else rate + self._force_hat

    def step(self, velocity_hat: Tensor, dt: float, closure: Closure | None = None) -> Tensor:
        """One classical fourth-order Runge-Kutta step of dt [s]; the closure is called at each of its four stages."""
        return runge_kutta_4(lambda y, stage: self.rhs(y, stage, closure), velocity_hat, dt)
