"""The longest time step that costs nothing."""

import math
from dataclasses import replace

import pytest
import torch

from hpcsurrogate.couple import time_steps
from hpcsurrogate.couple.contenders import make_entries
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.reference import build_references, place_starts, reference_key
from hpcsurrogate.couple.stability import Endurance
from hpcsurrogate.couple.stage import run_at_either_step
from hpcsurrogate.couple.time_steps import KEPT, MARGIN, StepTrial, bisect, lengthen_steps, shortened
from hpcsurrogate.couple.tuning import Trials, search_references
from hpcsurrogate.data.catalogue import Catalogue

BARE = {"name": "bare", "closure": {"kind": "none"}}


def make_plan(recorded, make_experiment, **changes):
    couple = {"contenders": (BARE,), "correlation": 0.99, "lengthen_steps": True} | changes.pop("couple", {})
    return Plan(make_experiment(couple=couple, **changes), recorded)


def test_the_limit_of_viscous_stability_is_found(recorded, make_experiment):
    """The reference is the host's own run at a short step, so that nothing but a step that is too long can lose it.

    RK4 bears nu k_h^2 dt <= 2.785, where k_h^2 = 8 / h^2 in two dimensions. With nu = 1.2 m^2/s and h = 2 pi / 16 m
    that is 0.0447 s: three steps in 0.1 s, not two.
    """
    nu, interval = 1.2, 0.1
    plan = make_plan(recorded, make_experiment, flow={"viscosity": nu}, host={"time_step": interval / 10})
    (entry,) = make_entries(plan.experiment, plan.interval)
    filtered = search_references(plan, [entry.host], (1,))[reference_key(entry.host)]
    truth = Trials(plan, entry, filtered).run({})
    places = torch.arange(truth.energy.numel()).reshape(truth.energy.shape)
    reference = replace(filtered, snapshots=truth.map(lambda part: part.flatten(0, 1)), places=places)
    trials = bisect(plan, entry, reference)
    limit = 2.785 / (nu * 8 / (2 * math.pi / 16) ** 2)
    assert trials[0].steps_per_snapshot == 10 and {trial.steps_per_snapshot for trial in trials} >= {2, 3}
    assert [trial.accepted for trial in trials] == [trial.time_step < limit for trial in trials]


def test_a_longer_step_that_loses_the_flow_sooner_is_not_taken(recorded, make_experiment):
    """At so sharp a threshold the error of the time stepping itself decides long before stability does."""
    plan = make_plan(recorded, make_experiment, host={"time_step": 0.0125}, couple={"correlation": 0.999})
    (chosen,), tried = lengthen_steps(plan, make_entries(plan.experiment, plan.interval))
    given, *others = tried["bare"]
    assert given.accepted
    fewest = min(trial.steps_per_snapshot for trial in tried["bare"] if trial.accepted)
    assert fewest < given.steps_per_snapshot and chosen.steps_per_snapshot == min(8, math.ceil(MARGIN * fewest))
    assert chosen.host.time_step == pytest.approx(0.1 / chosen.steps_per_snapshot)
    for trial in others:
        kept = trial.decorrelation_time >= KEPT * given.decorrelation_time
        assert trial.accepted == (trial.stable and kept)


def test_a_step_that_is_unstable_already_stays(recorded, make_experiment):
    plan = make_plan(recorded, make_experiment, flow={"viscosity": 50.0}, host={"time_step": 0.05})
    before = make_entries(plan.experiment, plan.interval)
    after, tried = lengthen_steps(plan, before)
    assert after == before and [trial.stable for trial in tried["bare"]] == [False]


@pytest.mark.parametrize(("shortest_that_lasts", "chosen"), [(1, 3), (3, 4), (4, 5), (6, 8), (20, 8)])
def test_a_step_at_which_the_run_does_not_last_is_shortened(
    recorded, make_experiment, monkeypatch, shortest_that_lasts, chosen
):
    plan = make_plan(recorded, make_experiment, host={"time_step": 0.0125})
    (entry,) = make_entries(plan.experiment, plan.interval)
    trials = [StepTrial(steps, 0.1 / steps, 1.0, True, True) for steps in (8, 4, 2)]

    def carry_on(plan, entry, velocity):
        return Endurance(5.0, None if entry.steps_per_snapshot >= shortest_that_lasts else 2.0)

    monkeypatch.setattr(time_steps, "carry_on", carry_on)
    reference = search_references(plan, [entry.host], (1,))[reference_key(entry.host)]
    assert shortened(plan, entry, reference, trials) == chosen


def test_without_it_the_given_steps_are_kept(recorded, make_experiment, monkeypatch):
    plan = make_plan(recorded, make_experiment, couple={"lengthen_steps": False})
    entries = make_entries(plan.experiment, plan.interval)
    monkeypatch.delattr(Catalogue, "open")  # no data are read
    assert lengthen_steps(plan, entries) == (entries, {})


def test_a_run_that_blows_up_at_its_longer_step_is_run_at_the_given_one(recorded, make_experiment):
    """At nu = 3 m^2/s on 16^2 cells RK4 bears 0.018 s; 0.1 s feeds the shortest waves by a factor of 10^3 a step."""
    plan = make_plan(recorded, make_experiment, flow={"viscosity": 3.0}, host={"time_step": 0.01})
    (given,) = make_entries(plan.experiment, plan.interval)
    references = build_references(plan, [given.host], place_starts(plan, (2,), 1))
    result = run_at_either_step(plan, given.with_steps(1, plan.interval), given, references)
    assert result.entry == given and result.score.stable
