"""The projection in Fourier space: against the solvers in two dimensions, against differences in three."""

import math

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, SpectralHost
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import HostPoints, make_host, make_host_points
from hpcsurrogate.physics.projection import DivergenceProjection

BOX = (2 * math.pi, 3 * math.pi, 4.0)
SHAPE = (12, 10, 8)
ROUND_OFF = 1e-12  # float64, derivatives of fields of order 1


def noise(shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, len(shape), *shape, dtype=torch.float64, generator=generator)


def config_of(order, shape):
    if order is None:
        return SpectralHost(kind="spectral", grid=shape, dealias="shift", time_step=0.1)
    return FiniteVolumeHost(kind="finite_volume", grid=shape, order=order, time_step=0.1)


@pytest.mark.parametrize("order", [2, 4, 6, None])
def test_in_two_dimensions_it_is_the_projection_of_the_host(order):
    flow, vector = Flow(domain=BOX[:2], viscosity=0.0), noise(SHAPE[:2])
    host = make_host(config_of(order, SHAPE[:2]), flow, torch.float64)
    if order is None:  # the spectral solver holds neither a mean nor modes at the Nyquist frequency
        kept = host.grid.resolved & (host.grid.k2 > 0)
        vector = torch.fft.irfft2(torch.fft.rfft2(vector) * kept, s=SHAPE[:2])
    projected = HostPoints(config_of(order, SHAPE[:2]), host.grid).project(vector)
    torch.testing.assert_close(projected, host.project(vector), rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("order", [2, 4, 6, None])
def test_in_three_dimensions_it_keeps_the_mean_and_what_is_free_of_divergence(order):
    project, vector = DivergenceProjection(Grid(SHAPE, BOX), order), noise(SHAPE)
    projected = project(vector)
    torch.testing.assert_close(project(projected), projected, rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(projected.mean((-3, -2, -1)), vector.mean((-3, -2, -1)), rtol=0, atol=ROUND_OFF)
    # Orthogonal: what it takes away has nothing in common with what it leaves.
    assert (projected * (vector - projected)).sum().abs() < 1e-9 * vector.square().sum()
    assert (vector - projected).abs().max() > 0.1


@pytest.mark.parametrize("order", [2, 4, 6])
def test_in_three_dimensions_the_divergence_by_differences_vanishes(order):
    grid = Grid(SHAPE, BOX)
    weights = {2: {1: 1.0}, 4: {1: 9 / 8, 3: -1 / 8}, 6: {1: 150 / 128, 3: -25 / 128, 5: 3 / 128}}[order]
    projected = DivergenceProjection(grid, order)(noise(SHAPE))
    divergence = 0.0
    for component, axis, h in zip(projected.unbind(1), (-3, -2, -1), grid.spacing, strict=True):
        for n, weight in weights.items():
            # From the centre of a cell, its upper face is half a cell ahead and has the cell's own index.
            ahead, behind = component.roll(-(n // 2), axis), component.roll(n // 2 + 1, axis)
            divergence = divergence + weight * (ahead - behind) / (n * h)
    assert divergence.abs().max() < ROUND_OFF


def test_three_dimensional_hosts_have_points_but_no_solver():
    flow = Flow(domain=BOX, viscosity=0.1)
    with pytest.raises(
        ConfigError, match=r"host.grid: \(12, 10, 8\) has 3 axes, but the host solvers are two-dimensional"
    ):
        make_host(config_of(2, SHAPE), flow)
    assert make_host_points(config_of(2, SHAPE), flow).layout == "staggered"
    assert make_host_points(config_of(None, SHAPE), flow).layout == "collocated"
    in_2d = make_host_points(config_of(2, SHAPE[:2]), Flow(viscosity=0.1))
    assert not isinstance(in_2d, HostPoints)
