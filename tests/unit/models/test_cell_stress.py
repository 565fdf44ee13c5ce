"""Gradient and force at cell centres: the differences of the physics room, in both layouts, exact adjoints."""

import math

import pytest
import torch

from hpcsurrogate.models.cell_stress import REACH, force_of_cells, gradient_in_cells
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.stress_operators import StaggeredOperators

POINTS = (12, 10, 8)
SPACING = (0.2, 0.3, 0.25)
in_2d_and_3d = pytest.mark.parametrize("num_dims", [2, 3])
in_both_layouts = pytest.mark.parametrize("staggered", [True, False])


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def upper(num_dims):
    """Rows and columns of the components xx, xy, ..."""
    return [(row, column) for row in range(num_dims) for column in range(row, num_dims)]


@in_2d_and_3d
def test_staggered_they_are_the_operators_of_the_host(num_dims):
    points, spacing = POINTS[:num_dims], SPACING[:num_dims]
    operators = StaggeredOperators(Grid(points, tuple(n * h for n, h in zip(points, spacing, strict=True))))
    velocity, stress = noise(2, num_dims, *points), noise(2, len(upper(num_dims)), *points, seed=1)
    parts = operators.velocity_gradient(velocity)
    places = [divmod(number, num_dims) for number in range(num_dims**2)]
    expected = [
        part if row == column else operators.to_centre(part, row, column)
        for part, (row, column) in zip(parts, places, strict=True)
    ]
    computed = gradient_in_cells(velocity, list(spacing), True)
    torch.testing.assert_close(computed, torch.stack(expected, 1), rtol=0, atol=1e-13)
    placed = [
        part if row == column else operators.to_edge(part, row, column)
        for part, (row, column) in zip(stress.unbind(1), upper(num_dims), strict=True)
    ]
    computed = force_of_cells(stress, list(spacing), True)
    torch.testing.assert_close(computed, -operators.divergence(placed), rtol=0, atol=1e-13)


def wave(num_points, num_dims):
    """Velocity and stress a_i cos(k x + 1) on the collocated layout, and the derivatives of calculus."""
    lengths = (1.0, 2.0, 3.0)[:num_dims]
    grid = Grid((num_points,) * num_dims, lengths)
    k = [2 * math.pi / length for length in lengths]
    phase = 1 + sum(k_i * x for k_i, x in zip(k, grid.coordinates((0,) * num_dims), strict=True))
    of_velocity, of_stress = (1.0, -2.0, 0.5)[:num_dims], (1.0, -2.0, 0.5, 0.7, 1.5, -1.0)[: len(upper(num_dims))]
    slope = -torch.sin(phase)
    gradient = torch.stack([a * k_j * slope for a in of_velocity for k_j in k])
    force = torch.zeros(num_dims, *grid.shape, dtype=torch.float64)
    for a, (row, column) in zip(of_stress, upper(num_dims), strict=True):
        force[row] -= a * k[column] * slope
        if row != column:
            force[column] -= a * k[row] * slope
    velocity, stress = (torch.stack([a * torch.cos(phase) for a in parts]) for parts in (of_velocity, of_stress))
    return list(grid.spacing), velocity[None], stress[None], gradient[None], force[None]


@in_2d_and_3d
def test_collocated_they_are_second_order(num_dims):
    errors = []
    for num_points in (16, 32):
        spacing, velocity, stress, gradient, force = wave(num_points, num_dims)
        pairs = (
            (gradient_in_cells(velocity, spacing, False), gradient),
            (force_of_cells(stress, spacing, False), force),
        )
        errors.append([(found - expected).abs().max().item() for found, expected in pairs])
    for coarse, fine in zip(*errors, strict=True):
        assert coarse / fine == pytest.approx(4, rel=0.05)


@in_2d_and_3d
@in_both_layouts
def test_work_of_the_force_is_that_of_the_stress(num_dims, staggered):
    points, spacing = POINTS[:num_dims], list(SPACING[:num_dims])
    velocity, stress = noise(1, num_dims, *points), noise(1, len(upper(num_dims)), *points, seed=1)
    gradient = gradient_in_cells(velocity, spacing, staggered)
    force = force_of_cells(stress, spacing, staggered)
    # force = -div(tau), so the sum by parts gives + tau : grad(u).
    expected = 0.0
    for part, (row, column) in zip(stress.unbind(1), upper(num_dims), strict=True):
        expected = expected + (part * gradient[:, row * num_dims + column]).sum()
        if row != column:
            expected = expected + (part * gradient[:, column * num_dims + row]).sum()
    torch.testing.assert_close((velocity * force).sum(), expected, rtol=1e-11, atol=0)
    assert force.flatten(2).sum(2).abs().max() < 1e-12 * force.abs().sum()


@in_2d_and_3d
@in_both_layouts
def test_a_cell_reaches_no_farther_than_it_says(num_dims, staggered):
    spacing, velocity = list(SPACING[:num_dims]), noise(1, num_dims, *POINTS[:num_dims]).requires_grad_()
    gradient = gradient_in_cells(velocity, spacing, staggered)
    components = len(upper(num_dims))
    force = force_of_cells(gradient[:, :components] * gradient[:, -components:], spacing, staggered)
    cell = [6, 5, 4][:num_dims]
    force[(0, slice(None), *cell)].sum().backward()
    touched = velocity.grad.abs().amax((0, 1)).nonzero()
    assert (touched - torch.tensor(cell)).abs().max().item() == REACH
