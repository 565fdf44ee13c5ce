"""The training benchmark: its arithmetic, and one real case on a small grid."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_training", SCRIPTS / "bench_training.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        spec.loader.exec_module(module)
    return module


def result(ours, plain, saving=None, steps=10):
    return {"seconds": {"ours": ours, "saving": saving or ours, "plain": plain}, "steps": steps}


def by_name(figures):
    return {entry["name"]: entry for entry in figures}


# --- arithmetic -------------------------------------------------------------------------------------------------------


def test_neighbouring_turns_are_compared_so_that_a_slow_moment_cancels(bench):
    """The machine is ten times slower in the last three rounds: the ratio of medians would say 5.05."""
    ours, plain = [1.01, 1.01, 10.1, 10.1, 10.1], [1.0, 1.0, 10.0, 10.0, 10.0]
    assert bench.median_ratio(ours, plain) == pytest.approx(1.01)
    assert bench.median_ratio([2.0, 9.0, 2.0], [1.0, 1.0, 1.0]) == 2.0


def test_a_checkpoint_is_spread_over_the_steps_between_two(bench):
    """30 ms more in a turn of 10 steps of 0.1 s: of 100 such steps, which take 10 s, that is 0.3 %."""
    measured = result([1.0, 1.0, 1.0], [1.0] * 3, saving=[1.03, 1.03, 1.9])
    assert bench.CHECKPOINT_EVERY == 100
    assert bench.checkpoint_percent(measured) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("aim", "value", "met"),
    [({"at_least": 0.95}, 0.95, True), ({"at_least": 0.95}, 0.94, False), ({"at_most": 1.02}, 1.03, False)],
)
def test_aims_are_met_or_missed(bench, aim, value, met):
    assert bench.figure("f", value, "1", **aim) == {"name": "f", "value": value, "unit": "1", "met": met} | aim
    assert "met" not in bench.figure("f", value, "1")


def test_one_rank_has_a_price_and_two_an_efficiency(bench):
    one, two = bench.Case("horovod", 1), bench.Case("horovod", 2)
    figures = by_name(bench.figures_of({one: result([1.03], [1.0]), two: result([1.25], [1.0])}))
    price = figures["horovod, 1 rank: step / plain torch"]
    assert (price["value"], price["at_most"], price["met"]) == (pytest.approx(1.03), 1.02, False)
    scaling = figures["horovod, 2 ranks: weak scaling against independent processes"]
    assert (scaling["value"], scaling["at_least"], scaling["met"]) == (pytest.approx(0.8), 0.95, False)
    assert figures["horovod, 1 rank: step"]["value"] == pytest.approx(103.0)
    assert figures["horovod, 2 ranks: checkpoints, of run time"]["met"]


def test_other_engines_and_exact_mode_have_no_aims(bench):
    cases = [case for case in bench.ALL if case.engine != "horovod" or case.exact]
    figures = bench.figures_of({case: result([2.0], [1.0], saving=[4.0]) for case in cases})
    assert len(cases) == 6 and not any("met" in entry for entry in figures)


def test_exactness_is_priced_by_way_of_the_plain_loops(bench):
    """The exact case ran while the machine was twice as slow."""
    plain_case, exact = bench.Case("horovod", 2), bench.Case("horovod", 2, exact=True)
    figures = by_name(bench.exact_figures({plain_case: result([1.1], [1.0]), exact: result([2.64], [2.0])}))
    assert figures["horovod, 2 ranks, exact / not exact: step"]["value"] == pytest.approx(1.2)
    assert bench.exact_figures({exact: result([1.0], [1.0])}) == []


def test_the_table_has_a_line_a_case(bench):
    lines = bench.table({bench.Case("torch", 2): result([1.1], [1.0], saving=[1.2])})
    assert lines[1].split() == ["torch,", "2", "ranks", "110.00", "100.00", "1.100", "0.91", "%"]


def test_quick_cases_are_among_all(bench):
    assert set(bench.QUICK) <= set(bench.ALL)
    assert [case for case in bench.QUICK if case.ranks == 2]


# --- measured ---------------------------------------------------------------------------------------------------------


def test_the_contestants_take_turns_in_a_real_training(bench, tmp_path, monkeypatch):
    small = json.loads(json.dumps(bench.EXPERIMENT))
    small["host"]["grid"], small["simulate"]["grid"] = [16, 16], [48, 48]
    small["simulate"] |= {"spin_up_coarse": 0.0, "duration": 1.2}
    small["train"]["model"]["channels"] = 4
    monkeypatch.setattr(bench, "EXPERIMENT", small)
    case = bench.Case("none", 1)
    measured = bench.run_case(case, bench.prepare(tmp_path), steps=3, rounds=2)
    assert {name: len(seconds) for name, seconds in measured["seconds"].items()} == {"ours": 2, "saving": 2, "plain": 2}
    assert all(seconds > 0 for turns in measured["seconds"].values() for seconds in turns)
    assert measured["steps"] == 3
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert not any(name.startswith("tmp") for name in left)
    assert "none, 1 rank: step / plain torch" in by_name(bench.figures_of({case: measured}))
