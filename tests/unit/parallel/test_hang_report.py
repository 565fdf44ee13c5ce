"""Whom the guards name, from stacks as faulthandler writes them and from reports."""

from dataclasses import replace
from pathlib import Path

import pytest

import hpcsurrogate
from hpcsurrogate.parallel.hang_report import (
    HangReport,
    hung_ranks,
    is_hang,
    read_reports,
    stack_place,
    stacks_path,
    verdict,
    write_report,
)

PACKAGE = Path(hpcsurrogate.__file__).parent
STACKS = f"""Thread 0x00007f0000000001 (most recent call first):
  File "{PACKAGE}/train/checkpoint_files.py", line 7 in write

Current thread 0x00007f0000000002 (most recent call first):
  File "/usr/lib/python3/site-packages/horovod/torch/mpi_ops.py", line 9 in synchronize
  File "{PACKAGE}/parallel/horovod_engine.py", line 30 in wait
  File "{PACKAGE}/parallel/gradients.py", line 80 in finish
  File "{PACKAGE}/train/step.py", line 12 in step
"""


def report(rank, doing="step 7: sum of gradients", place="train/step.py:12 in step", waits=True, **changes):
    usual = HangReport(rank, "node1", 100 + rank, doing, 26.0, 25.0, "S", place, waits)
    return replace(usual, **changes)


@pytest.mark.parametrize(
    ("thread", "expected"),
    [
        (0x7F0000000002, ("parallel/gradients.py:80 in finish", True)),
        (0x7F0000000001, ("train/checkpoint_files.py:7 in write", False)),
        (0x7F0000000003, ("", False)),
    ],
)
def test_where_a_thread_is_and_whether_it_waits_for_other_ranks(thread, expected):
    assert stack_place(STACKS, thread) == expected


def test_a_backward_pass_is_work_though_the_room_of_the_ranks_started_it():
    stacks = STACKS.replace("parallel/horovod_engine.py", "parallel/gradients.py")
    assert stack_place(stacks, 0x7F0000000002) == ("parallel/gradients.py:30 in wait", False)


def test_the_rank_that_computes_or_is_stopped_hangs():
    computes = report(2, "step 7: loss of part 0", "train/step.py:5 in loss", waits=False)
    assert hung_ranks([report(0), report(1), computes]) == [computes]
    stopped = report(1, waits=True, state="T")
    assert hung_ranks([report(0), stopped]) == [stopped]


def test_a_rank_that_computes_for_a_shorter_time_than_it_may_is_not_alone_to_blame():
    assert hung_ranks([report(0, waits=False, silent=14.0), report(1, waits=False)]) == [report(1, waits=False)]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([report(0), report(1)], True),
        ([report(0), report(1, waits=False)], True),
        ([report(0), report(1, waits=False, silent=14.0)], False),  # it has as long as it is allowed
        ([report(0), report(1, waits=False, silent=14.0, state="T")], True),
        ([report(0)], False),  # the other one shows signs of life
    ],
)
def test_ranks_that_wait_hang_only_if_nobody_is_at_work(reports, expected):
    assert is_hang(reports, 2) == expected


def test_the_rank_that_waits_for_something_else_hangs():
    ahead = report(1, "step 8: sum of gradients")
    assert hung_ranks([report(0), ahead, report(2)]) == [ahead]
    # Of two nobody can tell which one left out the call.
    assert hung_ranks([report(0), ahead]) == [report(0), ahead]


def test_nobody_is_named_when_all_wait_for_the_same():
    assert hung_ranks([report(0), report(1)]) == []


@pytest.mark.parametrize(
    ("reports", "size", "expected"),
    [
        (
            [report(0), report(1, "step 7: loss", "train/step.py:5 in loss", waits=False)],
            2,
            "rank 1 hangs in 'step 7: loss' (computes at train/step.py:5 in loss; process 101 on node1); no sign of "
            "life for 26 s; stacks in /run/hangs/rank-0001.txt; all ranks end, the same command goes on (raise "
            "train.watchdog if it was only slow)",
        ),
        (
            [report(0), report(1, "step 8: sum", place="train/step.py:9 in f")],
            2,
            "rank 0 hangs in 'step 7: sum of gradients' (waits for other ranks at train/step.py:12 in step; process "
            "100 on node1); rank 1 hangs in 'step 8: sum' (waits for other ranks at train/step.py:9 in f; process 101 "
            "on node1): one left out a call that another makes; no sign of life",
        ),
        (
            [report(0), report(1, "step 8: sum"), report(2)],
            3,
            "rank 1 hangs in 'step 8: sum' (waits for other ranks at train/step.py:12 in step; process 101 on node1); "
            "the others hang in 'step 7: sum of gradients' (waits for other ranks at train/step.py:12 in step; process "
            "100 on node1): one left out a call that another makes; no sign of life",
        ),
        (
            [report(0, state="T")],
            1,
            "rank 0 hangs in 'step 7: sum of gradients' (is stopped at train/step.py:12 in step",
        ),
        ([report(0), report(1)], 2, "ranks 0, 1 hang in 'step 7: sum of gradients' (waits"),
        ([report(0), report(1)], 2, "all wait for the same: look at MPI or the network"),
        (
            [report(0), report(2)],
            4,
            "; ranks 1, 3 did not answer: lost, or still at work there; no sign of life for 26 s",
        ),
        ([report(rank, state="T") for rank in range(9)], 9, "rank 3 hangs in"),
    ],
)
def test_the_line(reports, size, expected):
    line = verdict(reports, size, Path("/run/hangs"))
    assert expected in line and "\n" not in line and "rank 4" not in line


def test_reports_are_read_as_they_were_written_and_stacks_lie_beside(tmp_path):
    directory = tmp_path / "hangs"
    assert read_reports(directory, 4) == []
    for rank in (2, 0, 5):
        write_report(directory, report(rank), STACKS)
    assert read_reports(directory, 4) == [report(0), report(2)]  # 5 was a rank of an earlier, larger run
    text = stacks_path(directory, 2).read_text()
    assert text.startswith("rank 2: 'step 7") and text.endswith(STACKS)
