"""Long runs whose outcome is known."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow
from hpcsurrogate.couple.contenders import make_entries
from hpcsurrogate.couple.observation import Observer, Statistics
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.reference import build_references, place_starts, reference_key
from hpcsurrogate.couple.stability import carry_on, record_noise, run_long, run_on, run_recorded
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


def test_a_contender_runs_from_the_record_and_is_held_against_it(recorded, make_experiment):
    """Three realisations that decay on their own, for one interval: what they lose and how they differ is known."""
    plan = Plan(make_experiment(), recorded, run_from=(0, 1, 2))
    entry = make_entries(plan.experiment, plan.interval)[0]
    run, noise = run_recorded(plan, entry, num_starts=5, num_steps=entry.steps_per_snapshot)
    assert run.finite and run.steps == entry.steps_per_snapshot
    starts = place_starts(plan, (0, 1, 2), 2)
    energy = build_references(plan, [entry.host], starts)[reference_key(entry.host)].statistics.energy.double()
    means = torch.stack([energy[:, 2 * number : 2 * number + 2].mean() for number in range(3)])
    assert noise.energy == pytest.approx(float(means.std() / means.mean() / 3**0.5))
    # Energy falls all the time: after one interval most of what the record loses is still there.
    assert run.energy_error > 0


def test_noise_of_a_record_is_that_of_the_means_of_its_realisations():
    """Two starts in each of two realisations, three times; shells of 1 and 3, of 4 and 4, and one without energy."""
    means = torch.tensor([[1.0, 4.0, 0.0], [3.0, 4.0, 0.0]])
    series = means.repeat_interleave(2, 0).repeat(3, 1, 1) + torch.tensor([-0.5, 0.5]).repeat(2)[None, :, None]
    series[..., 2] = 0.0
    found = record_noise(SimpleNamespace(energy=series[..., 0], spectrum=series), of_each=2)
    assert found.energy == pytest.approx(0.5)  # 2 +- 1: the deviation is sqrt 2, over sqrt 2 realisations
    assert found.spectrum == pytest.approx(0.5 / 2**0.5)


@pytest.mark.parametrize(("ladder_of", "durations"), [(None, 7.0), ("no closure", 5.0)])
def test_rungs_of_a_ladder_are_carried_on_for_less(recorded, make_experiment, ladder_of, durations):
    plan = Plan(make_experiment(couple={"long_run": 7.0}), recorded)
    entry = replace(make_entries(plan.experiment, plan.interval)[0], ladder_of=ladder_of)
    reference = build_references(plan, [entry.host], place_starts(plan, plan.realisations, 1))
    found = carry_on(plan, entry, reference[reference_key(entry.host)].velocity)
    assert found.duration == pytest.approx(durations * plan.duration)


def test_a_run_is_carried_on_until_it_blows_up(host, settled):
    """The wave alone does not act on itself: it grows by some 50 powers of e a second; 709 of them are too many."""
    quiet = 1e-3 * settled

    def drive(velocity):
        return 30 * velocity

    short = run_on(host, drive, quiet, 1.0, 10, 2)
    assert short.duration == 2.0 and short.blow_up_time is None
    found = run_on(host, drive, quiet, 1.0, 10, 60)
    assert 2.0 < found.blow_up_time < 40.0
    assert run_on(host, None, settled, 1.0, 10, 60).blow_up_time is None
