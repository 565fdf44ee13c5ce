"""One trial: how what its child said and left becomes an outcome. The child here writes what a real one would."""

import signal
import sys
import textwrap

import pytest

from hpcsurrogate.core.errors import DataError, HpcsurrogateError, RequeueRequested
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.study import trials
from hpcsurrogate.study.children import StopSignals
from hpcsurrogate.study.locks import try_lock
from hpcsurrogate.study.objectives import Outcome, read_outcome
from hpcsurrogate.study.search import Claim
from hpcsurrogate.study.trials import run_trial

GOOD = [0.5, 0.4, 0.3, 0.35]
OTHERS = [Outcome("complete", closure_ms=1e-9, curve=(0.1,) * 9)] * 4


class Child:
    """What stands in for `hpcsurrogate run`: it says lines, writes validations, then waits or leaves."""

    def __init__(self, tmp_path, monkeypatch):
        self._program = tmp_path / "hpcsurrogate.py"
        folder = tmp_path / "python"
        folder.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{self._program}" "$@"\n')
        folder.chmod(0o755)
        monkeypatch.setattr(trials.sys, "executable", str(folder))
        monkeypatch.setattr(trials, "POLL_SECONDS", 0.02)
        self.does()

    def does(self, curve=GOOD, says=(), exit_code=0, waits=False, coupling=None):
        """Leave with `exit_code`; if it `waits`, only after SIGUSR1, with 75."""
        self._program.write_text(
            textwrap.dedent(
                f"""
                import json, pathlib, signal, sys
                signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
                config, until = pathlib.Path(sys.argv[-3]), sys.argv[-1]
                with open(config.parent / "metrics.jsonl", "w") as file:
                    for step, loss in enumerate({curve!r}):
                        record = {{"phase": "unrolled", "step": step, "validation_loss": loss}}
                        file.write(json.dumps(record) + chr(10))
                if {coupling!r} is not None:
                    (config.parent / "couple.json").write_text(json.dumps({coupling!r}))
                print("until", until, flush=True)
                for line in {list(says)!r}:
                    print(line, file=sys.stderr, flush=True)
                while {waits}:
                    signal.pause()
                sys.exit({exit_code})
                """
            )
        )


@pytest.fixture
def child(tmp_path, monkeypatch):
    return Child(tmp_path, monkeypatch)


@pytest.fixture
def claim(tmp_path):
    directory = tmp_path / "run" / "tune" / "trial-0007"
    return Claim(7, {"train.apriori.learning_rate": 0.01}, directory, try_lock(directory / "trial.lock"))


def outcome_of(claim, tmp_path, *changes, others=()):
    experiment = load_experiment(tmp_path / "tiny.yaml", changes)
    with StopSignals() as stop:
        outcome = run_trial(claim, experiment, experiment.tune, list(others), stop)
    assert read_outcome(claim.directory) == outcome
    return outcome


def test_a_good_training_gives_its_best_validation_and_the_cost_of_a_call(tiny, child, claim, tmp_path):
    outcome = outcome_of(claim, tmp_path)
    assert (outcome.state, outcome.reason, outcome.curve) == ("complete", "", tuple(GOOD))
    assert outcome.objectives == (0.3, outcome.closure_ms) and outcome.closure_ms > 0
    changed = load_experiment(RunPaths(claim.directory).config)
    assert changed.train.apriori.learning_rate == 0.01
    assert (changed.name, changed.run_dir) == ("tiny-trial-0007", str(claim.directory))
    assert (claim.directory / "output.log").read_text() == "until train\n"


def test_without_a_cost_there_is_one_objective(tiny, child, claim, tmp_path):
    assert outcome_of(claim, tmp_path, "tune.cost=false").objectives == (0.3,)


@pytest.mark.parametrize("exit_code", [2, 4, 6])
def test_what_the_values_can_cause_fails_the_trial_with_the_first_reason(tiny, child, claim, tmp_path, exit_code):
    says = ["train: step 3", "hpcsurrogate: error: train: diverged", "hpcsurrogate: error: stage train ended"]
    child.does(says=says, exit_code=exit_code)
    outcome = outcome_of(claim, tmp_path)
    assert (outcome.state, outcome.reason, outcome.objectives) == ("failed", "train: diverged", ())


def test_reasons_of_an_earlier_attempt_are_not_taken_for_those_of_this(tiny, child, claim, tmp_path):
    child.does(says=["hpcsurrogate: error: old"], exit_code=4)
    outcome_of(claim, tmp_path)
    child.does(says=["hpcsurrogate: error: new"], exit_code=4)
    assert outcome_of(claim, tmp_path).reason == "new"


def test_a_child_that_a_signal_ended_fails_the_trial(tiny, child, claim, tmp_path):
    child.does(exit_code="__import__('os').kill(__import__('os').getpid(), 9)")
    assert outcome_of(claim, tmp_path).reason == "ended by signal 9"


@pytest.mark.parametrize(("exit_code", "kind"), [(1, HpcsurrogateError), (3, DataError), (75, RequeueRequested)])
def test_what_would_meet_every_trial_ends_the_search(tiny, child, claim, tmp_path, exit_code, kind):
    child.does(says=["hpcsurrogate: error: no space left on the disk"], exit_code=exit_code)
    with pytest.raises(kind, match="trial 7") as caught:
        outcome_of(claim, tmp_path)
    assert type(caught.value) is kind
    assert read_outcome(claim.directory) is None


def test_values_that_do_not_fit_together_fail_before_anything_is_trained(tiny, child, claim, tmp_path):
    outcome = outcome_of(claim, tmp_path, "ranks=2", "train.engine=none")
    assert outcome.state == "failed" and outcome.reason.startswith("ranks: 2, but train.engine: none")
    assert not (claim.directory / "output.log").exists()


def test_a_training_worse_than_the_median_is_stopped(tiny, child, claim, tmp_path):
    child.does(waits=True)
    outcome = outcome_of(claim, tmp_path, "tune.cost=false", others=OTHERS)
    assert (outcome.state, outcome.objectives, outcome.curve) == ("pruned", (), tuple(GOOD))
    assert outcome.reason == "after 4 validations worse than the median of the others"


def test_with_a_cost_only_closures_that_cost_no_more_are_compared(tiny, child, claim, tmp_path):
    dearer = [Outcome("complete", closure_ms=1e9, curve=(0.1,) * 9)] * 4
    assert outcome_of(claim, tmp_path, others=dearer).state == "complete"
    child.does(waits=True)
    assert outcome_of(claim, tmp_path, others=OTHERS).state == "pruned"


def test_without_pruning_nothing_is_stopped(tiny, child, claim, tmp_path):
    assert outcome_of(claim, tmp_path, "tune.prune=false", "tune.cost=false", others=OTHERS).state == "complete"


def test_a_request_to_stop_reaches_the_training_and_leaves_the_trial_open(tiny, child, claim, tmp_path, monkeypatch):
    child.does(waits=True)
    # Sent to this process by the first look at the curve, when the child surely runs.
    monkeypatch.setattr(trials, "falls_behind", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(RequeueRequested, match="trial 7 stopped on request"):
        outcome_of(claim, tmp_path)
    assert read_outcome(claim.directory) is None


LINE = {
    "name": "net", "stable": True, "decorrelation_time": 1.7, "cost_ms_per_time_unit": 30.0, "blow_up_time": None,
    "endurance": {"duration": 9.0, "blow_up_time": None},
}  # fmt: skip
BARE = LINE | {"name": "bare", "decorrelation_time": 9.9, "endurance": None}


def test_a_posteriori_the_learned_line_of_the_comparison_counts(tiny, child, claim, tmp_path):
    child.does(coupling={"learned": "net", "contenders": [BARE, LINE]})
    outcome = outcome_of(claim, tmp_path, "tune.objective=aposteriori")
    assert (outcome.state, outcome.objectives) == ("complete", (1.7, 30.0))
    assert (claim.directory / "output.log").read_text() == "until couple\n"


@pytest.mark.parametrize(
    "changes", [{"stable": False, "blow_up_time": 0.61}, {"endurance": {"duration": 9.0, "blow_up_time": 0.61}}]
)
def test_a_closure_that_blows_up_in_the_solver_fails(tiny, child, claim, tmp_path, changes):
    blown_up = LINE | changes
    child.does(coupling={"learned": "net", "contenders": [BARE, blown_up]})
    outcome = outcome_of(claim, tmp_path, "tune.objective=aposteriori")
    assert (outcome.state, outcome.reason) == ("failed", "a run with the closure blew up at 0.61 s")


def test_a_training_without_a_finite_validation_fails(tiny, child, claim, tmp_path):
    child.does(curve=[])
    assert outcome_of(claim, tmp_path).reason == "no validation gave a finite number"
