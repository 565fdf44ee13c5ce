"""The benchmark of closures: its arithmetic, and that its smoke tests are experiments."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.pipeline.consistency import check_consistency

SCRIPTS = Path(__file__).parents[3] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import closure_figures  # noqa: E402

NAMES = ["deconvolution2d", "eight_snapshots", "forced2d", "calibrated2d", "turbulence3d", "stress2d", "stress3d",
         "stress_sharp2d", "stress_sharp2d_unseen"]  # fmt: skip


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_closures", SCRIPTS / "bench_closures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(name, role, points, time, cost, kind="finite_volume", ladder_of=None, stable=True):
    return {
        "name": name, "role": role, "grid": [points, points], "decorrelation_time": time, "reached_end": False,
        "cost_ms_per_time_unit": cost, "host": {"kind": kind}, "ladder_of": ladder_of, "stable": stable,
    }  # fmt: skip


def test_speed_up_is_over_the_cheapest_classical_way_of_the_same_kind_of_host(bench):
    """Sixth order costs 8 times as much on a grid twice as fine, which keeps the flow 1 s longer: 4 s cost 64 ms."""
    lines = [
        line("sixth", "classical", 64, 2.0, 1.0),
        line("sixth, 128", "classical", 128, 3.0, 8.0, ladder_of="sixth"),
        line("sixth, 256", "classical", 256, 4.0, 64.0, ladder_of="sixth"),
        line("dear", "classical", 64, 5.0, 1000.0),
        line("cheap but unstable", "classical", 64, 9.0, 0.1, stable=False),
        line("spectral", "classical", 64, 9.0, 0.1, kind="spectral"),
        line("learned", "learned", 64, 3.5, 2.0),
    ]
    comparison = closure_figures.Comparison({"contenders": lines, "learned": "learned", "best_classical": "sixth"})
    assert comparison.speed_up_in_host() == pytest.approx(8**1.5 / 2.0)
    lines[-1]["reached_end"] = True
    assert comparison.speed_up_in_host() is None, "a lower bound of the time gives no figure"


@pytest.mark.parametrize(
    ("value", "aims", "met"),
    [(2.0, {"at_least": 2.0}, True), (1.9, {"at_least": 2.0}, False), (0.6, {"at_most": 0.6}, True),
     (0.7, {"at_most": 0.6}, False), (None, {"at_least": 2.0}, False), (1.0, {}, None)],
)  # fmt: skip
def test_an_aim_without_a_figure_is_missed(bench, value, aims, met):
    figure = bench.Figure("speed-up", value, **aims)
    assert figure.met is met and figure.entry().get("met") == met
    assert ("MISSED" in str(figure)) == (met is False)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_cases_and_their_smoke_tests_are_experiments(bench, name, quick):
    case = bench.CASES[name]
    overrides = (*case.overrides, *(case.quick if quick else ()))
    check_consistency(load_experiment(bench.CONFIGS / f"{case.experiment}.yaml", overrides))
    if case.record:
        overrides = (*case.overrides, *case.record, *((*case.quick, *bench.SHORT_RECORD) if quick else ()))
        check_consistency(load_experiment(bench.CONFIGS / f"{case.experiment}.yaml", overrides))


def test_training_is_done_when_the_rest_brings_less_than_two_per_cent(bench, tmp_path):
    """Only the last phase counts; its validations come after 2, 4 and 6 s, the second within 2 % of the last."""
    losses = [(None, "apriori"), (None, "unrolled"), (2.0, "unrolled"), (None, "unrolled"), (1.01, "unrolled"),
              (None, "unrolled"), (1.0, "unrolled")]  # fmt: skip
    with (tmp_path / "metrics.jsonl").open("w") as file:
        for loss, phase in losses:
            line = {"phase": phase, "seconds": 1.0} | ({} if loss is None else {"validation_loss": loss})
            file.write(json.dumps(line) + "\n")
    (figure,) = bench.training_figures(bench.RunPaths(tmp_path))
    assert figure.value == 4.0 and figure.met
