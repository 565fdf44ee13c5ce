"""Closures that treat all directions alike, and one that does not."""

import math

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, SpectralHost
from hpcsurrogate.evaluate.equivariance import equivariance_error, grid_symmetries
from hpcsurrogate.physics.closures import Gradient, NoClosure, Smagorinsky
from hpcsurrogate.physics.hosts import make_host

HOSTS = {
    "staggered": FiniteVolumeHost(kind="finite_volume", grid=(8, 8), time_step=0.1),
    "collocated": SpectralHost(kind="spectral", grid=(8, 8), dealias="shift", time_step=0.1),
    "in three dimensions": SpectralHost(kind="spectral", grid=(8, 8, 8), dealias="shift", time_step=0.1),
}


@pytest.fixture(params=HOSTS.values(), ids=HOSTS)
def host(request):
    grid = request.param.grid
    return make_host(request.param, Flow(viscosity=1e-3, domain=(2 * math.pi,) * len(grid)), torch.float64)


@pytest.fixture
def velocity(host):
    shape = (1, host.grid.num_dims, *host.grid.shape)
    return host.project(torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))


def test_classical_closures_are_equivariant_to_round_off(host, velocity):
    assert equivariance_error(Smagorinsky(host.operators, 0.4, 0.2), host, velocity) < 1e-12
    assert equivariance_error(Gradient(host.operators, 0.4, 2), host, velocity) < 1e-12
    assert equivariance_error(NoClosure(), host, velocity) is None


def test_a_closure_that_damps_one_component_alone_has_a_known_error(host, velocity):
    """C(u) = -u_x e_x is turned into damping of another axis by the permutations that move x, a share of (d - 1) / d of
    all symmetries; the squares are |u_x|^2 + |u_a|^2 over |u_x|^2 for the axis a that x comes from."""
    d = host.grid.num_dims
    only_x = torch.zeros(d, dtype=torch.float64)
    only_x[0] = -1
    error = equivariance_error(lambda u: only_x.view(-1, *[1] * d) * u, host, velocity)
    norms = velocity.square().sum(tuple(range(2, 2 + d)))[0]
    group = math.factorial(d) * 2**d
    mean_square = sum(group / d * (norms[0] + norms[a]) / norms[0] for a in range(1, d)) / (group - 1)
    assert error == pytest.approx(math.sqrt(mean_square), rel=1e-10)


def test_axes_that_differ_are_not_exchanged():
    assert len(grid_symmetries((8, 8), (1.0, 1.0))) == 7
    assert len(grid_symmetries((8, 16), (1.0, 1.0))) == 3
    assert len(grid_symmetries((8, 8, 8), (1.0, 1.0, 1.0))) == 47
    assert len(grid_symmetries((8, 8, 8), (1.0, 1.0, 2.0))) == 15
