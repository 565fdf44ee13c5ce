"""The command line as a user types it, and one small real run that the tests of this folder share."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcsurrogate.parallel.launch import PROMISED_RANKS, launcher_command, launcher_environment

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke.yaml"
GRACE = 10.0  # seconds between the request to end and the kill


@dataclass(frozen=True)
class Finished:
    """What a command left behind on the terminal."""

    exit_code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def errors(self) -> list[str]:
        """The lines that say what went wrong; a traceback is among them, since no user may see one.

        Open MPI's mpirun may put a NUL byte before the last line of a rank that aborts; no terminal shows it.
        """
        lines = self.stderr.replace("\0", "").splitlines()
        return [line for line in lines if "error:" in line or line.startswith("Traceback")]


def run_command(*arguments, ranks=0, timeout=60.0, folder=None, largest_file=None) -> Finished:
    """`hpcsurrogate ARGUMENTS`, under mpirun if `ranks` is given, in an empty folder or `folder`.

    No file may grow beyond `largest_file` bytes. Whatever still runs after `timeout` seconds fails the test.
    """
    launcher = launcher_command(ranks) if ranks else []
    environment = launcher_environment(ranks)
    del environment[PROMISED_RANKS]  # a user who types mpirun promises nothing
    limit = None
    if largest_file is not None:
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))  # noqa: E731
    started = time.monotonic()
    process = subprocess.Popen(
        [*launcher, sys.executable, "-m", "hpcsurrogate", *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        start_new_session=True, preexec_fn=limit,
    )  # fmt: skip
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()  # `run` and mpirun hand it on to their ranks
        try:
            stdout, stderr = process.communicate(timeout=GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
        pytest.fail(f"still ran after {timeout} s: {arguments}\n{stdout}\n{stderr}", pytrace=False)
    return Finished(process.returncode, stdout, stderr, time.monotonic() - started)


@pytest.fixture(scope="session")
def command():
    """`command(*arguments, ranks=0, timeout=60, folder=None, largest_file=None)` -> Finished."""
    return run_command


@dataclass(frozen=True)
class Smoke:
    """A finished run of configs/smoke.yaml. Tests must not change it: `copy` gives them one of their own."""

    config: Path
    run_dir: Path
    finished: Finished

    def copy(self, target: Path) -> Path:
        """Copy the whole run directory, times of modification included."""
        return Path(shutil.copytree(self.run_dir, target))


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Smoke:
    run_dir = tmp_path_factory.mktemp("smoke") / "run"
    finished = run_command("run", SMOKE, f"run_dir={run_dir}", timeout=180)
    assert finished.exit_code == 0, finished.stderr
    return Smoke(SMOKE, run_dir, finished)
