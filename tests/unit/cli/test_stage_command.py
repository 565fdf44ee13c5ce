"""What surrounds a stage on the command line: one command for all ranks, requests to stop, and its guard."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpcsurrogate.cli.commands import leaving_on_request, require_same_command
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.hang import process_state, wait_until
from hpcsurrogate.parallel.world import World

SMOKE = Path(__file__).parents[3] / "configs" / "smoke.yaml"


class Ranks:
    """A world whose ranks were started with these commands."""

    def __init__(self, *commands: str):
        self._commands = list(commands)

    def allgather(self, command: str) -> list[str]:
        assert command in self._commands
        return self._commands


def test_ranks_with_another_command_line_are_named():
    require_same_command(Ranks("train a.yaml", "train a.yaml"), "train a.yaml")
    expected = re.escape("rank 2 was started with `hpcsurrogate train b.yaml`, rank 0 with `hpcsurrogate train a.yaml`")
    with pytest.raises(ConfigError, match=expected):
        require_same_command(Ranks("train a.yaml", "train a.yaml", "train b.yaml"), "train a.yaml")


SWALLOWED = """
import os, signal, time
from hpcsurrogate.cli.commands import leaving_on_request
from hpcsurrogate.parallel.world import World
with leaving_on_request("prepare", World()):
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(10)
    except BaseException:
        print("swallowed")
"""


def test_a_request_to_stop_ends_the_process_whatever_it_is_doing():
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr == (
        "hpcsurrogate: error: prepare stopped on request; what is finished is kept, run the same command to go on\n"
    )


def test_the_handler_goes_with_the_block():
    before = signal.getsignal(signal.SIGUSR1)
    with leaving_on_request("prepare", World()):
        assert signal.getsignal(signal.SIGUSR1) != before
    assert signal.getsignal(signal.SIGUSR1) == before


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_stage_has_a_guard_and_stops_with_code_75(tmp_path):
    """Asked to stop in the middle of the DNS, whose 400 realisations would take minutes."""
    run_dir = tmp_path / "run"
    overrides = (f"run_dir={run_dir}", "simulate.realisations=400", "simulate.spin_up_coarse=0", "simulate.spin_up=0")
    process = subprocess.Popen(
        [sys.executable, "-m", "hpcsurrogate", "simulate", str(SMOKE), *overrides],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        progress = run_dir / "raw" / ".progress"
        assert wait_until(lambda: progress.is_dir() and any(progress.glob("realisation-*.json")), 60.0)
        (stage,) = children(process.pid)
        process.send_signal(signal.SIGUSR1)
        _, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 75
    assert stderr.splitlines()[-1] == (
        "hpcsurrogate: error: simulate stopped on request; what is finished is kept, run the same command to go on"
    )
    assert process_state(stage) == "Z"
    shards = {path.name for path in (run_dir / "raw").glob("*.hdf5")}
    assert {path.name.removesuffix(".json") for path in progress.glob("realisation-*.json")} <= shards
