"""Staggered finite volumes in two or three dimensions with exact pressure projection.

    d u / dt = P( - div (u u) + f + closure ) + nu lap u - drag u

Legend: d dimensions; u_i stands at the upper face of its cell across axis i; state velocity_hat = half-spectra of all
components on their own points; P projection on fields whose *discrete* divergence vanishes. The fluxes and their
sources: physics/advection.py.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from hpcsurrogate.core.config import ConstantPowerForcing, Flow
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.advection import WEIGHTS, StaggeredAdvection
from hpcsurrogate.physics.forcing import LargeScaleDrive, body_force_hat
from hpcsurrogate.physics.grid import Grid, velocity_offset
from hpcsurrogate.physics.time_stepping import Decay, integrating_factor_rk4, runge_kutta_4

Closure = Callable[[Tensor], Tensor]
# (velocity_hat, points along the last axis, stage of the step) -> half-spectra of an acceleration, not scaled either.
AdvectionHat = Callable[[Tensor, int, int], Tensor]

# order -> second-derivative stencil: centre, then distance 1, 2, 3.
LAPLACIAN = {2: (-2.0, 1.0), 4: (-5 / 2, 4 / 3, -1 / 12), 6: (-49 / 18, 3 / 2, -3 / 20, 1 / 90)}


class FiniteVolumeSolver:
    """Right-hand side and RK4 step on a staggered grid.

    Parameters
    ----------
    grid : Grid         of d = 2 or 3 dimensions
    flow : core.config.Flow
    order : int         2, 4 or 6
    advection : str     "central", or "upwind": of order - 1, with dissipation

    Raises
    ------
    ConfigError    if the grid is narrower than the stencil, or does not resolve the forcing

    Notes
    -----
    Momentum and, under central advection in the limit of small time steps, kinetic energy are conserved without
    viscosity; the discrete divergence stays at round-off (tests/physics/test_finite_volume.py and
    test_finite_volume_3d.py). All methods take leading batch axes and are differentiable.
    """

    def __init__(self, grid: Grid, flow: Flow, order: int = 2, advection: str = "central"):
        self.grid, self.flow, self.order = grid, flow, order
        self._weights = WEIGHTS[order]
        if min(grid.shape) < max(self._weights):
            raise ConfigError(
                f"host.grid: order {order} needs at least {order} points along each axis, not {grid.shape}"
            )
        self._axes = tuple(range(-grid.num_dims, 0))
        self._components = self._axes[0] - 1
        self._complex = torch.complex64 if grid.dtype == torch.float32 else torch.complex128
        self.advection = StaggeredAdvection(grid, order, advection)
        self._advection_hat: AdvectionHat | None = None
        self._unit_divergence = self._projection_direction()
        self._unit_pressure = -self._unit_divergence.conj().resolve_conj()
        self._linear = self._linear_symbol()
        self._force_hat = self._face_averaged_force()
        self._damping = self._decay = self._drive = None
        if isinstance(flow.forcing, ConstantPowerForcing):
            self._drive = LargeScaleDrive(flow.forcing, grid.k, grid)

    def with_damping(self, rates: Tensor) -> "FiniteVolumeSolver":
        """The same solver, its linear term less `rates`, shape of the grid's half-spectrum, real [1/s].

        `step` integrates this damping exactly, so that it does not bound the time step, as viscosity does.
        """
        damped = copy.copy(self)
        rates = rates.to(self._linear)
        damped._damping = rates if self._damping is None else self._damping + rates
        damped._decay = Decay(-damped._damping, self._complex)
        return damped

    def with_advection_hat(self, advection_hat: AdvectionHat) -> "FiniteVolumeSolver":
        """The same solver with another -div(u u), not yet projected, from the state at every stage."""
        replaced = copy.copy(self)
        replaced._advection_hat = advection_hat
        return replaced

    # --- symbols in Fourier space --------------------------------------------------------------------------------

    def _difference_symbol(self, axis: int) -> Tensor:
        """Symbol of the discrete derivative from faces to centres along one axis, complex, broadcastable."""
        k, h = self.grid.k[axis], self.grid.spacing[axis]
        symbol = sum(w * 2j / (n * h) * torch.sin(n * k * h / 2) for n, w in self._weights.items())
        return symbol * torch.exp(-0.5j * k * h)

    def _projection_direction(self) -> Tensor:
        """Unit vector field d with div = |d| d . u, so that P u = u - conj(d) (d . u); shape (d, half-spectrum)."""
        symbols = [self._difference_symbol(axis).expand(self.grid.k2.shape) for axis in range(self.grid.num_dims)]
        norm = torch.sqrt(sum(symbol.abs() ** 2 for symbol in symbols))
        norm = torch.where(norm > 0, norm, 1.0)
        return torch.stack([symbol / norm for symbol in symbols]).to(self._complex)

    def _linear_symbol(self) -> Tensor:
        """Viscosity and drag, real and negative, stored complex; shape of the half-spectrum [1/s]."""
        centre, *others = LAPLACIAN[self.order]
        symbol = 0.0
        for k, h in zip(self.grid.k, self.grid.spacing, strict=True):
            symbol = symbol + centre / h**2
            for distance, weight in enumerate(others, start=1):
                symbol = symbol + 2 * weight * torch.cos(distance * k * h) / h**2
        return (self.flow.viscosity * symbol - self.flow.drag).to(self._complex)

    def _face_averaged_force(self) -> Tensor | None:
        """Body force averaged over the faces of the cells, as coefficients on the staggered points, projected."""
        force_hat = body_force_hat(self.flow.forcing, self.grid)
        if force_hat is None:
            return None
        transfers = [self._face_average(component) for component in range(self.grid.num_dims)]
        return self._project_hat(force_hat * torch.stack(transfers).to(self._complex))

    def _face_average(self, component: int) -> Tensor:
        """Transfer function from point values to averages over the faces across an axis, at their staggered places."""
        offset = velocity_offset("staggered", component, self.grid.num_dims)
        transfer = 1.0
        for axis, (k, h, shift) in enumerate(zip(self.grid.k, self.grid.spacing, offset, strict=True)):
            along = torch.exp(1j * shift * k * h)
            transfer = transfer * (along if axis == component else along * torch.sinc(k * h / (2 * math.pi)))
        return transfer

    def _project_hat(self, vector_hat: Tensor) -> Tensor:
        first, *others = (self._unit_divergence * vector_hat).split(1, dim=self._components)
        divergence = sum(others, start=first)
        return torch.addcmul(vector_hat, self._unit_pressure, divergence)

    # --- right-hand side and step ------------------------------------------------------------------------------------

    def encode(self, velocity: Tensor) -> Tensor:
        """State of the solver: half-spectra of the velocity, (..., d, nx, ..., n_last // 2 + 1)."""
        return torch.fft.rfftn(velocity, dim=self._axes)

    def decode(self, velocity_hat: Tensor) -> Tensor:
        """Velocity on the staggered points, (..., d, nx, ny[, nz]) [m/s]."""
        # One axis at a time: torch's irfftn copies its input first.
        for axis in self._axes[-2::-1]:
            velocity_hat = torch.fft.ifft(velocity_hat, dim=axis)
        return torch.fft.irfft(velocity_hat, n=self.grid.shape[-1], dim=-1)

    def project(self, vector: Tensor) -> Tensor:
        """Discretely divergence-free part of a staggered vector field; keeps the mean."""
        return self.decode(self._project_hat(self.encode(vector)))

    def rhs(
        self, velocity_hat: Tensor, stage: int = 0, closure: Closure | None = None, held: Tensor | None = None
    ) -> Tensor:
        """d velocity_hat / dt with pressure; closure and the acceleration `held` live at the staggered points."""
        rate = self._undamped_rhs(velocity_hat, stage, closure, held)
        return rate if self._damping is None else torch.addcmul(rate, self._damping, velocity_hat, value=-1)

    def _undamped_rhs(self, velocity_hat: Tensor, stage: int, closure: Closure | None, held: Tensor | None) -> Tensor:
        acceleration_hat = self._acceleration_hat(velocity_hat, stage, closure, held)
        rate = self._project_hat(acceleration_hat).addcmul_(self._linear, velocity_hat)
        if self._drive is not None:
            return self._drive.add_to(rate, velocity_hat)
        return rate if self._force_hat is None else rate.add_(self._force_hat)

    def _acceleration_hat(
        self, velocity_hat: Tensor, stage: int, closure: Closure | None, held: Tensor | None
    ) -> Tensor:
        """Advection, closure and `held`, not yet projected."""
        if self._advection_hat is None:
            velocity = self.decode(velocity_hat)
            acceleration = self.advection(velocity)
            if closure is not None:
                acceleration = acceleration + closure(velocity)
            return self.encode(acceleration if held is None else acceleration + held)
        acceleration_hat = self._advection_hat(velocity_hat, self.grid.shape[-1], stage)
        if closure is not None:
            acceleration_hat = acceleration_hat + self.encode(closure(self.decode(velocity_hat)))
        return acceleration_hat if held is None else acceleration_hat + self.encode(held)

    def step(self, velocity_hat: Tensor, dt: float, closure: Closure | None = None, hold: bool = False) -> Tensor:
        """One classical fourth-order Runge-Kutta step of dt [s]; a damping is integrated exactly.

        The closure is called at each of the four stages, or with `hold` once, before them.
        """
        held = None
        if hold and closure is not None:
            held, closure = closure(self.decode(velocity_hat)), None

        def rhs(y: Tensor, stage: int) -> Tensor:
            return self._undamped_rhs(y, stage, closure, held)

        if self._damping is None:
            return runge_kutta_4(rhs, velocity_hat, dt)
        return integrating_factor_rk4(rhs, self._decay.over(dt / 2), velocity_hat, dt)
