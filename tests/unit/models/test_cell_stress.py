"""Gradient and force at cell centres: the differences of the physics room, in both layouts, exact adjoints."""

import pytest
import torch

from hpcsurrogate.models.cell_stress import REACH, force_of_cells, gradient_in_cells
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.stress_operators import StaggeredOperators

NX, NY = 12, 10
HX, HY = 0.2, 0.3


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_staggered_they_are_the_operators_of_the_host():
    operators = StaggeredOperators(Grid((NX, NY), (NX * HX, NY * HY)))
    velocity, stress = noise(2, 2, NX, NY), noise(2, 3, NX, NY, seed=1)
    ux, uy, vx, vy = operators.velocity_gradient(velocity)
    expected = torch.stack((ux, operators.to_centre(uy), operators.to_centre(vx), vy), 1)
    torch.testing.assert_close(gradient_in_cells(velocity, HX, HY, True), expected, rtol=0, atol=1e-13)
    xx, xy, yy = stress.unbind(1)
    expected = -operators.divergence(xx, operators.to_corner(xy), yy)
    torch.testing.assert_close(force_of_cells(stress, HX, HY, True), expected, rtol=0, atol=1e-13)


def waves(num_points):
    """Velocity and stress of one wave on the collocated layout, and what the derivatives should be."""
    grid = Grid((num_points, num_points), (1.0, 2.0))
    phase_x, phase_y = (torch.pi * factor * x for factor, x in zip((2, 1), grid.coordinates((0, 0)), strict=True))
    s, c = torch.sin(phase_x + 0.3) * torch.cos(phase_y), torch.cos(phase_x + 0.3) * torch.cos(phase_y)
    along_y = -torch.sin(phase_x + 0.3) * torch.sin(phase_y) * torch.pi
    velocity, gradient = torch.stack((s, -2 * s)), torch.stack((2 * torch.pi * c, along_y)).repeat(2, 1, 1)
    gradient[2:] *= -2
    force = torch.stack((-(gradient[0] + gradient[3]), -(gradient[2] + 0.5 * gradient[1])))
    return grid, velocity[None], torch.stack((s, -2 * s, 0.5 * s))[None], gradient[None], force[None]


def test_collocated_they_are_second_order():
    errors = []
    for num_points in (32, 64):
        grid, velocity, stress, gradient, force = waves(num_points)
        pairs = (
            (gradient_in_cells(velocity, *grid.spacing, False), gradient),
            (force_of_cells(stress, *grid.spacing, False), force),
        )
        errors.append([(found - expected).abs().max().item() for found, expected in pairs])
    for coarse, fine in zip(*errors, strict=True):
        assert coarse / fine == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("staggered", [True, False])
def test_work_of_the_force_is_that_of_the_stress(staggered):
    velocity, stress = noise(1, 2, NX, NY), noise(1, 3, NX, NY, seed=1)
    ux, uy, vx, vy = gradient_in_cells(velocity, HX, HY, staggered).unbind(1)
    xx, xy, yy = stress.unbind(1)
    force = force_of_cells(stress, HX, HY, staggered)
    # force = -div(tau), so the sum by parts gives + tau : grad(u).
    work, expected = (velocity * force).sum(), (xx * ux + xy * (uy + vx) + yy * vy).sum()
    torch.testing.assert_close(work, expected, rtol=1e-12, atol=0)
    assert force.sum((-2, -1)).abs().max() < 1e-12 * force.abs().sum()


@pytest.mark.parametrize("staggered", [True, False])
def test_a_cell_reaches_no_farther_than_it_says(staggered):
    velocity = noise(1, 2, NX, NY).requires_grad_()
    gradient = gradient_in_cells(velocity, HX, HY, staggered)
    force = force_of_cells(gradient[:, :3] * gradient[:, 1:], HX, HY, staggered)
    force[0, :, 6, 5].sum().backward()
    touched = velocity.grad.abs().amax((0, 1)).nonzero()
    distance = (touched - torch.tensor([6, 5])).abs().max().item()
    assert distance == REACH
