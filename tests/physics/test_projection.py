"""The projections of the hosts: orthogonal, and free of the divergence that each host means."""

import math

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, SpectralHost
from hpcsurrogate.physics.hosts import make_host

BOX = (2 * math.pi, 3 * math.pi, 4.0)
SHAPE = (12, 10, 8)
ROUND_OFF = 1e-12  # float64, derivatives of fields of order 1
CASES = [(num_dims, order) for num_dims in (2, 3) for order in (2, 4, 6, None)]


def host_of(num_dims, order):
    shape = SHAPE[:num_dims]
    if order is None:
        config = SpectralHost(kind="spectral", grid=shape, dealias="shift", time_step=0.1)
    else:
        config = FiniteVolumeHost(kind="finite_volume", grid=shape, order=order, time_step=0.1)
    return make_host(config, Flow(domain=BOX[:num_dims], viscosity=0.0), torch.float64)


def noise(num_dims):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, num_dims, *SHAPE[:num_dims], dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("num_dims, order", CASES)
def test_it_is_orthogonal_and_takes_away_gradients_alone(num_dims, order):
    host, vector = host_of(num_dims, order), noise(num_dims)
    axes = tuple(range(-num_dims, 0))
    if order is None:  # the spectral solver holds neither a mean nor modes at the Nyquist frequency
        kept = host.grid.resolved & (host.grid.k2 > 0)
        vector = torch.fft.irfftn(torch.fft.rfftn(vector, dim=axes) * kept, s=vector.shape[2:], dim=axes)
    projected = host.project(vector)
    torch.testing.assert_close(host.project(projected), projected, rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(projected.mean(axes), vector.mean(axes), rtol=0, atol=ROUND_OFF)
    # What it takes away has nothing in common with what it leaves, and has no curl: all d - 1 other parts stay.
    assert (projected * (vector - projected)).sum().abs() < 1e-9 * vector.square().sum()
    assert (vector - projected).abs().max() > 0.1
    share = (vector - projected).square().sum() / vector.square().sum()
    assert share.item() == pytest.approx(1 / num_dims, abs=0.1)


@pytest.mark.parametrize("num_dims, order", CASES)
def test_the_divergence_that_the_host_means_vanishes(num_dims, order):
    host = host_of(num_dims, order)
    projected = host.project(noise(num_dims))
    axes = tuple(range(-num_dims, 0))
    if order is None:
        parts = torch.fft.rfftn(projected, dim=axes).unbind(1)
        divergence = sum(k * part for k, part in zip(host.grid.k, parts, strict=True)) / math.prod(SHAPE[:num_dims])
        assert divergence.abs().max() < ROUND_OFF
        return
    weights = {2: {1: 1.0}, 4: {1: 9 / 8, 3: -1 / 8}, 6: {1: 150 / 128, 3: -25 / 128, 5: 3 / 128}}[order]
    divergence = 0.0
    for component, axis, h in zip(projected.unbind(1), axes, host.grid.spacing, strict=True):
        for n, weight in weights.items():
            # From the centre of a cell, its upper face is half a cell ahead and has the cell's own index.
            ahead, behind = component.roll(-(n // 2), axis), component.roll(n // 2 + 1, axis)
            divergence = divergence + weight * (ahead - behind) / (n * h)
    assert divergence.abs().max() < ROUND_OFF
