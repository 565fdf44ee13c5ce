"""Eddy-viscosity closures with a constant: Smagorinsky and Leith.

Legend: S_ij = (du_i/dx_j + du_j/dx_i) / 2 [1/s]; |S| = sqrt(2 S_ij S_ij) [1/s]; omega = dv/dx - du/dy [1/s];
nu_t = eddy viscosity [m^2/s]; Delta = filter width [m]; C = constant [-]; tau_ij = -2 nu_t S_ij.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.closures.stress_closure import StressClosure, VelocityGradient
from hpcsurrogate.physics.differences import total
from hpcsurrogate.physics.stress_operators import StressOperators

# Of the components of a symmetric tensor, by the number of dimensions: places of the diagonal; place, row and column of
# the others.
DIAGONAL = {2: (0, 2), 3: (0, 3, 5)}
SHEAR = {2: ((1, 0, 1),), 3: ((1, 0, 1), (2, 0, 2), (4, 1, 2))}


def root(square: Tensor) -> Tensor:
    """Square root whose derivative at zero is zero instead of infinite, so that a quiet flow has finite gradients."""
    return torch.sqrt(square.clamp_min(torch.finfo(square.dtype).tiny))


def strain_rates(gradient: VelocityGradient, num_dims: int) -> list[Tensor]:
    """Return S_xx, 2 S_xy[, 2 S_xz], S_yy[, 2 S_yz, S_zz] where a stress has them, (batch, nx, ny[, nz]) [1/s]."""
    strain = []
    for row in range(num_dims):
        strain.append(gradient[row * num_dims + row])
        for column in range(row + 1, num_dims):
            strain.append(gradient[row * num_dims + column] + gradient[column * num_dims + row])
    return strain


def strain_magnitude(operators: StressOperators, strain: Sequence[Tensor]) -> Tensor:
    """Return |S| = sqrt(2 S_ij S_ij) at centres, shape (batch, nx, ny[, nz]) [1/s]; strain as of `strain_rates`."""
    num_dims = operators.num_dims
    square = 2 * total([strain[place] * strain[place] for place in DIAGONAL[num_dims]])
    for place, row, column in SHEAR[num_dims]:
        square = square + operators.to_centre(strain[place] ** 2, row, column)
    return root(square)


class EddyViscosity(StressClosure):
    """tau_ij = -2 nu_t S_ij; children implement `eddy_viscosity`.

    Notes
    -----
    nu_t on an edge is the mean of the four centres around it, so a non-negative nu_t never adds energy, in the
    discrete sense as well: sum u.a = -sum 2 nu_t S_ij S_ij (tests/physics/test_closures.py).
    """

    def eddy_viscosity(self, velocity: Tensor, gradient: VelocityGradient, strain: Sequence[Tensor]) -> Tensor:
        """Return nu_t at centres, shape (batch, nx, ny[, nz]) [m^2/s]; strain as of `strain_rates`."""
        raise NotImplementedError

    def stress(self, velocity: Tensor) -> tuple[Tensor, ...]:
        """Return tau; shapes and places as in `StressClosure.stress`."""
        gradient = self.operators.velocity_gradient(velocity)
        strain = strain_rates(gradient, self.operators.num_dims)
        return viscous_stress(self.operators, strain, self.eddy_viscosity(velocity, gradient, strain))


def viscous_stress(operators: StressOperators, strain: Sequence[Tensor], nu_t: Tensor) -> tuple[Tensor, ...]:
    """Return -2 nu_t S_ij, nu_t being given at centres; shapes and places as in `StressClosure.stress`."""
    twice = -2 * nu_t
    stress = list(strain)
    for place in DIAGONAL[operators.num_dims]:
        stress[place] = twice * strain[place]
    for place, row, column in SHEAR[operators.num_dims]:
        stress[place] = -operators.to_edge(nu_t, row, column) * strain[place]
    return tuple(stress)


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

    def eddy_viscosity(self, velocity: Tensor, gradient: VelocityGradient, strain: Sequence[Tensor]) -> Tensor:
        """Return nu_t at centres, shape (batch, nx, ny[, nz]) [m^2/s]."""
        return (self.constant * self.delta) ** 2 * strain_magnitude(self.operators, strain)


class Leith(EddyViscosity):
    """nu_t = (C Delta)^3 |grad omega|, for the enstrophy cascade (Leith 1996, doi:10.1016/0167-2789(96)00107-8).

    Parameters
    ----------
    operators : StressOperators    of two dimensions
    delta : float [m]
    constant : float [-]    C, non-negative; the force is linear in C^3

    Raises
    ------
    ConfigError    in three dimensions, where no enstrophy cascades
    """

    constant_power = 3

    def __init__(self, operators: StressOperators, delta: float, constant: float) -> None:
        if operators.num_dims != 2:
            raise ConfigError("closure leith: it is for the enstrophy cascade of two dimensions; take smagorinsky")
        super().__init__(operators, delta)
        self.constant = constant

    def eddy_viscosity(self, velocity: Tensor, gradient: VelocityGradient, strain: Sequence[Tensor]) -> Tensor:
        """Return nu_t at centres, shape (batch, nx, ny) [m^2/s]."""
        _, uy, vx, _ = gradient
        omega_x, omega_y = self.operators.gradient_of_edge(vx - uy, 0, 1)
        return (self.constant * self.delta) ** 3 * root(omega_x * omega_x + omega_y * omega_y)
