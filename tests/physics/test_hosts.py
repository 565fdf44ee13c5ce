"""What all hosts promise alike: batches, precision, gradients, states, projections, closures, damping."""

import math

import pytest
import torch

from hpcsurrogate.core.config import (
    ConstantPowerForcing,
    FiniteVolumeHost,
    Flow,
    Hyperviscosity,
    NoForcing,
    RingForcing,
    SpectralHost,
)
from hpcsurrogate.core.errors import ShapeError
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import fold_closure, make_host
from hpcsurrogate.physics.spectra import energy_budget

DOMAIN = (2 * math.pi, 3 * math.pi)
BOX = (2 * math.pi, 3 * math.pi, 5.0)
FLOW = Flow(
    domain=DOMAIN, viscosity=0.02, drag=0.1, forcing=RingForcing(kind="ring", wavenumber=2, amplitude=0.8, seed=3)
)
ROUND_OFF = 1e-13  # float64, fields of order 1


def configurations(grid):
    finite_volume = {"kind": "finite_volume", "grid": grid, "time_step": 0.05}
    return {
        "finite volume 2": FiniteVolumeHost(order=2, **finite_volume),
        "finite volume 4": FiniteVolumeHost(order=4, **finite_volume),
        "finite volume 6": FiniteVolumeHost(order=6, **finite_volume),
        "spectral": SpectralHost(kind="spectral", grid=grid, time_step=0.05),
        "shifted": SpectralHost(
            kind="spectral", grid=grid, dealias="shift", hyperviscosity=Hyperviscosity(), time_step=0.05
        ),
    }


NAMES = [f"{name}{suffix}" for suffix in ("", " in 3-D") for name in configurations((24, 20))]


def host_of(name, forcing=None, dtype=torch.float64, grid=(24, 20, 16), **changes):
    """The host of a name; those in three dimensions have the domain BOX and all of `grid`."""
    num_dims = 3 if name.endswith("3-D") else 2
    config = configurations(grid[:num_dims])[name.removesuffix(" in 3-D")].model_copy(update=changes)
    flow = FLOW.model_copy(update={"domain": BOX[:num_dims]} | ({"forcing": forcing} if forcing else {}))
    return make_host(config, flow, dtype)


def space(host):
    return tuple(range(-host.grid.num_dims, 0))


def noise_on(host, batch):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, host.grid.num_dims, *host.grid.shape, dtype=torch.float64, generator=generator)


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
def test_a_step_is_differentiable_in_velocity_closure_and_damping(name):
    grid = (8, 6, 6)
    host = host_of(name, RingForcing(kind="ring", wavenumber=1, amplitude=0.5), grid=grid)
    velocity = host.project(noise_on(host, 1))
    strength, rate = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.3, 0.1))

    def step(velocity, strength, rate):
        damped = host.with_damping(rate * host.grid.k2)
        return damped.decode(damped.step(damped.encode(velocity), lambda v: -strength * v * v.abs()))

    # Along random directions: all of them would take a minute in three dimensions.
    assert torch.autograd.gradcheck(step, (velocity.requires_grad_(), strength, rate), fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_states_projection_and_tendency_keep_their_promises(name, random_velocity):
    host = host_of(name)
    velocity = host.project(noise_on(host, 2))
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
    gradient, d = host.operators.velocity_gradient(velocity), host.grid.num_dims
    planes = [(1, 0)] if d == 2 else [(2, 1), (0, 2), (1, 0)]
    curl = [gradient[i * d + j] - gradient[j * d + i] for i, j in planes]
    expected = curl[0] if d == 2 else torch.stack(curl, dim=1)
    torch.testing.assert_close(host.vorticity(velocity), expected, rtol=0, atol=10 * ROUND_OFF)


@pytest.mark.parametrize("name", ["finite volume 2", "spectral"])
def test_energy_budget_with_a_closure(name, random_velocity):
    host = host_of(name)
    velocity = host.project(random_velocity(host.grid))
    work = (velocity * host.tendency(velocity, damping)).sum(1).mean(space(host))
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
    assert shapes == [(2, host.grid.num_dims, *host.grid.shape)] * 4


@pytest.mark.parametrize("name", NAMES)
def test_a_closure_can_be_called_once_a_step_and_held(name, random_velocity):
    """The same to round-off if it does not see the velocity; otherwise of first order in the time step."""
    always, once = (host_of(name, closure_calls=calls) for calls in ("stage", "step"))
    state = once.encode(once.project(random_velocity(once.grid)))
    calls = []

    def steady(velocity):
        calls.append(1)
        return torch.full_like(velocity, 0.1) + damping(once.decode(state))

    if name.startswith("shifted"):  # where the stages see the velocity on other points
        once.step(state, steady)
    else:
        torch.testing.assert_close(once.step(state, steady), always.step(state, steady), rtol=0, atol=1e-10)
        calls = calls[:1]
    assert len(calls) == 1
    if name.startswith(("finite volume 2", "spectral")):
        differences = []
        for n in (8, 16):
            ends = []
            for kind in ("stage", "step"):
                host, end = host_of(name, closure_calls=kind, time_step=0.1 / n), state
                for _ in range(n):
                    end = host.step(end, damping)
                ends.append(host.decode(end))
            differences.append((ends[0] - ends[1]).norm().item())
        assert differences[0] / differences[1] == pytest.approx(2, rel=0.1)


class LinearDamping:
    """A closure that is a linear damping, for hosts that fold it in and for those that call it."""

    def damping_rates(self, grid):
        return 0.05 * grid.k2

    def __call__(self, velocity):
        grid, axes = Grid(velocity.shape[2:], BOX[: velocity.shape[1]]), tuple(range(2, velocity.ndim))
        coefficients = torch.fft.rfftn(velocity, dim=axes)
        return torch.fft.irfftn(-self.damping_rates(grid) * coefficients, s=grid.shape, dim=axes)


@pytest.mark.parametrize("name", NAMES)
def test_a_linear_damping_folded_into_the_host_is_the_closure_at_no_call(name, random_velocity):
    host, closure = host_of(name), LinearDamping()
    folded, left = fold_closure(host, closure)
    assert left is None
    velocity = host.project(random_velocity(host.grid))
    torch.testing.assert_close(
        folded.tendency(velocity), host.tendency(velocity, closure), rtol=0, atol=100 * ROUND_OFF
    )
    assert (folded.tendency(velocity) - host.tendency(velocity)).abs().max() > 0.01
    assert fold_closure(host, damping) == (host, damping)


@pytest.mark.parametrize("name", NAMES)
def test_a_damped_host_forgets_in_which_mode_it_made_its_last_step(name):
    host = host_of(name, dtype=torch.float32)
    state = host.encode(host.project(noise_on(host, 1).float()))
    learned = (0.1 * host.grid.k2).requires_grad_()
    for damped in (host.with_damping(learned), host.with_damping(learned.detach())):
        with torch.inference_mode():
            damped.step(state)
        with torch.no_grad():
            damped.step(state)
        gradients = []
        for _ in range(2):
            inputs = state.clone().requires_grad_()
            damped.decode(damped.step(inputs)).square().sum().backward(retain_graph=True)
            gradients.append(inputs.grad)
        assert torch.equal(*gradients)
    assert learned.grad.abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_dampings_add_up_in_the_precision_of_the_host(name):
    host = host_of(name, dtype=torch.float32)
    state, rates = host.encode(host.project(noise_on(host, 1).float())), 0.1 * host.grid.k2.double()
    twice, double = host.with_damping(rates).with_damping(rates), host.with_damping(2 * rates)
    for function in (lambda host: host.step(state), lambda host: host.tendency(host.decode(state))):
        added, expected = function(twice), function(double)
        assert added.dtype == function(host).dtype
        assert (added - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_a_drive_of_constant_power_does_that_work_in_every_host(name, random_velocity):
    host = host_of(name, ConstantPowerForcing(kind="constant_power", wavenumber=2, power=0.3))
    unforced = host_of(name, NoForcing())
    velocity = host.project(random_velocity(host.grid, batch=2))
    force = host.tendency(velocity) - unforced.tendency(velocity)
    power = (velocity * force).sum(1).mean(space(host))
    torch.testing.assert_close(power, torch.full((2,), 0.3, dtype=torch.float64), rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("shape", [(3, 8), (8, 2), (8, 9)])
def test_grids_with_odd_or_too_few_points_are_refused(shape):
    with pytest.raises(ShapeError, match="even number of points of at least 4"):
        Grid(shape, DOMAIN)
