"""Derivatives of both layouts: exactness or order, conservation of momentum, energy identity, places of the points."""

import math

import pytest
import torch

from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.stress_operators import SpectralOperators, StaggeredOperators

LENGTHS = (2 * math.pi, 4 * math.pi)  # unequal spacings, so that no axis can be mixed up with the other
U_POINT, V_POINT, CENTRE, CORNER, NODE = (1, 0.5), (0.5, 1), (0.5, 0.5), (1, 1), (0, 0)
ROUND_OFF = 1e-12  # float64, sums of 1e3 terms of order 10


def f(x, y):
    """A smooth periodic function with both parities; f_x and f_y are its derivatives."""
    return torch.sin(2 * x) * torch.cos(y) + torch.cos(x + 1.5 * y)


def f_x(x, y):
    return 2 * torch.cos(2 * x) * torch.cos(y) - torch.sin(x + 1.5 * y)


def f_y(x, y):
    return -torch.sin(2 * x) * torch.sin(y) - 1.5 * torch.sin(x + 1.5 * y)


def g(x, y):
    return torch.cos(x) * torch.sin(1.5 * y + 0.3)


def g_x(x, y):
    return -torch.sin(x) * torch.sin(1.5 * y + 0.3)


def g_y(x, y):
    return 1.5 * torch.cos(x) * torch.cos(1.5 * y + 0.3)


def results_and_truth(grid, operators, staggered):
    """Every derivative and average of the interface beside its exact value at the place where it must stand."""
    u_at, v_at, centre, corner = (
        grid.coordinates(place if staggered else NODE) for place in (U_POINT, V_POINT, CENTRE, CORNER)
    )
    velocity = torch.stack((f(*u_at), g(*v_at)))[None]
    ux, uy, vx, vy = operators.velocity_gradient(velocity)
    force = operators.divergence((f(*centre), g(*corner), f(*centre) * g(*centre)))
    fg_y = f_y(*v_at) * g(*v_at) + f(*v_at) * g_y(*v_at)
    at_centre = operators.vector_to_centre(velocity)
    centre_x, centre_y = operators.gradient_of_centre(f(*centre))
    corner_x, corner_y = operators.gradient_of_edge(f(*corner), 0, 1)
    return {
        "ux": (ux, f_x(*centre)),
        "uy": (uy, f_y(*corner)),
        "vx": (vx, g_x(*corner)),
        "vy": (vy, g_y(*centre)),
        "to_edge": (operators.to_edge(f(*centre), 0, 1), f(*corner)),
        "to_centre": (operators.to_centre(f(*corner), 0, 1), f(*centre)),
        "u_to_centre": (at_centre[:, 0], f(*centre)),
        "v_to_centre": (at_centre[:, 1], g(*centre)),
        "centre_x": (centre_x, f_x(*centre)),
        "centre_y": (centre_y, f_y(*centre)),
        "corner_x": (corner_x, f_x(*centre)),
        "corner_y": (corner_y, f_y(*centre)),
        "force_x": (force[..., 0, :, :], f_x(*u_at) + g_y(*u_at)),
        "force_y": (force[..., 1, :, :], g_x(*v_at) + fg_y),
    }


def largest_errors(grid, operators, staggered):
    pairs = results_and_truth(grid, operators, staggered)
    return {name: (result - truth).abs().max().item() for name, (result, truth) in pairs.items()}


def test_staggered_operators_are_second_order():
    # Half the spacing must divide the error by 4; the next term, of relative size (k h)^2 / 12, is 1 % here.
    coarse, fine = (Grid((n, n), LENGTHS) for n in (64, 128))
    errors = largest_errors(coarse, StaggeredOperators(coarse), True)
    halved = largest_errors(fine, StaggeredOperators(fine), True)
    for name, error in errors.items():
        assert error / halved[name] == pytest.approx(4, rel=0.05), name


def test_spectral_operators_are_exact():
    # f g has wavenumber 4 at most along each axis, well below the Nyquist mode of 16 points: only round-off is left.
    grid = Grid((16, 24), LENGTHS)
    for name, error in largest_errors(grid, SpectralOperators(grid), False).items():
        assert error < ROUND_OFF, name


def test_spectral_derivative_of_the_nyquist_mode_is_zero():
    grid = Grid((8, 8), LENGTHS)
    index = torch.arange(8)
    velocity = torch.stack(((-1.0) ** index[:, None] + 0 * index, (-1.0) ** index + 0 * index[:, None])).double()
    for part in SpectralOperators(grid).velocity_gradient(velocity[None]):
        assert part.abs().max() < ROUND_OFF


@pytest.mark.parametrize("make", [StaggeredOperators, SpectralOperators])
def test_divergence_conserves_momentum_and_is_minus_the_adjoint_of_the_gradient(make):
    # Holds for any fields, white noise included: it is a property of the stencils, not of smoothness.
    grid = Grid((12, 16), LENGTHS)
    operators = make(grid)
    generator = torch.Generator().manual_seed(0)
    velocity = torch.randn(3, 2, *grid.shape, dtype=torch.float64, generator=generator)
    xx, xy, yy = torch.randn(3, 3, *grid.shape, dtype=torch.float64, generator=generator)
    force = operators.divergence((xx, xy, yy))
    assert force.sum((-2, -1)).abs().max() < ROUND_OFF
    ux, uy, vx, vy = operators.velocity_gradient(velocity)
    work = (velocity * force).sum((-3, -2, -1))
    stress_power = (xx * ux + xy * (uy + vx) + yy * vy).sum((-2, -1))
    torch.testing.assert_close(work, -stress_power, rtol=0, atol=1e-10)  # both are of order 1e2


@pytest.mark.parametrize("make", [StaggeredOperators, SpectralOperators])
def test_methods_are_differentiable(make):
    grid = Grid((4, 6), LENGTHS)
    operators = make(grid)
    velocity = torch.randn(1, 2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def quadratic(velocity):
        ux, uy, vx, vy = operators.velocity_gradient(velocity)
        return operators.divergence((ux * ux, operators.to_edge(ux, 0, 1) * vx, operators.to_centre(uy, 0, 1) * vy))

    assert torch.autograd.gradcheck(quadratic, velocity.requires_grad_())
