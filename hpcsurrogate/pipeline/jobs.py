"""SLURM's jobs of a run directory: slurm/jobs.json names them, squeue knows what became of them."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths

SLURM_SECONDS = 60.0  # [s] for an answer of SLURM
INVALID_JOB = "Invalid job id"  # what squeue says of a single job that is over


@dataclass(frozen=True)
class QueuedJob:
    """A job that SLURM has not done with yet.

    Attributes
    ----------
    number : str    job id
    group : str     the group of stages that it does
    state : str     PENDING, RUNNING, ... as squeue says
    reason : str    why it waits, or where it runs
    """

    number: str
    group: str
    state: str
    reason: str


def slurm_folder(paths: RunPaths) -> Path:
    """Where batch scripts, their output and jobs.json lie."""
    return paths.run_dir / "slurm"


def submitted_jobs(paths: RunPaths) -> dict[str, str]:
    """Group of stages -> job id, of what was submitted last; empty if nothing was.

    Raises
    ------
    DataError    if jobs.json is damaged
    """
    file = slurm_folder(paths) / "jobs.json"
    if not file.exists():
        return {}
    jobs = read_json(file)
    if not isinstance(jobs, dict) or not all(isinstance(job, str) and job.isdecimal() for job in jobs.values()):
        raise DataError(f"{file}: does not hold job numbers; look with `squeue --me`, then remove the file")
    return jobs


def record_jobs(paths: RunPaths, jobs: dict[str, str]) -> None:
    """Write jobs.json anew."""
    write_json_atomic(slurm_folder(paths) / "jobs.json", jobs)


def queued_jobs(paths: RunPaths) -> list[QueuedJob]:
    """Those of the submitted jobs that wait or run.

    Raises
    ------
    ConfigError    if there are submitted jobs and SLURM cannot be asked
    DataError      if jobs.json is damaged
    """
    groups = {number: group for group, number in submitted_jobs(paths).items()}
    if not groups:
        return []
    command = ["squeue", "--noheader", f"--jobs={','.join(groups)}", "--states=all", "--format=%A|%T|%R"]
    try:
        answer = ask_slurm(command)
    except ConfigError as error:
        if INVALID_JOB in str(error):
            return []
        raise
    found = [line.strip().split("|", 2) for line in answer.splitlines() if line.strip()]
    return [
        QueuedJob(number, groups[number], state, reason.strip("()"))
        for number, state, reason in found
        if number in groups and state not in ENDED
    ]


# States in which a job stays known for some minutes after its end.
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
     "REVOKED", "TIMEOUT"}
)  # fmt: skip


def ask_slurm(command: Sequence[str]) -> str:
    """Run one of SLURM's programs and return what it prints.

    Raises
    ------
    ConfigError    if it is not there, does not answer or refuses, with its own words
    """
    program = shutil.which(command[0])
    if program is None:
        raise ConfigError(
            f"{command[0]}: not on PATH; load SLURM's module, or try it at a desk with scripts/local_slurm.sh start"
        )
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=SLURM_SECONDS)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{command[0]}: no answer in {SLURM_SECONDS:.0f} s; is SLURM's controller up?") from None
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        raise ConfigError(f"{command[0]}: {words}")
    return done.stdout
