"""Eddy-viscosity closures with a constant: Smagorinsky and Leith.

Legend: S_ij = (du_i/dx_j + du_j/dx_i) / 2 [1/s]; |S| = sqrt(2 S_ij S_ij) [1/s]; omega = dv/dx - du/dy [1/s];
nu_t = eddy viscosity [m^2/s]; Delta = filter width [m]; C = constant [-]; tau_ij = -2 nu_t S_ij.
"""

import torch
from torch import Tensor

from hpcsurrogate.physics.closures.stress_closure import StressClosure
from hpcsurrogate.physics.stress_operators import StressOperators

VelocityGradient = tuple[Tensor, Tensor, Tensor, Tensor]


def root(square: Tensor) -> Tensor:
    """Square root whose derivative at zero is zero instead of infinite, so that a quiet flow has finite gradients."""
    return torch.sqrt(square.clamp_min(torch.finfo(square.dtype).tiny))


def strain_magnitude(operators: StressOperators, gradient: VelocityGradient) -> Tensor:
    """Return |S| = sqrt(2 S_ij S_ij) at centres, shape (batch, nx, ny) [1/s]."""
    ux, uy, vx, vy = gradient
    return root(2 * (ux * ux + vy * vy) + operators.to_centre((uy + vx) ** 2))


class EddyViscosity(StressClosure):
    """tau_ij = -2 nu_t S_ij; children implement `eddy_viscosity`.

    Notes
    -----
    nu_t at corners is the mean of the four centres around it, so a non-negative nu_t never adds energy, in the
    discrete sense as well: sum u.a = -sum 2 nu_t S_ij S_ij (tests/physics/test_closures.py).
    """

    def eddy_viscosity(self, velocity_bcxy: Tensor, gradient: VelocityGradient) -> Tensor:
        """Return nu_t at centres, shape (batch, nx, ny) [m^2/s], given the velocity and its gradient."""
        raise NotImplementedError

    def stress(self, velocity_bcxy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tau_xx, tau_xy, tau_yy; shapes and places as in `StressClosure.stress`."""
        gradient = self.operators.velocity_gradient(velocity_bcxy)
        ux, uy, vx, vy = gradient
        nu_t = self.eddy_viscosity(velocity_bcxy, gradient)
        return -2 * nu_t * ux, -self.operators.to_corner(nu_t) * (uy + vx), -2 * nu_t * vy


class Smagorinsky(EddyViscosity):
    """nu_t = (C Delta)^2 |S| (Smagorinsky 1963, doi:10.1175/1520-0493(1963)091<0099:GCEWTP>2.3.CO;2).

    Parameters
    ----------
    operators : StressOperators
    delta : float [m]
    constant : float [-]    C, non-negative; the force is linear in C^2
    """

    constant_power = 2

    def __init__(self, operators: StressOperators, delta: float, constant: float) -> None:
        super().__init__(operators, delta)
        self.constant = constant

    def eddy_viscosity(self, velocity_bcxy: Tensor, gradient: VelocityGradient) -> Tensor:
        """Return nu_t at centres, shape (batch, nx, ny) [m^2/s]."""
        return (self.constant * self.delta) ** 2 * strain_magnitude(self.operators, gradient)


class Leith(EddyViscosity):
    """nu_t = (C Delta)^3 |grad omega|, for the enstrophy cascade (Leith 1996, doi:10.1016/0167-2789(96)00107-8).

    Parameters
    ----------
    operators : StressOperators
    delta : float [m]
    constant : float [-]    C, non-negative; the force is linear in C^3
    """

    constant_power = 3

    def __init__(self, operators: StressOperators, delta: float, constant: float) -> None:
        super().__init__(operators, delta)
        self.constant = constant

    def eddy_viscosity(self, velocity_bcxy: Tensor, gradient: VelocityGradient) -> Tensor:
        """Return nu_t at centres, shape (batch, nx, ny) [m^2/s]."""
        _, uy, vx, _ = gradient
        omega_x, omega_y = self.operators.gradient_of_corner(vx - uy)
        return (self.constant * self.delta) ** 3 * root(omega_x * omega_x + omega_y * omega_y)
