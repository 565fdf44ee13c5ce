"""Start the real command on ranks, find the processes of every rank, see what survives.

Shared by tests/faults and scripts/fault_campaign.py. Processes of a job are found by a variable in their environment,
so that none is missed that left its process group or lost its parent.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.parallel.launch import PROMISED_RANKS, launcher_command, launcher_environment

JOB = "HPCSURROGATE_FAULT_JOB"
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
POLL = 0.02  # [s]


@dataclass(frozen=True, order=True)
class RankProcess:
    """The two processes of a rank."""

    rank: int
    guard: int  # watches over the other; the parent
    worker: int  # computes; the child


@dataclass(frozen=True)
class Finished:
    """What a job left behind on the terminal, and when it ended, by time.monotonic()."""

    exit_code: int
    stdout: str
    stderr: str
    ended_at: float

    @property
    def errors(self) -> list[str]:
        """The lines that say what went wrong; a traceback is among them, since no user may see one."""
        lines = self.stderr.splitlines()
        return [line for line in lines if "error:" in line or line.startswith("Traceback")]


class Job:
    """A stage of an experiment under mpirun, in a session of its own.

    Parameters
    ----------
    experiment_file, run_dir : Path
    overrides : sequence of str     `section.key=value`
    ranks : int
    environment : mapping           more variables for the ranks
    stage : str                     what is started: `hpcsurrogate <stage>`

    Attributes
    ----------
    process : subprocess.Popen      mpirun
    """

    def __init__(
        self,
        experiment_file: Path,
        run_dir: Path,
        overrides: Sequence[str] = (),
        ranks: int = 2,
        environment: Mapping[str, str] | None = None,
        stage: str = "train",
    ):
        self._metrics = RunPaths(run_dir).metrics
        # Held open, so that no new file gets its number: lines of an earlier job must not pass for those of this one.
        self._metrics_before = self._metrics.open() if self._metrics.exists() else None
        self._stdout, self._stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115  as long as the job
        self._token = uuid.uuid4().hex
        variables = launcher_environment(ranks) | (environment or {}) | {JOB: self._token}
        del variables[PROMISED_RANKS]  # a user who types mpirun promises nothing
        # Where a killed mpirun leaves its files, to go with the test's.
        variables["PRTE_MCA_prte_tmpdir_base"] = str(run_dir.parent)
        program = [sys.executable, "-m", "mpi4py", "-m", "hpcsurrogate", stage, str(experiment_file)]
        self.process = subprocess.Popen(
            [*launcher_command(ranks), *program, f"run_dir={run_dir}", *overrides],
            env=variables, stdout=self._stdout, stderr=self._stderr, start_new_session=True,
        )  # fmt: skip

    @property
    def stderr(self) -> str:
        """What was said so far."""
        return _content(self._stderr)

    def ranks(self) -> list[RankProcess]:
        """The ranks of which both processes live, by rank: all of them once a step was done."""
        members = self._members()
        of_rank = {pid: rank for pid, (rank, _) in members.items() if rank is not None}
        workers = {members[pid][1]: pid for pid in of_rank if members[pid][1] in of_rank}
        guards = [pid for pid in workers if members[pid][1] not in of_rank]
        return sorted(RankProcess(of_rank[guard], guard, workers[guard]) for guard in guards)

    def step(self) -> int:
        """The last step in metrics.jsonl that this job has written, 0 if there is none."""
        try:
            with self._metrics.open() as file:
                before = self._metrics_before
                if before and os.path.samestat(os.fstat(before.fileno()), os.fstat(file.fileno())):
                    return 0
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return 0
        whole = [line for line in lines if line.endswith("\n")]
        return json.loads(whole[-1])["step"] if whole else 0

    def wait_for_step(self, step: int, timeout: float = 150.0) -> None:
        """Wait until a step, or a later one, stands in metrics.jsonl.

        Raises
        ------
        AssertionError    if the job ends before that, or the time is over
        """
        deadline = time.monotonic() + timeout
        while self.step() < step:
            assert self.process.poll() is None, (
                f"ended with {self.process.returncode} before step {step}\n{self.stderr}"
            )
            assert time.monotonic() < deadline, f"step {step} was not reached within {timeout} s\n{self.stderr}"
            time.sleep(POLL)

    def finish(self, timeout: float = 150.0) -> Finished:
        """Wait for the launcher.

        Raises
        ------
        AssertionError    if the job outlasts `timeout` seconds; all of it is killed then
        """
        try:
            exit_code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still ran after {timeout} s\n{_content(self._stdout)}\n{self.stderr}") from None
        ended_at = time.monotonic()
        return Finished(exit_code, _content(self._stdout), self.stderr, ended_at)

    def living(self) -> dict[int, str]:
        """Process number -> command line of everything of this job that lives, the launcher included."""
        return {pid: _command_line(pid) for pid in self._members()}

    def assert_nothing_survives(self, within: float = 5.0) -> None:
        """Assert that no process of the job lives, or all end within so many seconds."""
        deadline = time.monotonic() + within
        while living := self.living():
            assert time.monotonic() < deadline, f"still alive {within} s after the end: {living}"
            time.sleep(POLL)

    def kill(self) -> None:
        """Kill everything of the job, whatever it is doing."""
        while members := self._members():
            for pid in members:
                send(pid, signal.SIGKILL)
            time.sleep(POLL)
        self.process.wait()

    def _members(self) -> dict[int, tuple[int | None, int]]:
        """Process number -> (rank or None, parent) of what lives."""
        mark, found = f"{JOB}={self._token}".encode(), {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")  # empty for one that has ended
                if mark not in variables:
                    continue
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it ended in the meantime
                continue
            found[int(entry.name)] = (_rank(variables), parent)
        return found


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; that the process ended a moment before is as good."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _rank(variables: Sequence[bytes]) -> int | None:
    values = dict(variable.split(b"=", 1) for variable in variables if b"=" in variable)
    return next((int(values[name.encode()]) for name in RANK_VARIABLES if name.encode() in values), None)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "ended in the meantime"


def _content(file: IO[bytes]) -> str:
    # Open MPI puts a NUL before what a rank says last before it ends all; no terminal shows it.
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode(errors="replace").replace("\0", "")
