import shlex

import pytest

from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.study.objectives import Objective, Outcome, objectives_of, read_outcome, write_outcome
from hpcsurrogate.study.runs import changed_experiment
from hpcsurrogate.study.search import TrialRecord
from hpcsurrogate.study.summary import summarise, table

BOTH = (Objective("validation loss", "", "minimize"), Objective("closure call", "ms", "minimize"))
RATE, KIND = "train.apriori.learning_rate", "train.apriori.target"


def record(number, state, *objectives):
    return TrialRecord(number, state, {RATE: 0.001 * (number + 1), KIND: "sgs_force"}, objectives)


RECORDS = [
    record(0, "complete", 0.5, 1.0),
    record(1, "failed"),
    record(2, "complete", 0.2, 3.0),
    record(3, "pruned"),
]
OUTCOMES = {0: Outcome("complete"), 1: Outcome("failed", "train: diverged at step 7"), 2: Outcome("complete")}


def test_the_front_is_ordered_from_the_best_on():
    summary = summarise(RECORDS, OUTCOMES, [0, 2], BOTH)
    assert (summary["front"], summary["best"]) == ([2, 0], 2)
    assert summary["trials"][1]["reason"] == "train: diverged at step 7"
    assert [trial["state"] for trial in summary["trials"]] == ["complete", "failed", "complete", "pruned"]
    upwards = (Objective("time to decorrelation", "s", "maximize"), BOTH[1])
    assert summarise(RECORDS, OUTCOMES, [0, 2], upwards)["front"] == [0, 2]


def test_the_line_of_the_best_trial_can_be_pasted(tiny, tmp_path):
    lines = table(summarise(RECORDS, OUTCOMES, [0, 2], BOTH), "hpcsurrogate run 'my file.yaml' seed=3")
    words = shlex.split(lines[-1])
    assert words[:4] == ["hpcsurrogate", "run", "my file.yaml", "seed=3"]
    changed = changed_experiment(tiny, words[4:])
    assert (changed.train.apriori.learning_rate, changed.train.apriori.target) == (0.003, "sgs_force")


def test_the_table_shows_every_trial_the_front_and_the_reasons():
    lines = table(summarise(RECORDS, OUTCOMES, [0, 2], BOTH), "run")
    assert lines[0].split()[:2] == ["trial", "state"] and "closure call [ms]" in lines[0]
    assert lines[1].startswith("*  0") and lines[3].startswith("*  2")
    assert lines[2].split()[:4] == ["1", "failed", "-", "-"] and lines[2].endswith("train: diverged at step 7")
    assert lines[5] == "4 trials: 2 complete, 1 failed, 1 pruned"
    assert "Pareto front" in lines[6]


def test_a_trial_that_was_killed_while_it_chose_its_values_hides_no_key():
    first = TrialRecord(0, "failed", {RATE: 0.001}, ())
    summary = summarise([first, *RECORDS[1:]], OUTCOMES, [2], BOTH)
    assert summary["keys"] == [RATE, KIND]
    assert table(summary, "run")[0].split()[-2:] == [RATE, KIND]


def test_one_objective_has_no_front():
    lines = table(summarise([record(0, "complete", 0.5)], {}, [0], BOTH[:1]), "run")
    assert not any("Pareto" in line for line in lines)
    assert lines[-2] == "best by validation loss, trial 0:"


def test_a_search_that_is_not_done_says_so():
    lines = table(summarise([record(0, "running")], {}, [], BOTH), "run")
    assert any("other processes still work" in line for line in lines)
    assert lines[-1].startswith("no trial is complete")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], [("validation loss", "minimize"), ("closure call", "minimize")]),
        (["tune.cost=false"], [("validation loss", "minimize")]),
        (
            ["tune.objective=aposteriori"],
            [("time to decorrelation", "maximize"), ("cost of the coarse run", "minimize")],
        ),
    ],
)
def test_objectives_of_the_section(tmp_path, tiny, changes, expected):
    experiment = load_experiment(tmp_path / "tiny.yaml", changes)
    assert [(o.name, o.direction) for o in objectives_of(experiment.tune)] == expected


def test_outcomes_come_back_from_the_trials_folder(tmp_path):
    outcome = Outcome("complete", "", (0.1, 2.0), 2.0, (0.3, 0.1))
    assert read_outcome(tmp_path) is None
    write_outcome(tmp_path, outcome)
    assert read_outcome(tmp_path) == outcome
