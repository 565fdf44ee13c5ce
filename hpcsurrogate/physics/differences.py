"""Second-order differences on periodic grids of two or three dimensions as free functions that TorchScript takes.

The hosts' operators (stress_operators.py) and the exported closures call the same ones, so that a closure exported
into another code sees the gradient that it saw in training.

Legend: d = number of dimensions, axes 0 (x), 1 (y)[, 2 (z)]; spacing = h of each axis [m], its length is d; centre,
edge = where a scalar stands on the staggered layout (docs/architecture.md, Conventions): the edge (row, column) lies
half a cell above the centre along both of these axes, in two dimensions it is the corner; tau_ij = a symmetric stress
[m^2/s^2] as the list xx, xy[, xz], yy[, yz, zz], diagonal at centres, the others on their edges.
"""

import torch
from torch import Tensor


def next_value(field: Tensor, axis: int) -> Tensor:
    """Value of the neighbour at index + 1."""
    return torch.roll(field, -1, axis)


def previous_value(field: Tensor, axis: int) -> Tensor:
    """Value of the neighbour at index - 1."""
    return torch.roll(field, 1, axis)


def symmetric_index(row: int, column: int, num_dims: int) -> int:
    """Place of a component in the list xx, xy[, xz], yy[, yz, zz]; the same for (row, column) and (column, row)."""
    if row > column:
        row, column = column, row
    return row * (2 * num_dims - row - 1) // 2 + column


def edges_to_centres(edge_field: Tensor, row: int, column: int, num_dims: int) -> Tensor:
    """Average the four edges around each centre; shape (..., nx, ny[, nz]) in and out."""
    pairs = edge_field + previous_value(edge_field, row - num_dims)
    return 0.25 * (pairs + previous_value(pairs, column - num_dims))


def centres_to_edges(centre_field: Tensor, row: int, column: int, num_dims: int) -> Tensor:
    """Average the four centres around each edge; shape (..., nx, ny[, nz]) in and out."""
    pairs = centre_field + next_value(centre_field, row - num_dims)
    return 0.25 * (pairs + next_value(pairs, column - num_dims))


def faces_to_centres(vector: Tensor) -> Tensor:
    """Average all components from their faces to the centres; shape (b, d, nx, ny[, nz]) in and out."""
    # No loop over `dim()`: of exported code only loops of a known length can be written out (export/script.py).
    u, v = vector.select(1, 0), vector.select(1, 1)
    centred = [0.5 * (u + previous_value(u, 1)), 0.5 * (v + previous_value(v, 2))]
    if vector.dim() == 5:
        w = vector.select(1, 2)
        centred.append(0.5 * (w + previous_value(w, 3)))
    return torch.stack(centred, 1)


def staggered_gradient(velocity: Tensor, spacing: list[float]) -> list[Tensor]:
    """Velocity gradient where its stencils of two points put it.

    Parameters
    ----------
    velocity : Tensor, shape (..., d, nx, ny[, nz]) [m/s]    at the faces
    spacing : list of float [m]

    Returns
    -------
    list of d * d Tensors, shape (..., nx, ny[, nz]) [1/s]    du_i/dx_j at i * d + j: at centres for i = j, else on
                                                              the edge (i, j)
    """
    num_dims = len(spacing)
    gradient: list[Tensor] = []
    components = velocity.unbind(-1 - num_dims)
    for row in range(num_dims):
        component = components[row]
        for axis in range(num_dims):
            if axis == row:
                gradient.append((component - previous_value(component, axis - num_dims)) / spacing[axis])
            else:
                gradient.append((next_value(component, axis - num_dims) - component) / spacing[axis])
    return gradient


def staggered_divergence(stress: list[Tensor], spacing: list[float]) -> Tensor:
    """Return d(tau_ij)/dx_j at the faces, (..., d, nx, ny[, nz]) [m/s^2]; minus the adjoint of `staggered_gradient`."""
    num_dims = len(spacing)
    force: list[Tensor] = []
    for row in range(num_dims):
        terms: list[Tensor] = []
        for axis in range(num_dims):
            part = stress[symmetric_index(row, axis, num_dims)]
            if axis == row:
                terms.append((next_value(part, axis - num_dims) - part) / spacing[axis])
            else:
                terms.append((part - previous_value(part, axis - num_dims)) / spacing[axis])
        force.append(total(terms))
    return torch.stack(force, -1 - num_dims)


def central_difference(field: Tensor, axis: int, spacing: float) -> Tensor:
    """Return the derivative along an axis of the tensor at the field's own points; same shape in and out."""
    return (next_value(field, axis) - previous_value(field, axis)) / (2 * spacing)


def collocated_gradient(velocity: Tensor, spacing: list[float]) -> list[Tensor]:
    """Return du_i/dx_j at i * d + j, all at the velocity's points, shape (..., nx, ny[, nz]) [1/s] each.

    Notes
    -----
    Local, other than the spectral host's own; second order (tests/physics/test_differences.py).
    """
    num_dims = len(spacing)
    gradient: list[Tensor] = []
    components = velocity.unbind(-1 - num_dims)
    for row in range(num_dims):
        component = components[row]
        for axis in range(num_dims):
            gradient.append(central_difference(component, axis - num_dims, spacing[axis]))
    return gradient


def collocated_divergence(stress: list[Tensor], spacing: list[float]) -> Tensor:
    """Return d(tau_ij)/dx_j, (..., d, nx, ny[, nz]) [m/s^2]; minus the adjoint of `collocated_gradient`."""
    num_dims = len(spacing)
    force: list[Tensor] = []
    for row in range(num_dims):
        terms: list[Tensor] = []
        for axis in range(num_dims):
            part = stress[symmetric_index(row, axis, num_dims)]
            terms.append(central_difference(part, axis - num_dims, spacing[axis]))
        force.append(total(terms))
    return torch.stack(force, -1 - num_dims)


def total(terms: list[Tensor]) -> Tensor:
    """Sum of fields of one shape, from the first to the last."""
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result


def gradient_magnitude(velocity: Tensor, spacing: list[float], staggered: bool) -> Tensor:
    """Return the Frobenius norm of the velocity gradient at cell centres, shape (..., nx, ny[, nz]) [1/s].

    On the staggered layout the squares of the shear are averaged from edges to centres.
    """
    num_dims = len(spacing)
    gradient = staggered_gradient(velocity, spacing) if staggered else collocated_gradient(velocity, spacing)
    squares: list[Tensor] = []
    for row in range(num_dims):
        diagonal = gradient[row * num_dims + row]
        squares.append(diagonal * diagonal)
    for row in range(num_dims):
        for column in range(row + 1, num_dims):
            upper, lower = gradient[row * num_dims + column], gradient[column * num_dims + row]
            shear = upper * upper + lower * lower
            squares.append(edges_to_centres(shear, row, column, num_dims) if staggered else shear)
    return total(squares).sqrt()


def speed(velocity: Tensor, staggered: bool) -> Tensor:
    """Return the speed at cell centres, shape (b, nx, ny[, nz]) [m/s], of a velocity (b, d, nx, ny[, nz]) [m/s]."""
    centred = faces_to_centres(velocity) if staggered else velocity
    return centred.square().sum(1).sqrt()
