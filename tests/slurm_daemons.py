"""A real SLURM for the tests of a module: one controller and two node daemons on this machine."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOCAL_SLURM = Path(__file__).resolve().parents[1] / "scripts" / "local_slurm.sh"
TIMEOUT = 120.0  # [s] for anything; what takes seconds on a quiet machine
POLL = 0.1  # [s]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A SLURM of these tests' own, that all programs of SLURM started from here ask; afterwards nothing of it lives."""
    directory = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([LOCAL_SLURM, "start", directory], capture_output=True, text=True, timeout=300)
    assert started.returncode == 0, started.stderr
    configuration = directory / "slurm.conf"
    assert started.stdout.strip() == f"export SLURM_CONF={configuration}"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SLURM_CONF", str(configuration))
        # `python` in a batch script is this one.
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        yield directory
        subprocess.run([LOCAL_SLURM, "stop", directory], check=True, timeout=60)
    assert processes_with(f"LOCAL_SLURM={directory}") == {}
    assert wait_until(lambda: not processes_with(f"SLURM_CONF={configuration}", "SLURM_PROCID=")), "ranks live on"


def ask(*command) -> str:
    """Run a program and return what it prints."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def processes_with(*variables: str) -> dict[int, str]:
    """Number -> command line of the processes whose environment holds variables that begin so."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
            if all(any(value.startswith(variable) for value in environment) for variable in variables):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended in the meantime
            continue
    return found


def wait_until(condition, timeout: float = TIMEOUT) -> bool:
    """Wait until the condition holds; False if it does not within the time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True
