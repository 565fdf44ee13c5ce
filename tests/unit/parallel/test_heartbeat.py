"""Both sides of the page that a process shares with its guard."""

import json
from pathlib import Path

import pytest

from hpcsurrogate.parallel import heartbeat
from hpcsurrogate.parallel.heartbeat import Pulse, Watch


@pytest.fixture
def pulse():
    """A page to which this process' heartbeat goes for one test."""
    pulse = Pulse()
    heartbeat.connect(pulse)
    yield pulse
    heartbeat.connect(None)


def test_what_one_side_writes_the_other_reads(pulse, tmp_path):
    assert (pulse.beats, pulse.what, pulse.watch) == (0, "starting", None)
    heartbeat.beat("step 12: loss of part 2")
    heartbeat.beat("step 12: sum")  # shorter: nothing of the text before may be left
    assert (pulse.beats, pulse.what) == (2, "step 12: sum")
    heartbeat.arm(2.5, tmp_path, 3, 8)
    watch = pulse.watch
    assert (watch.limit, watch.directory, watch.rank, watch.size) == (2.5, tmp_path / "hangs", 3, 8)
    heartbeat.disarm()
    assert pulse.watch is None


def test_long_and_foreign_texts_are_cut_not_refused(pulse):
    heartbeat.beat("ü" * 1000)
    assert set(pulse.what.rstrip("\ufffd")) == {"ü"}
    pulse.arm(Watch(1.0, Path("/" + "long/" * 800), 0, 1, 0))
    assert pulse.watch.directory == Path("/" + "long/" * 800)


def test_reports_of_an_earlier_hang_are_removed_and_stacks_stay(pulse, tmp_path):
    hangs = tmp_path / "hangs"
    hangs.mkdir()
    for name in ("rank-0000.json", "rank-0001.json", "rank-0001.txt", "hang.txt"):
        (hangs / name).write_text(json.dumps({}))
    heartbeat.arm(1.0, tmp_path, 1, 2)
    assert sorted(path.name for path in hangs.iterdir()) == ["hang.txt", "rank-0000.json", "rank-0001.txt"]
    heartbeat.arm(1.0, tmp_path, 0, 2)
    assert sorted(path.name for path in hangs.iterdir()) == ["rank-0001.txt"]


def test_without_a_guard_nothing_happens(tmp_path):
    heartbeat.beat("step 1")
    heartbeat.arm(1.0, tmp_path, 0, 1)
    heartbeat.disarm()
    assert list(tmp_path.iterdir()) == []
