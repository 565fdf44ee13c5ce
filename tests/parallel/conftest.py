"""Start scripts on MPI ranks from a test, with a time limit that also holds when ranks hang."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcsurrogate.parallel.launch import launcher_command, launcher_environment

GRACE = 3.0  # seconds between the request to end and the kill


@pytest.fixture
def mpi_process(tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """`mpi_process(script, ranks=2, timeout=60, arguments=(), environment=None)` -> CompletedProcess.

    `script` is the path of a Python file or the text of one. Any exit code is fine, but ranks that outlast `timeout`
    seconds fail the test.
    """

    def start(script, ranks=2, timeout=60, arguments=(), environment=None):
        program = [sys.executable, "-m", "mpi4py", _as_file(script, tmp_path), *map(str, arguments)]
        return run_with_limit(
            launcher_command(ranks) + program, timeout, launcher_environment(ranks) | (environment or {})
        )

    return start


@pytest.fixture
def run_mpi(mpi_process) -> Callable[..., str]:
    """`run_mpi(script, ranks=2, timeout=60, arguments=())` -> standard output of all ranks.

    A rank that fails, fails the test.
    """

    def start(script, ranks=2, timeout=60, arguments=()):
        done = mpi_process(script, ranks, timeout, arguments)
        if done.returncode != 0:
            pytest.fail(f"exit code {done.returncode} on {ranks} ranks\n{done.stdout}\n{done.stderr}", pytrace=False)
        return done.stdout

    return start


def run_with_limit(command, timeout, environment) -> subprocess.CompletedProcess:
    """Run a command in a session of its own; at the limit end the whole session and fail the test."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _end_session(process)
        stdout, stderr = process.communicate(timeout=2 * GRACE)
        pytest.fail(f"ranks still ran after {timeout} s\n{stdout}\n{stderr}", pytrace=False)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _end_session(process):
    """Ask the launcher to end its ranks; kill what remains: process groups differ, the session is one."""
    process.terminate()
    deadline = time.monotonic() + GRACE
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == process.pid:
                os.kill(int(entry.name), signal.SIGKILL)
        except ProcessLookupError:  # ended in the meantime
            continue


def _as_file(script, directory) -> str:
    if isinstance(script, Path):
        return str(script)
    number = sum(1 for _ in directory.glob("mpi-script-*.py"))
    path = directory / f"mpi-script-{number}.py"
    path.write_text(script, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session", autouse=True)
def _launcher_installed():
    """An MPI test without a launcher is an error of the set-up, never a skipped test."""
    if shutil.which("mpirun", path=str(Path(sys.executable).parent)) is None and shutil.which("mpirun") is None:
        pytest.exit("mpirun is missing: run `make install`", returncode=2)
