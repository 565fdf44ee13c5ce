import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.study.locks import waiting_lock
from hpcsurrogate.study.objectives import Outcome, write_outcome
from hpcsurrogate.study.search import Search

KEYS = {"train.apriori.learning_rate", "train.model.channels", "train.apriori.augmentation.rotations"}
FIRST = {"train.apriori.learning_rate": 3e-3, "train.model.channels": 2, "train.apriori.augmentation.rotations": False}


@pytest.fixture
def opened(tmp_path, tiny):
    """Opens the same search, as every process of it would."""

    def open_search(identity="same", directions=("minimize", "minimize"), folder=tmp_path / "tune"):
        return Search(folder, tiny.tune, list(directions), identity, seed=0)

    return open_search


def finish(search, claim, *objectives, state="complete"):
    write_outcome(claim.directory, Outcome(state, objectives=objectives))
    search.finish(claim, state, objectives)


def test_the_first_trial_takes_the_values_of_the_file(opened):
    with opened().claim(3, FIRST | {"train.gradient_clip": 1.0}) as claim:
        assert (claim.number, claim.values) == (0, FIRST)


def test_values_of_the_file_outside_their_range_are_drawn(opened):
    with opened().claim(3, FIRST | {"train.model.channels": 9}) as claim:
        assert claim.values.keys() == KEYS
        assert 1 <= claim.values["train.model.channels"] <= 4
        assert claim.values["train.apriori.learning_rate"] == 3e-3


def test_values_lie_in_their_ranges_and_whole_numbers_stay_whole(opened):
    search = opened()
    for _ in range(15):
        with search.claim(15, FIRST) as claim:
            rate, channels = (claim.values[key] for key in ("train.apriori.learning_rate", "train.model.channels"))
            assert 1e-4 <= rate <= 1e-1
            assert type(channels) is int and 1 <= channels <= 4
            assert type(claim.values["train.apriori.augmentation.rotations"]) is bool
            finish(search, claim, rate, channels)
    assert len({record.values["train.apriori.learning_rate"] for record in search.records()}) == 15


def test_two_processes_never_share_a_trial_and_count_together(opened):
    one, two = opened(), opened()
    with one.claim(2, FIRST) as first, two.claim(2, FIRST) as second:
        assert (first.number, second.number) == (0, 1)
        assert first.values != second.values
        with one.claim(2, FIRST) as third:
            assert third is None
    assert [record.state for record in two.records()] == ["running", "running"]


def test_a_trial_that_was_left_behind_is_taken_up_before_a_new_one(opened):
    with opened().claim(5, FIRST) as left:
        pass
    search = opened()
    with search.claim(5, FIRST) as claim:
        assert (claim.number, claim.values, claim.directory) == (left.number, left.values, left.directory)
        finish(search, claim, 0.1, 0.2)
    with search.claim(5, FIRST) as claim:
        assert claim.number == 1


def test_a_child_that_outlives_its_process_keeps_the_trial(opened):
    with opened().claim(5, FIRST) as claim:
        held_by_the_child = os.dup(claim.descriptor)
    with opened().claim(5, FIRST) as other:
        assert other.number == 1
    os.close(held_by_the_child)
    with opened().claim(5, FIRST) as again:
        assert again.number == 0


def test_a_trial_is_not_finished_while_another_process_looks_for_work(opened, tmp_path):
    """Else that one might see it running, and find it free a moment later."""
    search = opened()
    with search.claim(5, FIRST) as claim, ThreadPoolExecutor() as pool:
        with waiting_lock(tmp_path / "tune" / "claim.lock"):
            finishing = pool.submit(finish, search, claim, 0.1, 0.2)
            # The outcome's file comes first; then only the lock is left to wait for.
            while not (claim.directory / "trial.json").exists():
                time.sleep(0.01)
            with pytest.raises(TimeoutError):
                finishing.result(timeout=0.3)
            assert search.records()[0].state == "running"
        finishing.result(timeout=60)
    assert search.records()[0].state == "complete"


def test_outcomes_count_towards_the_total_whatever_they_are(opened):
    search = opened()
    for state, objectives in (("complete", (0.1, 2.0)), ("pruned", ()), ("failed", ())):
        with search.claim(3, FIRST) as claim:
            finish(search, claim, *objectives, state=state)
    with search.claim(3, FIRST) as claim:
        assert claim is None
    assert [(r.state, r.objectives) for r in search.records()] == [
        ("complete", (0.1, 2.0)),
        ("pruned", ()),
        ("failed", ()),
    ]
    assert {number: outcome.state for number, outcome in search.outcomes().items()} == {
        0: "complete",
        1: "pruned",
        2: "failed",
    }
    with search.claim(4, FIRST) as claim:
        assert claim.number == 3


@pytest.mark.parametrize(
    ("directions", "front"),
    [
        (("minimize", "minimize"), [0, 1]),  # trial 2 is beaten by 1, trial 3 by 0
        (("maximize", "minimize"), [0, 2]),  # trial 1 costs as much as 2 and reaches less
        (("minimize",), [1]),
    ],
)
def test_the_pareto_front(opened, directions, front):
    search = opened(directions=directions)
    for objectives in ((0.3, 1.0), (0.1, 2.0), (0.5, 2.0), (0.3, 3.0)):
        with search.claim(4, FIRST) as claim:
            finish(search, claim, *objectives[: len(directions)])
    assert search.front() == front


def test_a_search_repeats_itself(opened, tmp_path):
    drawn = []
    for name in ("one", "two"):
        search = opened(folder=tmp_path / name)
        for _ in range(12):  # beyond the random start of the sampler
            with search.claim(12, FIRST) as claim:
                finish(search, claim, claim.values["train.apriori.learning_rate"], 1.0)
        drawn.append([record.values for record in search.records()])
    assert drawn[0] == drawn[1]


def test_what_a_kill_left_of_a_line_is_cut_off(opened, tmp_path):
    with opened().claim(5, FIRST) as claim:
        pass
    journal = tmp_path / "tune" / "journal.log"
    whole = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(b'{"op_code":5,"trial_id":0,"par')
    search = opened()
    assert journal.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())
    with search.claim(5, FIRST) as again:
        finish(search, again, 0.1, 0.2)
    assert opened().records()[0].state == "complete" and claim.number == 0


def test_a_trial_that_was_killed_while_it_chose_its_values_counts_as_failed(opened, tmp_path):
    """The journal ends after any of the lines that a new trial writes."""
    search = opened()
    journal = tmp_path / "tune" / "journal.log"
    before = len(journal.read_bytes().splitlines())
    with search.claim(9, FIRST):
        pass
    lines = journal.read_bytes().splitlines(keepends=True)
    for kept in range(before, len(lines)):
        journal.write_bytes(b"".join(lines[:kept]))
        search = opened()
        with search.claim(9, FIRST) as claim:
            assert claim.values.keys() == KEYS
        states = [record.state for record in search.records()]
        assert states in (["running"], ["failed", "running"])


def test_another_experiment_is_refused(opened):
    opened("this")
    opened("this")
    with pytest.raises(ConfigError, match="began with another experiment.*remove the folder"):
        opened("that")


def test_a_damaged_journal_is_named(opened, tmp_path):
    with opened().claim(5, FIRST):
        pass
    journal = tmp_path / "tune" / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], lines[2][:9] + b"\n", *lines[3:]]))
    with pytest.raises(DataError, match=r"journal\.log: damaged"):
        opened()
