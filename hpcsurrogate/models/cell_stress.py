"""From velocities on a grid to their gradient in each cell, and from a stress in each cell back to a force.

What a network needs that gives the stress of a cell from the gradient there: the host's differences with everything at
cell centres, as functions that TorchScript takes, for both layouts.

Legend: b batch; hx, hy grid spacing [m]; u, v velocity along x (dimension -2) and y (dimension -1).
"""

import torch
from torch import Tensor

from hpcsurrogate.physics.differences import (
    centres_to_corners,
    collocated_divergence,
    collocated_gradient,
    corners_to_centres,
    staggered_divergence,
    staggered_gradient,
)

# Cells from a cell that the force of a stress depends on: one for the gradient, one for the divergence.
REACH = 2


def gradient_in_cells(velocity: Tensor, hx: float, hy: float, staggered: bool) -> Tensor:
    """Velocity gradient at cell centres, of second order.

    Parameters
    ----------
    velocity : Tensor, shape (b, 2, nx, ny) [m/s]    periodic
    hx, hy : float [m]
    staggered : bool    du/dy and dv/dx, which stand at corners, are averaged from the four corners of a cell; on the
                        collocated layout all are central differences

    Returns
    -------
    Tensor, shape (b, 4, nx, ny) [1/s]    du/dx, du/dy, dv/dx, dv/dy

    Notes
    -----
    Staggered it is `StaggeredOperators.velocity_gradient`, averaged to centres (tests/unit/models/test_cell_stress.py).
    """
    if staggered:
        ux, uy, vx, vy = staggered_gradient(velocity, hx, hy)
        return torch.stack((ux, corners_to_centres(uy), corners_to_centres(vx), vy), 1)
    return torch.stack(collocated_gradient(velocity, hx, hy), 1)


def force_of_cells(stress: Tensor, hx: float, hy: float, staggered: bool) -> Tensor:
    """Minus the divergence of a symmetric stress that is given at cell centres.

    Parameters
    ----------
    stress : Tensor, shape (b, 3, nx, ny) [m^2/s^2]    xx, xy, yy
    hx, hy : float [m]
    staggered : bool    xy is averaged to the corners first

    Returns
    -------
    Tensor, shape (b, 2, nx, ny) [m/s^2]    at the velocity's points

    Notes
    -----
    Each component sums to zero to round-off; the work on the velocity is that of the stress on `gradient_in_cells`
    (tests/unit/models/test_cell_stress.py).
    """
    xx, xy, yy = stress.unbind(1)
    if staggered:
        return -staggered_divergence(xx, centres_to_corners(xy), yy, hx, hy)
    return -collocated_divergence(xx, xy, yy, hx, hy)
