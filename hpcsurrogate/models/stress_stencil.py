"""Products of learned stencils of the velocity gradient: the SGS stress of a cell from its neighbourhood.

    P^c_ij = near(G)_ij,  Q^c_ij likewise         (each channel c has weights of its own)
    T^c_ij = P^c_ik Q^c_jk + Q^c_ik P^c_jk        (second degree, symmetric)
    tau_ij = Delta^2 / 24 sum_c near(T^c)_ij      (less its trace)

Legend: G_ij = du_i/dx_j at the centre of a cell [1/s]; near(A)_ij = a weighted sum of A_ij and its second differences
along axis i, along axis j and along the others, and of the same of A_ji (T is symmetric, so that i and j share a weight
there); a component on the diagonal (i = j) has weights of its own. Delta = filter width [m]; d = 2 or 3 dimensions.

The gradient model (Leonard 1974, doi:10.1016/S0065-2687(08)60464-1) is one channel with P = Q = G and no neighbours,
and the network starts there. What the neighbours add is the rest of the filter's Taylor series, what the grid's own
averages and differences do to G, and the mean effect of the scales that the grid does not hold. The weights know axes
by their part in the component alone, so that the symmetries of the grid hold exactly, and no others are imposed: a
face-averaged velocity on a staggered grid has no others.
"""

import torch
from torch import Tensor, nn

from hpcsurrogate.models.cell_stress import REACH, force_of_cells, gradient_in_cells
from hpcsurrogate.models.spectral_cells import spectral_force, spectral_gradient
from hpcsurrogate.physics.differences import next_value, previous_value, symmetric_index, total

FIRST_WEIGHT = 0.3  # deviation of the stencils' weights at first; those of the products start at zero


class StressStencilNet(nn.Module):
    """Velocity in, acceleration out, both physical; on the way the deviatoric SGS stress of the cells.

    Parameters
    ----------
    spacing : tuple of float [m]    of the grid along each axis, all equal, two or three
    staggered : bool                layout of the velocity
    channels : int                  products

    Attributes
    ----------
    filter_width : Tensor [m]    Delta; a buffer that training sets to the width of the data's filter; h at first
    reach : int                  cells away from a cell that its acceleration depends on; not there on the collocated
                                 layout of a spectral host, whose derivatives are exact and see the whole field

    Notes
    -----
    For any weights: equivariant under the symmetries of the grid, homogeneous of degree 2, free of net momentum, zero
    for a uniform flow; untrained it is the gradient model at centres (tests/unit/models/test_stress_stencil.py).
    """

    def __init__(self, spacing: tuple[float, ...], staggered: bool, channels: int):
        super().__init__()
        self.spacing = [float(h) for h in spacing]
        self.num_dims = len(spacing)
        self.staggered = staggered
        if staggered:
            self.reach = REACH + 2  # one for the neighbours of the gradient, one for those of the products
        self.diagonal = nn.Parameter(FIRST_WEIGHT * torch.randn(2 * channels, 3))
        self.others = nn.Parameter(FIRST_WEIGHT * torch.randn(2 * channels, 2 * (len(spacing) + 1)))
        self.of_diagonal = nn.Parameter(torch.zeros(3, channels))
        self.of_others = nn.Parameter(torch.zeros(len(spacing), channels))  # in two dimensions there is no other axis
        # In float64, so that an artifact in float64 works at the width itself and not at what float32 makes of it.
        self.register_buffer("filter_width", torch.tensor(spacing[0], dtype=torch.float64))
        with torch.no_grad():
            for stencils, products in ((self.diagonal, self.of_diagonal), (self.others, self.of_others)):
                for factor in (0, channels):
                    stencils[factor] = 0
                    stencils[factor, 0] = 1
                products[0, 0] = 1

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, d, nx, ny[, nz]) [m/s^2] of a velocity of the same shape [m/s]."""
        stress = self.cell_stress(velocity)
        if self.staggered:
            return force_of_cells(stress, self.spacing, True)
        return spectral_force(stress, self.spacing)

    def cell_stress(self, velocity: Tensor) -> Tensor:
        """Deviatoric stress at centres (b, d(d+1)/2, nx, ny[, nz]) [m^2/s^2] of a velocity (b, d, nx, ny[, nz])."""
        d = self.num_dims
        if self.staggered:
            gradient = gradient_in_cells(velocity, self.spacing, True).unbind(1)
        else:
            gradient = spectral_gradient(velocity, self.spacing).unbind(1)
        first, second = self.factors(gradient)
        stress: list[Tensor] = []
        for row in range(d):
            for column in range(row, d):
                terms: list[Tensor] = []
                for k in range(d):
                    terms.append(first[row * d + k] * second[column * d + k])
                    terms.append(second[row * d + k] * first[column * d + k])
                weights = self.of_diagonal if row == column else self.of_others
                stress.append(gathered(mixed(weights, [total(terms)]), row, column, d))
        trace = total([stress[symmetric_index(k, k, d)] for k in range(d)])
        deviatoric: list[Tensor] = []
        for row in range(d):
            for column in range(row, d):
                part = stress[symmetric_index(row, column, d)]
                deviatoric.append(part - trace / d if row == column else part)
        return (self.filter_width.square() / 24).to(trace.dtype) * torch.stack(deviatoric, 1)

    def factors(self, gradient: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """P and Q, each d * d fields (b, channels, nx, ny[, nz]) [1/s], of the gradient's components, row by row."""
        d = self.num_dims
        first: list[Tensor] = []
        second: list[Tensor] = []
        for row in range(d):
            for column in range(d):
                near = neighbours(gradient[row * d + column], row, column, d)
                if row == column:
                    p, q = mixed(self.diagonal, near).chunk(2, 1)
                else:
                    near = near + neighbours(gradient[column * d + row], row, column, d)
                    p, q = mixed(self.others, near).chunk(2, 1)
                first.append(p)
                second.append(q)
        return first, second


def curvature(field: Tensor, axis: int) -> Tensor:
    """A quarter of the second difference along an axis: of the wave that changes sign from cell to cell, minus it."""
    return 0.25 * (next_value(field, axis) + previous_value(field, axis)) - 0.5 * field


def neighbours(field: Tensor, row: int, column: int, num_dims: int) -> list[Tensor]:
    """What near(A)_ij sums: the field, and its curvature along i, along j (if another axis), and along the others."""
    found = [field, curvature(field, row - num_dims)]
    if column != row:
        found.append(curvature(field, column - num_dims))
    others: list[Tensor] = []
    for axis in range(num_dims):
        if axis != row and axis != column:
            others.append(curvature(field, axis - num_dims))
    if len(others) > 0:
        found.append(total(others))
    return found


def mixed(weights: Tensor, fields: list[Tensor]) -> Tensor:
    """Weighted sums (b, rows of the weights, nx, ny[, nz]); fields either scalars or one with all channels."""
    together = fields[0] if len(fields) == 1 else torch.stack(fields, 1)
    return torch.matmul(weights, together.flatten(2)).unflatten(2, together.shape[2:])


def gathered(fields: Tensor, row: int, column: int, num_dims: int) -> Tensor:
    """What near(T)_ij sums, already weighted: field 0, the curvature of 1 along i and j, that of 2 along the others."""
    parts = fields.unbind(1)
    terms = [parts[0]]
    for axis in range(num_dims):
        part = parts[2] if axis != row and axis != column else parts[1]
        terms.append(curvature(part, axis - num_dims))
    return total(terms)
