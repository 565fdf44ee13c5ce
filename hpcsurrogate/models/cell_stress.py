"""From velocities on a grid to their gradient in each cell, and from a stress in each cell back to a force.

What a network needs that gives the stress of a cell from the gradient there: the host's differences with everything at
cell centres, as functions that TorchScript takes, for both layouts.

Legend: b batch; d = 2 or 3 dimensions; spacing = h of each axis [m], its length is d; velocity components as in
docs/architecture.md, du_i/dx_j at i * d + j, a symmetric tensor as xx, xy[, xz], yy[, yz, zz].
"""

import torch
from torch import Tensor

from hpcsurrogate.physics.differences import (
    centres_to_edges,
    collocated_divergence,
    collocated_gradient,
    edges_to_centres,
    staggered_divergence,
    staggered_gradient,
    symmetric_index,
)

# Cells from a cell that the force of a stress depends on: one for the gradient, one for the divergence.
REACH = 2


def gradient_in_cells(velocity: Tensor, spacing: list[float], staggered: bool) -> Tensor:
    """Velocity gradient at cell centres, of second order.

    Parameters
    ----------
    velocity : Tensor, shape (b, d, nx, ny[, nz]) [m/s]    periodic
    spacing : list of float [m]
    staggered : bool    what stands at edges, all but the diagonal, is averaged from the four edges around a centre; on
                        the collocated layout all are central differences

    Returns
    -------
    Tensor, shape (b, d*d, nx, ny[, nz]) [1/s]    du/dx, du/dy, ..., row by row

    Notes
    -----
    Staggered it is `StaggeredOperators.velocity_gradient`, averaged to centres (tests/unit/models/test_cell_stress.py).
    """
    if not staggered:
        return torch.stack(collocated_gradient(velocity, spacing), 1)
    num_dims = len(spacing)
    gradient = staggered_gradient(velocity, spacing)
    centred: list[Tensor] = []
    for row in range(num_dims):
        for column in range(num_dims):
            part = gradient[row * num_dims + column]
            centred.append(part if row == column else edges_to_centres(part, row, column, num_dims))
    return torch.stack(centred, 1)


def force_of_cells(stress: Tensor, spacing: list[float], staggered: bool) -> Tensor:
    """Minus the divergence of a symmetric stress that is given at cell centres.

    Parameters
    ----------
    stress : Tensor, shape (b, d(d+1)/2, nx, ny[, nz]) [m^2/s^2]
    spacing : list of float [m]
    staggered : bool    all but the diagonal is averaged to the edges first

    Returns
    -------
    Tensor, shape (b, d, nx, ny[, nz]) [m/s^2]    at the velocity's points

    Notes
    -----
    Each component sums to zero to round-off; the work on the velocity is that of the stress on `gradient_in_cells`
    (tests/unit/models/test_cell_stress.py).
    """
    parts = stress.unbind(1)
    if not staggered:
        return -collocated_divergence(parts, spacing)
    num_dims = len(spacing)
    placed: list[Tensor] = []
    for row in range(num_dims):
        for column in range(row, num_dims):
            part = parts[symmetric_index(row, column, num_dims)]
            placed.append(part if row == column else centres_to_edges(part, row, column, num_dims))
    return -staggered_divergence(placed, spacing)
