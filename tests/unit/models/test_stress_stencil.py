"""The stencils of the stress keep what physics demands for any weights, and start at the gradient model."""

import itertools

import pytest
import torch

from hpcsurrogate.embed.archive import read_entries
from hpcsurrogate.embed.archive_code import check_code
from hpcsurrogate.evaluate.cells import cell_gradient
from hpcsurrogate.export.script import script_module
from hpcsurrogate.models.stress_stencil import StressStencilNet
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.stress_operators import StaggeredOperators

ROUND_OFF = 1e-12  # float64, relative to the largest value of the output
POINTS = 8
H = 0.3
layouts = pytest.mark.parametrize("staggered", [True, False])
both = pytest.mark.parametrize("num_dims", [2, 3])


def velocity_of(num_dims, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, num_dims, *[POINTS] * num_dims, dtype=torch.float64, generator=generator)


def network_of(num_dims, staggered):
    """Random weights everywhere, so that errors show."""
    torch.manual_seed(0)
    network = StressStencilNet((H,) * num_dims, staggered, channels=3).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
    return network.requires_grad_(False)


def assert_close(computed, expected):
    scale = expected.abs().max().item()
    assert scale > 0.1
    torch.testing.assert_close(computed, expected, rtol=0, atol=ROUND_OFF * scale)


def moved(velocity, axes, signs, staggered):
    """The velocity in a frame whose axis i is the old axis axes[i], times signs[i]; faces go to faces."""
    d = len(axes)
    turned = velocity[:, list(axes)].permute(0, 1, *(2 + a for a in axes))
    parts = []
    for component in range(d):
        part = turned[:, component]
        for axis in range(d):
            if signs[axis] < 0:
                # Points mirror to points (i -> -i), centres of cells to centres (i -> -1 - i), upper faces of
                # cells, at i + 1, to upper faces (i -> -2 - i).
                shift = 1 if not staggered else (-1 if axis == component else 0)
                part = part.flip(1 + axis).roll(shift, 1 + axis)
        parts.append(signs[component] * part)
    return torch.stack(parts, 1)


@layouts
@both
def test_equivariant_under_all_symmetries_of_the_grid(num_dims, staggered):
    """8 of the square, 48 of the cube, exactly."""
    network, velocity = network_of(num_dims, staggered), velocity_of(num_dims)
    force = network(velocity)
    for axes in itertools.permutations(range(num_dims)):
        for signs in itertools.product((1, -1), repeat=num_dims):
            turned = network(moved(velocity, axes, signs, staggered))
            assert_close(turned, moved(force, axes, signs, staggered))


@layouts
@both
def test_conserves_momentum_and_is_zero_in_uniform_flow(num_dims, staggered):
    network, velocity = network_of(num_dims, staggered), velocity_of(num_dims)
    force = network(velocity)
    cells = POINTS**num_dims
    assert force.flatten(2).sum(2).abs().max() < ROUND_OFF * cells * force.abs().max()
    assert_close(network(velocity + 3.0), force)  # seen from a moving frame
    assert network(torch.full_like(velocity, 3.0)).abs().max() < ROUND_OFF


@both
def test_deviatoric_and_of_second_degree_in_velocity_and_width(num_dims):
    network, velocity = network_of(num_dims, True), velocity_of(num_dims)
    stress = network.cell_stress(velocity)
    diagonal = [0, 2] if num_dims == 2 else [0, 3, 5]
    assert stress[:, diagonal].sum(1).abs().max() < ROUND_OFF * stress.abs().max()
    network.filter_width.mul_(2)
    assert_close(network.cell_stress(0.3 * velocity), 0.36 * stress)


@both
def test_reaches_no_farther_than_it_says(num_dims):
    network = network_of(num_dims, True)
    points = 2 * network.reach + 4
    velocity = torch.randn(1, num_dims, *[points] * num_dims, dtype=torch.float64)
    pushed = velocity.clone()
    pushed[(0, 0, *[0] * num_dims)] += 1.0
    changed = (network(pushed) - network(velocity)).abs().amax((0, 1)).nonzero()
    distance = torch.minimum(changed, points - changed).max()
    assert distance == network.reach


@both
def test_untrained_it_is_the_gradient_model_in_cells(num_dims):
    velocity = velocity_of(num_dims)
    network = StressStencilNet((H,) * num_dims, True, channels=4).double().requires_grad_(False)
    grid = Grid((POINTS,) * num_dims, (H * POINTS,) * num_dims)
    gradient = cell_gradient(StaggeredOperators(grid), velocity).unflatten(1, (num_dims, num_dims))
    product = torch.einsum("bik...,bjk...->bij...", gradient, gradient) * H**2 / 12
    trace = torch.einsum("bii...->b...", product)
    for i in range(num_dims):
        product[:, i, i] -= trace / num_dims
    expected = torch.stack([product[:, i, j] for i in range(num_dims) for j in range(i, num_dims)], 1)
    computed = network.cell_stress(velocity)
    # The buffer holds the width in float64; weights of 1 and 0 are exact.
    assert_close(computed, expected)


@both
def test_every_weight_learns_from_the_stress(num_dims):
    network = StressStencilNet((H,) * num_dims, True, channels=2)
    with torch.no_grad():
        network.of_diagonal.add_(0.1)
        network.of_others.add_(0.1)
    network.cell_stress(velocity_of(num_dims).float()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad.abs() > 0).all(), name


@layouts
@both
def test_scripted_it_says_the_same_and_calls_what_a_closure_may(num_dims, staggered):
    network, velocity = network_of(num_dims, staggered), velocity_of(num_dims)
    scripted = script_module(network)
    assert_close(scripted(velocity), network(velocity))
    entries = read_entries(scripted.save_to_buffer(), "network", None)
    code = {name: text for name, text in entries.items() if name.endswith(".py")}
    assert code
    for name, text in code.items():
        check_code(text, name, "network")  # raises on an operator that no host lets in
