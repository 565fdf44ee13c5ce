"""Gradient (Clark) model: Taylor series of the filter in its width; bare, without backscatter, or with Smagorinsky's.

Legend: sigma^2 = Delta^2 / 12, second moment of a box of width Delta and of the Gaussian that stands for it.
For that Gaussian the SGS stress in terms of the filtered velocity is the series
tau_ij = sigma^2 d_k u_i d_k u_j + (sigma^4 / 2) d_k d_l u_i d_k d_l u_j + ...
(Leonard 1974, doi:10.1016/S0065-2687(08)60464-1; Carati et al. 2001, doi:10.1017/S0022112001004773).
The box shares the first term alone.
"""

import torch
from torch import Tensor

from hpcsurrogate.physics.closures.eddy_viscosity import (
    DIAGONAL,
    SHEAR,
    strain_magnitude,
    strain_rates,
    viscous_stress,
)
from hpcsurrogate.physics.closures.stress_closure import StressClosure, VelocityGradient
from hpcsurrogate.physics.differences import symmetric_index, total
from hpcsurrogate.physics.stress_operators import StressOperators


class Gradient(StressClosure):
    """The series cut after its first (order 2) or second (order 4) term.

    Parameters
    ----------
    operators : StressOperators
    delta : float [m]
    order : int    2 or 4
    regularised : bool    without what gives energy back, cell by cell (`without_backscatter`)

    Notes
    -----
    The error against a Gaussian filter is of order Delta^4 or Delta^6 (tests/physics/test_closures.py,
    tests/physics/test_closures_3d.py). In two dimensions the first term neither takes nor gives energy in any cell.
    """

    def __init__(self, operators: StressOperators, delta: float, order: int, regularised: bool = False) -> None:
        super().__init__(operators, delta)
        self.order = order
        self.regularised = regularised

    def stress(self, velocity: Tensor) -> tuple[Tensor, ...]:
        """Return tau; shapes and places as in `StressClosure.stress`."""
        gradient = self.operators.velocity_gradient(velocity)
        stress = first_term(self.operators, gradient, self.delta**2 / 12)
        if self.order == 4:
            second = second_term(self.operators, velocity, gradient, self.delta**4 / 288)
            stress = tuple(first + part for first, part in zip(stress, second, strict=True))
        return without_backscatter(self.operators, gradient, stress) if self.regularised else stress


class Mixed(StressClosure):
    """The gradient model of second order plus Smagorinsky's (Vreman et al. 1996, doi:10.1007/BF00639698).

    Parameters
    ----------
    operators : StressOperators
    delta : float [m]
    constant : float [-]    C of Smagorinsky's part, non-negative

    Notes
    -----
    The force is `fixed_part` plus a part that is linear in C^2: what a fit of C has to take off first
    (tests/physics/test_closures_3d.py).
    """

    constant_power = 2

    def __init__(self, operators: StressOperators, delta: float, constant: float) -> None:
        super().__init__(operators, delta)
        self.constant = constant

    @property
    def fixed_part(self) -> Gradient:
        """The part of this closure that does not depend on the constant."""
        return Gradient(self.operators, self.delta, 2)

    def stress(self, velocity: Tensor) -> tuple[Tensor, ...]:
        """Return tau; shapes and places as in `StressClosure.stress`."""
        gradient = self.operators.velocity_gradient(velocity)
        strain = strain_rates(gradient, self.operators.num_dims)
        nu_t = (self.constant * self.delta) ** 2 * strain_magnitude(self.operators, strain)
        gradient_part = first_term(self.operators, gradient, self.delta**2 / 12)
        viscous_part = viscous_stress(self.operators, strain, nu_t)
        return tuple(a + b for a, b in zip(gradient_part, viscous_part, strict=True))


def first_term(operators: StressOperators, gradient: VelocityGradient, factor: float) -> tuple[Tensor, ...]:
    """Return factor d_k u_i d_k u_j; shapes and places as in `StressClosure.stress`."""
    num_dims, stress = operators.num_dims, []
    for row in range(num_dims):
        diagonal = gradient[row * num_dims + row]
        others = [(gradient[row * num_dims + axis], axis) for axis in range(num_dims) if axis != row]
        square = total([operators.to_centre(part * part, row, axis) for part, axis in others])
        stress.append(factor * torch.addcmul(square, diagonal, diagonal))
        stress += [factor * _product_on_edge(operators, gradient, row, column) for column in range(row + 1, num_dims)]
    return tuple(stress)


def _product_on_edge(operators: StressOperators, gradient: VelocityGradient, row: int, column: int) -> Tensor:
    """Return d_k u_i d_k u_j on the edge (i, j)."""
    num_dims = operators.num_dims
    row_slope, column_slope = (
        operators.to_edge(gradient[axis * num_dims + axis], row, column) for axis in (row, column)
    )
    product = row_slope * gradient[column * num_dims + row]
    product = torch.addcmul(product, gradient[row * num_dims + column], column_slope)
    if num_dims == 3:
        # These two stand on other edges; all three meet at the vertex.
        axis = 3 - row - column
        first = operators.to_vertex(gradient[row * 3 + axis], row, axis)
        second = operators.to_vertex(gradient[column * 3 + axis], column, axis)
        product = product + operators.vertex_to_edge(first * second, row, column)
    return product


def second_term(
    operators: StressOperators, velocity: Tensor, gradient: VelocityGradient, factor: float
) -> tuple[Tensor, ...]:
    """Return factor d_k d_l u_i d_k d_l u_j; shapes and places as in `StressClosure.stress`."""
    num_dims, stress = operators.num_dims, []
    curvatures = operators.second_derivatives(velocity, gradient)
    diagonal = {symmetric_index(axis, axis, num_dims) for axis in range(num_dims)}
    for row in range(num_dims):
        for column in range(row, num_dims):
            products = [a * b for a, b in zip(curvatures[row], curvatures[column], strict=True)]
            terms = [part if place in diagonal else 2 * part for place, part in enumerate(products)]
            part = factor * total(terms)
            stress.append(part if row == column else operators.to_edge(part, row, column))
    return tuple(stress)


def without_backscatter(
    operators: StressOperators, gradient: VelocityGradient, stress: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Return the nearest stress that gives no energy back: tau - max(tau:S, 0) S / (S:S), cell by cell.

    Parameters
    ----------
    operators : StressOperators
    gradient : tuple of Tensors [1/s]           as the operators return it
    stress : tuple of Tensors [m^2/s^2]         shapes and places as in `StressClosure.stress`

    Returns
    -------
    tuple of Tensors [m^2/s^2]    the same places

    Notes
    -----
    Prakash et al. 2022 (arXiv:2201.09122): of all stresses without backscatter it is the closest to tau. tau:S and
    S:S of a cell count the means of the four edges around it, and the part that is taken out is an eddy viscosity at
    centres, so that in the discrete sense, too, what is left never adds energy: sum u.a = sum min(tau:S, 0)
    (tests/physics/test_closures_3d.py).
    """
    strain = strain_rates(gradient, operators.num_dims)
    works = [stress[place] * strain[place] for place in DIAGONAL[operators.num_dims]]
    squares = [strain[place] * strain[place] for place in DIAGONAL[operators.num_dims]]
    for place, row, column in SHEAR[operators.num_dims]:
        works.append(operators.to_centre(stress[place] * strain[place], row, column))
        squares.append(operators.to_centre(strain[place] * strain[place], row, column) / 2)
    # Where there is no strain there is no work either: 0 over the smallest number.
    square = total(squares)
    nu_t = total(works).clamp_min(0) / (2 * square.clamp_min(torch.finfo(square.dtype).tiny))
    removed = viscous_stress(operators, strain, nu_t)
    return tuple(a + b for a, b in zip(stress, removed, strict=True))
