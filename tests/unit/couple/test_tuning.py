"""The grid search for constants."""

import pytest

from hpcsurrogate.couple import tuning
from hpcsurrogate.couple.contenders import make_entries
from hpcsurrogate.couple.observation import Observer
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.reference import build_references, place_starts, reference_key
from hpcsurrogate.couple.tuning import tune_entries
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.physics.hosts import make_host

SMAGORINSKY = {"name": "Smagorinsky", "closure": {"kind": "smagorinsky"}}


def make_plan(recorded, make_experiment, **couple):
    return Plan(make_experiment(couple={"contenders": (SMAGORINSKY,), "correlation": 0.99} | couple), recorded)


def test_the_constant_that_keeps_the_flow_longest_is_taken(recorded, make_experiment):
    plan = make_plan(recorded, make_experiment)
    entries, tunings = tune_entries(plan, make_entries(plan.experiment, plan.interval))
    found = tunings["Smagorinsky"]
    assert found.candidates == tuning.CANDIDATES["smagorinsky"]
    best = found.candidates.index(found.constant)
    assert found.decorrelation_times[best] == max(found.decorrelation_times)
    assert [entry.constant for entry in entries] == [None, found.constant], "the bare host has no constant"


def test_ties_go_to_the_better_spectrum(recorded, make_experiment, monkeypatch):
    """Over one interval no candidate loses the flow; a constant of 1 takes the small scales out of the spectrum."""
    monkeypatch.setitem(tuning.CANDIDATES, "smagorinsky", (1.0, 0.1))
    plan = make_plan(recorded, make_experiment, duration=0.1, correlation=0.01)
    _, tunings = tune_entries(plan, make_entries(plan.experiment, plan.interval))
    found = tunings["Smagorinsky"]
    assert found.decorrelation_times == pytest.approx((0.1, 0.1))
    assert found.constant == 0.1 and found.at_edge


def test_a_constant_that_blows_up_later_is_passed_over(recorded, make_experiment, monkeypatch):
    plan = make_plan(recorded, make_experiment)
    entries = make_entries(plan.experiment, plan.interval)
    _, tunings = tune_entries(plan, entries)
    ranked = sorted(zip(tunings["Smagorinsky"].decorrelation_times, tunings["Smagorinsky"].candidates, strict=True))
    first, second = ranked[-1][1], ranked[-2][1]
    original = tuning._is_stable

    def all_but_the_first(plan, entry, observer, reference):
        return entry.constant != first and original(plan, entry, observer, reference)

    monkeypatch.setattr(tuning, "_is_stable", all_but_the_first)
    _, tunings = tune_entries(plan, entries)
    assert tunings["Smagorinsky"].constant == second


@pytest.mark.parametrize(("rate", "stable"), [(4.0, True), (60.0, False)])
def test_stability_is_that_of_the_whole_run(recorded, make_experiment, rate, stable):
    """Power 2 damps the corner modes at 4 rate: with steps of 0.05 s, 0.8 and 12, to both sides of the scheme's 2.8."""
    contender = {"name": "damped", "closure": {"kind": "hyperviscosity", "power": 2, "rate": rate}}
    plan = make_plan(recorded, make_experiment, contenders=(contender,))
    entry = next(e for e in make_entries(plan.experiment, plan.interval) if e.name == "damped")
    references = build_references(plan, [entry.host], place_starts(plan, (1,), 2))
    observer = Observer(make_host(entry.host, plan.experiment.flow), entry.host.grid)
    assert tuning._is_stable(plan, entry, observer, references[reference_key(entry.host)]) == stable


def test_the_test_realisations_are_not_read(recorded, make_experiment, monkeypatch):
    plan = make_plan(recorded, make_experiment, duration=0.1)
    opened, original = [], Catalogue.open

    def watched(self, realisation, **options):
        opened.append(realisation)
        return original(self, realisation, **options)

    monkeypatch.setattr(Catalogue, "open", watched)
    tune_entries(plan, make_entries(plan.experiment, plan.interval))
    assert opened == [1]


def test_without_open_constants_nothing_is_run(make_experiment, tmp_path):
    plan = Plan(make_experiment(), tmp_path)
    entries = make_entries(plan.experiment, 0.1)
    assert tune_entries(plan, entries) == (entries, {})
