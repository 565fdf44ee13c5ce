import json

import pytest

from hpcsurrogate.study.curves import FIRST_COMPARED, SMALLEST_FIELD, falls_behind, read_curve


def write(path, *records, torn=""):
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + torn)


def test_validations_of_one_phase_in_order(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    write(
        metrics,
        {"phase": "apriori", "step": 1, "loss": 9.0},
        {"phase": "apriori", "step": 2, "loss": 9.0, "validation_loss": 0.9},
        {"phase": "unrolled", "step": 3, "loss": 9.0, "validation_loss": 0.5},
        {"phase": "unrolled", "step": 4, "loss": 9.0, "validation_loss": 0.4},
        torn='{"phase": "unrolled", "step": 5, "validation_loss": 0.',
    )
    assert read_curve(metrics, "apriori") == [0.9]
    assert read_curve(metrics, "unrolled") == [0.5, 0.4]
    assert read_curve(tmp_path / "not there yet.jsonl", "unrolled") == []


def test_of_a_step_that_was_done_again_the_later_counts(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    steps = [(1, 0.9), (2, 0.8), (3, 7.0), (2, 0.7), (3, 0.6)]
    write(metrics, *({"phase": "apriori", "step": step, "validation_loss": loss} for step, loss in steps))
    assert read_curve(metrics, "apriori") == [0.9, 0.7, 0.6]


OTHERS = [[0.5, 0.4, 0.3, 0.2], [0.6, 0.5, 0.4, 0.3], [0.7, 0.6, 0.5, 0.1], [0.9, 0.8, 0.7, 0.6]]


@pytest.mark.parametrize(
    ("curve", "behind"),
    [
        ([0.6, 0.6, 0.44], False),  # medians of the best so far: 0.65, 0.55, 0.45, 0.25
        ([0.6, 0.6, 0.46], True),
        ([0.44, 0.9, 0.9], False),  # its own best so far counts, not its last
        ([0.6, 0.5, 0.4, 0.3], True),
        ([9.0, 9.0], False),  # too early
    ],
)
def test_a_trial_worse_than_the_median_at_the_same_validation_falls_behind(curve, behind):
    assert falls_behind(curve, OTHERS) == behind


def test_others_that_ended_early_count_with_their_best():
    assert not falls_behind([0.3] * 9, [[0.3]] * SMALLEST_FIELD)
    assert falls_behind([0.31] * 9, [[0.3]] * SMALLEST_FIELD)


def test_few_or_empty_curves_say_nothing():
    bad = [9.0] * FIRST_COMPARED
    assert not falls_behind(bad, [[0.1] * 9] * (SMALLEST_FIELD - 1))
    assert not falls_behind(bad, [[0.1] * 9] * (SMALLEST_FIELD - 1) + [[]])
    assert falls_behind(bad, [[0.1] * 9] * SMALLEST_FIELD)
