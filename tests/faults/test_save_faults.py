"""Saves of checkpoints that are killed, or that meet a disk that fails, at every single one of their system calls.

strace injects these faults. The saves are those of processes that one with torch in memory forks: checkpoint_process.py
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpcsurrogate.train.checkpoint import TENSOR_PARTS, Checkpoint, CheckpointStore

LIMIT = 60  # seconds for what takes at most a few
# What changes a disk. Not every machine has every one: ? is for those.
CHANGES = "?write,?writev,?fsync,?fdatasync,?rename,?renameat,?renameat2,?mkdir,?mkdirat,?unlink,?unlinkat,?rmdir"


class Saver:
    """Processes that save step 1, then another one while strace watches."""

    def __init__(self):
        program = Path(__file__).with_name("checkpoint_process.py")
        self._process = subprocess.Popen(
            [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def save(self, directory: Path, step: int, injection: str | None = None) -> SimpleNamespace:
        """Save a step in `directory` under an injection of strace, such as "fsync:signal=KILL:when=2".

        Returns
        -------
        .exit_code    of the process, negative after a signal
        .trace        what strace wrote: one line for every call that changes the disk
        .calls        those of them that succeeded, (name, how many of this name up to this one)
        .report       {"line": for the user, or None, "exit_code": that the command would have}; None after a kill
        """
        limit = threading.Timer(LIMIT, self.close)
        limit.start()
        try:
            return self._save(directory, step, injection)
        finally:
            limit.cancel()

    def _save(self, directory: Path, step: int, injection: str | None) -> SimpleNamespace:
        self._process.stdin.write(f"{directory} {step}\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        trace, report = directory.with_suffix(".strace"), Path(f"{directory}.json")
        command = ["strace", "-f", "-y", "-o", trace, "-e", f"trace={CHANGES}", "-p", str(pid)]
        strace = subprocess.Popen(
            [*command, *(["-e", f"inject={injection}"] if injection else [])], stderr=subprocess.PIPE, text=True
        )
        first_words = strace.stderr.readline()
        os.kill(pid, signal.SIGCONT)
        exit_code = int(self._process.stdout.readline())
        strace.communicate()
        assert "attached" in first_words, f"strace may not trace here (kernel.yama.ptrace_scope?): {first_words}"
        text = trace.read_text()
        return SimpleNamespace(
            exit_code=exit_code,
            trace=text,
            calls=_successful_calls(text, pid),
            report=json.loads(report.read_text() or "null"),
        )

    def close(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _successful_calls(trace: str, main_thread: int) -> list[tuple[str, int]]:
    calls, counts = [], {}
    for line in trace.splitlines():
        call = re.match(r"(\d+) +(\w+)\(", line)
        if call:
            assert int(call[1]) != main_thread, f"calls of the thread that trains would be counted too: {line}"
            counts[call[2]] = counts.get(call[2], 0) + 1
            if " = -1 " not in line:
                calls.append((call[2], counts[call[2]]))
    return calls


@pytest.fixture(scope="module")
def saver():
    if shutil.which("strace") is None:
        pytest.exit("strace is missing, which injects faults into system calls: apt-get install strace", returncode=2)
    saver = Saver()
    yield saver
    saver.close()


def value_of(checkpoint: Checkpoint) -> float:
    """The number of which all of a checkpoint of checkpoint_process.py consists."""
    values = {checkpoint.state["value"]}
    for part in TENSOR_PARTS:
        (tensor,) = getattr(checkpoint, part).values()
        values |= set(tensor.unique().tolist())
    (value,) = values
    return value


def assert_whole_and_ready(directory: Path) -> float:
    """Read the newest checkpoint, save another one, find nothing else there; return the value of what was read."""
    store = CheckpointStore(directory, 1, "mine")
    found = store.newest()
    value = value_of(found)
    found.step = 9
    store.save(found)
    store.close()
    assert [path.name for path in directory.iterdir()] == ["step-00000009"]
    return value


@pytest.mark.fault(19, "killed at each write, fsync, rename of a save")
@pytest.mark.parametrize("step", [2, 1], ids=["of a new step", "of a step that is there already"])
def test_killed_at_any_change_of_the_disk_the_old_or_the_new_one_is_there(saver, tmp_path, fault, step):
    calls = saver.save(tmp_path / "undisturbed", step).calls
    assert {"write", "fsync"} <= {name for name, _ in calls} and len(calls) > 20
    values = []
    for name, number in calls:
        directory = tmp_path / f"{name}-{number}"
        saved = saver.save(directory, step, f"{name}:signal=KILL:when={number}")
        assert saved.exit_code == -signal.SIGKILL and "+++ killed by SIGKILL +++" in saved.trace
        values.append(assert_whole_and_ready(directory))
        fault.withstood()
    # The old one until the rename, from then on the new one.
    assert values == sorted(values) and set(values) == {1.0, 2.0}


@pytest.mark.fault(20, "disk full, EIO or quota at each write, fsync, rename of a save")
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EDQUOT"])
def test_a_disk_that_fails_leaves_the_old_one_and_is_named(saver, tmp_path, fault, error):
    calls = saver.save(tmp_path / "undisturbed", 2).calls
    published = max(index for index, (name, _) in enumerate(calls) if name == "fsync")
    for index, (name, number) in enumerate(calls):
        directory = tmp_path / f"{name}-{number}"
        saved = saver.save(directory, 2, f"{name}:error={error}:when={number}")
        assert saved.trace.count("(INJECTED)") == 1 and saved.exit_code == 0
        if index <= published:
            assert saved.report["exit_code"] == 3
            assert saved.report["line"].startswith(f"{directory}/step-00000002")
            assert f"({error})" in saved.report["line"]
            assert not list(directory.glob(".partial-*"))
        else:  # the new one is there; an old one that stays for now is no reason to stop
            assert saved.report["exit_code"] == 0
        assert assert_whole_and_ready(directory) == (1.0 if index < published else 2.0)
        fault.withstood()


@pytest.mark.fault(27, "weights change during a background save")
def test_weights_that_change_during_a_save_do_not_reach_it(saver, tmp_path):
    """The disk takes 50 ms for every file, and the process that waits has changed all values in the meantime."""
    saved = saver.save(tmp_path / "checkpoints", 2, "fsync:delay_enter=50000")
    assert saved.report["exit_code"] == 0 and saved.trace.count("(DELAYED)") > 5
    assert assert_whole_and_ready(tmp_path / "checkpoints") == 2.0
