"""Derivatives of both layouts in three dimensions: places and order, conservation of momentum, energy identity."""

import itertools
import math

import pytest
import torch

from hpcsurrogate.physics.differences import (
    collocated_divergence,
    collocated_gradient,
    gradient_magnitude,
    speed,
    symmetric_index,
)
from hpcsurrogate.physics.grid import Grid, stress_offset, velocity_offset
from hpcsurrogate.physics.stress_operators import SpectralOperators, StaggeredOperators

LENGTHS = (2 * math.pi, 4 * math.pi, math.pi)  # unequal spacings, so that no axis can be mixed up with another
ROUND_OFF = 1e-12  # float64, sums of 1e3 terms of order 10
AXES = range(3)
PAIRS = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]  # order of a stress
CENTRE, VERTEX = (0.5, 0.5, 0.5), (1, 1, 1)
# One wave for each component of a vector or a stress; wavenumbers that fit in the box.
WAVES = [
    ((1, 0.5, 2), 0.1),
    ((2, -1, 2), 0.7),
    ((-1, 1, 2), 1.3),
    ((1, 1, -2), 2.0),
    ((2, 0.5, 0), 2.9),
    ((0, 1, 4), 4.0),
]


def wave(index, coordinates, *derived):
    """sin(k.x + phase) of wave number `index`, derived along the axes that are named."""
    wavenumber, phase = WAVES[index]
    argument = sum(k * x for k, x in zip(wavenumber, coordinates, strict=True)) + phase + len(derived) * math.pi / 2
    return math.prod(wavenumber[axis] for axis in derived) * torch.sin(argument)


def results_and_truth(grid, operators, layout):
    """Every derivative and average of the interface beside its exact value at the place where it must stand."""

    def at(offset):
        return grid.coordinates(offset if layout == "staggered" else (0, 0, 0))

    faces = [at(velocity_offset(layout, axis, 3)) for axis in AXES]
    places = {pair: at(stress_offset(layout, *pair, 3)) for pair in itertools.product(AXES, AXES)}
    velocity = torch.stack([wave(axis, faces[axis]) for axis in AXES])[None]
    gradient = operators.velocity_gradient(velocity)
    pairs = {f"gradient {i}{j}": (gradient[3 * i + j][0], wave(i, places[i, j], j)) for i in AXES for j in AXES}
    force = operators.divergence([wave(n, places[pair])[None] for n, pair in enumerate(PAIRS)])[0]
    for i in AXES:
        rows = [wave(symmetric_index(i, j, 3), faces[i], j) for j in AXES]
        pairs[f"divergence {i}"] = force[i], sum(rows)
        pairs[f"to_centre {i}"] = operators.vector_to_centre(velocity)[0, i], wave(i, at(CENTRE))
    curvatures = operators.second_derivatives(velocity, gradient)
    for i, (n, (k, m)) in itertools.product(AXES, enumerate(PAIRS)):
        pairs[f"curvature {i}{k}{m}"] = curvatures[i][n][0], wave(i, at(CENTRE), k, m)
    for axis, part in enumerate(operators.gradient_of_centre(wave(3, at(CENTRE)))):
        pairs[f"gradient of centre {axis}"] = part, wave(3, at(CENTRE), axis)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        field = wave(4, places[i, j])
        pairs[f"edge {i}{j}"] = operators.to_edge(wave(4, at(CENTRE)), i, j), field
        pairs[f"centre {i}{j}"] = operators.to_centre(field, i, j), wave(4, at(CENTRE))
        pairs[f"vertex {i}{j}"] = operators.to_vertex(field, i, j), wave(4, at(VERTEX))
        pairs[f"from vertex {i}{j}"] = operators.vertex_to_edge(wave(4, at(VERTEX)), i, j), field
        for axis, part in enumerate(operators.gradient_of_edge(field, i, j)):
            pairs[f"gradient of edge {i}{j}{axis}"] = part, wave(4, at(CENTRE), axis)
    return pairs


def largest_errors(grid, operators, layout):
    pairs = results_and_truth(grid, operators, layout)
    return {name: (result - truth).abs().max().item() for name, (result, truth) in pairs.items()}


def test_staggered_operators_are_second_order():
    # Half the spacing must divide the error by 4; the next term, of relative size (k h)^2 / 12, is 3 % here. A wave
    # along which nothing changes has no error at all.
    coarse, fine = (Grid((n, 2 * n, n), LENGTHS) for n in (20, 40))
    errors = largest_errors(coarse, StaggeredOperators(coarse), "staggered")
    halved = largest_errors(fine, StaggeredOperators(fine), "staggered")
    assert max(errors.values()) > 0.01
    for name, error in errors.items():
        assert error < ROUND_OFF or error / halved[name] == pytest.approx(4, rel=0.1), name


def test_spectral_operators_are_exact():
    grid = Grid((8, 12, 12), LENGTHS)
    for name, error in largest_errors(grid, SpectralOperators(grid), "collocated").items():
        assert error < 10 * ROUND_OFF, name  # second derivatives reach 16


@pytest.mark.parametrize("make", [StaggeredOperators, SpectralOperators])
def test_divergence_conserves_momentum_and_is_minus_the_adjoint_of_the_gradient(make):
    # Holds for any fields, white noise included: it is a property of the stencils, not of smoothness.
    grid = Grid((8, 6, 10), LENGTHS)
    operators = make(grid)
    generator = torch.Generator().manual_seed(0)
    velocity = torch.randn(2, 3, *grid.shape, dtype=torch.float64, generator=generator)
    stress = torch.randn(6, 2, *grid.shape, dtype=torch.float64, generator=generator)
    force = operators.divergence(stress.unbind(0))
    assert force.sum((-3, -2, -1)).abs().max() < ROUND_OFF * force.abs().sum()
    gradient = operators.velocity_gradient(velocity)
    power = sum(stress[symmetric_index(i, j, 3)] * gradient[3 * i + j] for i in AXES for j in AXES)
    work = (velocity * force).sum((1, 2, 3, 4))
    torch.testing.assert_close(work, -power.sum((1, 2, 3)), rtol=1e-11, atol=1e-9)  # sums of 1e3 terms of order 10


@pytest.mark.parametrize("make", [StaggeredOperators, SpectralOperators])
def test_methods_are_differentiable(make):
    grid = Grid((4, 4, 6), LENGTHS)
    operators = make(grid)
    velocity = torch.randn(1, 3, *grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def quadratic(velocity):
        gradient = operators.velocity_gradient(velocity)
        vertex = operators.to_vertex(gradient[1], 0, 1)
        stress = [
            operators.to_centre(gradient[5] ** 2, 1, 2),
            vertex * gradient[3],
            operators.to_edge(gradient[0], 0, 2),
        ]
        stress += [operators.gradient_of_edge(gradient[6], 0, 2)[1], gradient[7], gradient[8] ** 2]
        return operators.divergence(stress)

    assert torch.autograd.gradcheck(quadratic, velocity.requires_grad_(), fast_mode=True)


# --- the free functions that exported closures call ------------------------------------------------------------------

SPACING = [0.1, 0.15, 0.2]


def test_the_collocated_divergence_is_minus_the_adjoint_of_the_collocated_gradient():
    generator = torch.Generator().manual_seed(0)
    velocity = torch.randn(1, 3, 6, 4, 8, dtype=torch.float64, generator=generator)
    stress = list(torch.randn(6, 1, 6, 4, 8, dtype=torch.float64, generator=generator))
    gradient = collocated_gradient(velocity, SPACING)
    power = sum((stress[symmetric_index(i, j, 3)] * gradient[3 * i + j]).sum() for i in AXES for j in AXES)
    work = (velocity * collocated_divergence(stress, SPACING)).sum()
    torch.testing.assert_close(work, -power, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("staggered", [True, False])
def test_speed_and_gradient_of_known_flows(staggered):
    wind = torch.tensor([2.0, -3.0, 6.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, 6, 6, 6)
    assert torch.equal(speed(wind, staggered), torch.full((1, 6, 6, 6), 7.0))
    assert gradient_magnitude(wind, SPACING, staggered).abs().max() == 0
    # u_i = G_ij x_j away from where the grid wraps.
    slopes = torch.tensor([[1.0, 2.0, -2.0], [4.0, 0.5, 3.0], [-1.0, 5.0, -1.5]])
    axes = torch.meshgrid(*(h * torch.arange(6.0) for h in SPACING), indexing="ij")
    linear = torch.einsum("ij,jxyz->ixyz", slopes, torch.stack(axes))[None]
    magnitude = gradient_magnitude(linear, SPACING, staggered)[:, 1:-1, 1:-1, 1:-1]
    torch.testing.assert_close(magnitude, slopes.norm().expand(1, 4, 4, 4), rtol=1e-5, atol=0)
