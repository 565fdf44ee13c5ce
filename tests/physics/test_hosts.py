"""What both hosts promise alike: batches, precision, gradients, states, projections, closures."""

import math

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, Hyperviscosity, RingForcing, SpectralHost
from hpcsurrogate.core.errors import ShapeError
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.physics.spectra import energy_budget

DOMAIN = (2 * math.pi, 3 * math.pi)
FLOW = Flow(
    domain=DOMAIN, viscosity=0.02, drag=0.1, forcing=RingForcing(kind="ring", wavenumber=2, amplitude=0.8, seed=3)
)
ROUND_OFF = 1e-13  # float64, fields of order 1


def configurations(grid):
    return {
        "finite volume 2": FiniteVolumeHost(kind="finite_volume", grid=grid, order=2, time_step=0.05),
        "finite volume 4": FiniteVolumeHost(kind="finite_volume", grid=grid, order=4, time_step=0.05),
        "finite volume 6": FiniteVolumeHost(kind="finite_volume", grid=grid, order=6, time_step=0.05),
        "spectral": SpectralHost(kind="spectral", grid=grid, time_step=0.05),
        "shifted": SpectralHost(
            kind="spectral", grid=grid, dealias="shift", hyperviscosity=Hyperviscosity(), time_step=0.05
        ),
    }


NAMES = list(configurations((24, 20)))


def host_of(name, flow=FLOW, dtype=torch.float64, grid=(24, 20)):
    return make_host(configurations(grid)[name], flow, dtype)


def damping(velocity):
    """A closure, nonlinear and invariant under translations of the grid."""
    return -0.3 * velocity * velocity.square().sum(1, keepdim=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_the_same_as_one_by_one(name, random_velocity):
    host = host_of(name)
    velocity = host.project(random_velocity(host.grid, batch=3))
    for function in (
        lambda v: host.decode(host.step(host.encode(v), damping)),
        lambda v: host.tendency(v, damping),
        host.project,
        host.vorticity,
    ):
        together, alone = function(velocity), torch.cat([function(one) for one in velocity.split(1)])
        torch.testing.assert_close(together, alone, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("name", NAMES)
def test_float32_agrees_with_float64(name, random_velocity):
    double, single = host_of(name), host_of(name, dtype=torch.float32)
    velocity = double.project(random_velocity(double.grid))
    states = double.encode(velocity), single.encode(velocity.float())
    for _ in range(20):
        states = double.step(states[0], damping), single.step(states[1], damping)
    end = single.decode(states[1])
    assert end.dtype == torch.float32
    # 20 steps of round-off 6e-8 in fields of order 1, over a time in which the flow hardly amplifies it.
    torch.testing.assert_close(end.double(), double.decode(states[0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_with_a_closure_is_differentiable(name):
    grid = (8, 6)
    flow = FLOW.model_copy(update={"forcing": RingForcing(kind="ring", wavenumber=1, amplitude=0.5)})
    host = host_of(name, flow, grid=grid)
    generator = torch.Generator().manual_seed(0)
    velocity = host.project(torch.randn(1, 2, *grid, dtype=torch.float64, generator=generator))
    strength = torch.tensor(0.3, dtype=torch.float64)

    def step(velocity, strength):
        return host.decode(host.step(host.encode(velocity), lambda v: -strength * v * v.abs()))

    assert torch.autograd.gradcheck(step, (velocity.requires_grad_(), strength.requires_grad_()))


@pytest.mark.parametrize("name", NAMES)
def test_states_projection_and_tendency_keep_their_promises(name, random_velocity):
    host = host_of(name)
    noise = torch.randn(2, 2, 24, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    velocity = host.project(noise)
    torch.testing.assert_close(host.project(velocity), velocity, rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(host.decode(host.encode(velocity)), velocity, rtol=0, atol=ROUND_OFF)
    tendency = host.tendency(velocity, damping)
    assert tendency.abs().max() > 1
    torch.testing.assert_close(host.project(tendency), tendency, rtol=0, atol=10 * ROUND_OFF)
    # A closure enters linearly, projected: its gradient part does not matter.
    expected = host.tendency(velocity) + host.project(damping(velocity))
    torch.testing.assert_close(tendency, expected, rtol=0, atol=10 * ROUND_OFF)


@pytest.mark.parametrize("name", NAMES)
def test_vorticity_is_the_curl_of_the_velocity(name, random_velocity):
    host = host_of(name)
    velocity = host.project(random_velocity(host.grid))
    _, uy, vx, _ = host.operators.velocity_gradient(velocity)
    torch.testing.assert_close(host.vorticity(velocity), vx - uy, rtol=0, atol=10 * ROUND_OFF)


@pytest.mark.parametrize("name", ["finite volume 2", "spectral"])
def test_energy_budget_with_a_closure(name, random_velocity):
    host = host_of(name)
    velocity = host.project(random_velocity(host.grid))
    work = (velocity * host.tendency(velocity, damping)).sum(1).mean((-2, -1))
    force = host.tendency(torch.zeros_like(velocity)) + damping(velocity)
    expected = energy_budget(velocity, force, FLOW, host.operators).total
    torch.testing.assert_close(work, expected, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("name", NAMES)
def test_a_closure_is_called_once_at_each_of_the_four_stages(name, random_velocity):
    host = host_of(name)
    shapes = []

    def closure(velocity):
        shapes.append(tuple(velocity.shape))
        return torch.zeros_like(velocity)

    state = host.encode(host.project(random_velocity(host.grid, batch=2)))
    torch.testing.assert_close(host.step(state, closure), host.step(state), rtol=0, atol=1e-11)
    assert shapes == [(2, 2, 24, 20)] * 4


@pytest.mark.parametrize("shape", [(3, 8), (8, 2), (8, 9)])
def test_grids_with_odd_or_too_few_points_are_refused(shape):
    with pytest.raises(ShapeError, match="even number of points of at least 4"):
        Grid(shape, DOMAIN)
