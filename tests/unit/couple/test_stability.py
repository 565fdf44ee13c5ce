"""Long runs whose outcome is known."""

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow
from hpcsurrogate.couple.observation import Observer, Statistics
from hpcsurrogate.couple.stability import run_long
from hpcsurrogate.physics.exact import laminar_kolmogorov
from hpcsurrogate.physics.hosts import make_host

FLOW = Flow(viscosity=0.2, drag=0.1, forcing={"kind": "kolmogorov", "wavenumber": 1, "amplitude": 0.1})
STEPS = 400


@pytest.fixture(scope="module")
def host():
    return make_host(FiniteVolumeHost(kind="finite_volume", grid=(8, 8), time_step=0.1), FLOW, torch.float64)


@pytest.fixture(scope="module")
def settled(host):
    """The steady solution of the host itself, reached from the exact one: its spacing shifts it by h^2."""
    state = host.encode(laminar_kolmogorov(host.grid, FLOW, host.layout).expand(2, -1, -1, -1))
    for _ in range(1000):
        state = host.step(state)
    return host.decode(state)


def statistics_of(host, velocity) -> Statistics:
    return Statistics.combine(torch.stack, [Observer(host, host.grid.shape).observe(velocity).statistics])


def test_a_laminar_flow_stays_what_it_is(host, settled):
    """A fixed point of the time step; tolerance: what is left after 1000 steps of decay at 0.3 / s, and round-off."""
    run = run_long(host, None, settled, statistics_of(host, settled), STEPS)
    assert run.finite and run.steps == STEPS
    assert abs(run.energy_error) < 1e-10 and run.largest_energy_error < 1e-10 and run.spectrum_log_error < 1e-9


def test_a_closure_that_drives_is_found_out(host, settled):
    """Acceleration 0.15 u takes half of the loss of 0.3 / s away: twice the velocity, four times the energy.
    The last half begins after 40 s, when exp(-0.15 * 40) of the way, 0.3 %, is left."""
    run = run_long(host, lambda velocity: 0.15 * velocity, settled, statistics_of(host, settled), 2 * STEPS)
    loss = (
        -2 * statistics_of(host, settled).rates[0, 0, 1].item() / (2 * 0.5 * settled[0].square().sum(0).mean().item())
    )
    rate = loss / 2 + FLOW.drag  # the host's own, of the wave: nu times the square of its discrete wavenumber
    assert run.finite
    assert run.energy_error == pytest.approx((rate / (rate - 0.15)) ** 2 - 1, rel=0.02)


def test_a_run_that_blows_up_says_how_long_it_held(host, settled):
    run = run_long(host, lambda velocity: 30 * velocity, settled, statistics_of(host, settled), STEPS)
    assert not run.finite and run.energy_error is None
    assert 0 < run.steps < STEPS
