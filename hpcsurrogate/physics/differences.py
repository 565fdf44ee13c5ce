"""Second-order differences on periodic grids as free functions, which TorchScript can express.

The hosts' operators (stress_operators.py) and the exported closures call the same ones, so that a closure exported
into another code sees the gradient that it saw in training. The axes are written -2 for x and -1 for y because
TorchScript knows no global constants.

Legend: u, v = velocity along x and y; centre, corner = where a scalar stands on the staggered layout
(docs/architecture.md, Conventions); hx, hy = grid spacing [m]; tau_ij = a stress [m^2/s^2].
"""

import torch
from torch import Tensor


def next_value(field: Tensor, axis: int) -> Tensor:
    """Value of the neighbour at index + 1."""
    return torch.roll(field, -1, axis)


def previous_value(field: Tensor, axis: int) -> Tensor:
    """Value of the neighbour at index - 1."""
    return torch.roll(field, 1, axis)


def corners_to_centres(corner_field: Tensor) -> Tensor:
    """Average the four corners around each centre; shape (..., nx, ny) in and out."""
    pairs = corner_field + previous_value(corner_field, -2)
    return 0.25 * (pairs + previous_value(pairs, -1))


def centres_to_corners(centre_field: Tensor) -> Tensor:
    """Average the four centres around each corner; shape (..., nx, ny) in and out."""
    pairs = centre_field + next_value(centre_field, -2)
    return 0.25 * (pairs + next_value(pairs, -1))


def faces_to_centres(vector_bcxy: Tensor) -> Tensor:
    """Average both components from their faces to the centres; shape (..., 2, nx, ny) in and out."""
    u, v = vector_bcxy.unbind(-3)
    return torch.stack((0.5 * (u + previous_value(u, -2)), 0.5 * (v + previous_value(v, -1))), -3)


def staggered_gradient(velocity_bcxy: Tensor, hx: float, hy: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return du/dx at centres, du/dy and dv/dx at corners, dv/dy at centres, shape (..., nx, ny) [1/s] each."""
    u, v = velocity_bcxy.unbind(-3)
    return (
        (u - previous_value(u, -2)) / hx,
        (next_value(u, -1) - u) / hy,
        (next_value(v, -2) - v) / hx,
        (v - previous_value(v, -1)) / hy,
    )


def staggered_divergence(tau_xx: Tensor, tau_xy: Tensor, tau_yy: Tensor, hx: float, hy: float) -> Tensor:
    """Return d(tau_ij)/dx_j at faces, (..., 2, nx, ny) [m/s^2]; xx and yy at centres, xy at corners."""
    return torch.stack(
        (
            (next_value(tau_xx, -2) - tau_xx) / hx + (tau_xy - previous_value(tau_xy, -1)) / hy,
            (tau_xy - previous_value(tau_xy, -2)) / hx + (next_value(tau_yy, -1) - tau_yy) / hy,
        ),
        -3,
    )


def central_difference(field: Tensor, axis: int, spacing: float) -> Tensor:
    """Return the derivative along an axis at the field's own points; shape (..., nx, ny) in and out."""
    return (next_value(field, axis) - previous_value(field, axis)) / (2 * spacing)


def collocated_gradient(velocity_bcxy: Tensor, hx: float, hy: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return du/dx, du/dy, dv/dx, dv/dy at the velocity's points, shape (..., nx, ny) [1/s] each.

    Notes
    -----
    Local, other than the spectral host's own; second order (tests/physics/test_differences.py).
    """
    u, v = velocity_bcxy.unbind(-3)
    return (
        central_difference(u, -2, hx),
        central_difference(u, -1, hy),
        central_difference(v, -2, hx),
        central_difference(v, -1, hy),
    )


def collocated_divergence(tau_xx: Tensor, tau_xy: Tensor, tau_yy: Tensor, hx: float, hy: float) -> Tensor:
    """Return d(tau_ij)/dx_j, (..., 2, nx, ny) [m/s^2]; minus the adjoint of `collocated_gradient`."""
    return torch.stack(
        (
            central_difference(tau_xx, -2, hx) + central_difference(tau_xy, -1, hy),
            central_difference(tau_xy, -2, hx) + central_difference(tau_yy, -1, hy),
        ),
        -3,
    )


def gradient_magnitude(velocity_bcxy: Tensor, hx: float, hy: float, staggered: bool) -> Tensor:
    """Return the Frobenius norm of the velocity gradient at cell centres, shape (..., nx, ny) [1/s].

    On the staggered layout the squares of the shear are averaged from corners to centres.
    """
    if staggered:
        ux, uy, vx, vy = staggered_gradient(velocity_bcxy, hx, hy)
        shear = corners_to_centres(uy * uy + vx * vx)
    else:
        ux, uy, vx, vy = collocated_gradient(velocity_bcxy, hx, hy)
        shear = uy * uy + vx * vx
    return (ux * ux + vy * vy + shear).sqrt()


def speed(velocity_bcxy: Tensor, staggered: bool) -> Tensor:
    """Return the speed at cell centres, shape (..., nx, ny) [m/s]."""
    centred = faces_to_centres(velocity_bcxy) if staggered else velocity_bcxy
    return centred.square().sum(-3).sqrt()
