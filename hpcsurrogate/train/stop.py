"""When training has to stop early: a batch system's signal, or the end of the wall time. Both await the step's end."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from types import FrameType
from typing import Self

from hpcsurrogate.core.log import get_logger

log = get_logger("train")

LEAVING = 20.0  # [s] for ending all ranks and queueing the job again, after the checkpoint
SQUEUE_SECONDS = 30.0  # [s] that SLURM has for an answer


class StopRequest:
    """Context manager that notes SIGTERM, SIGUSR1 and the end of the wall time, and gives the old handlers back.

    The wall time ends `time_limit` seconds after this object was made, or with the job's own limit under SLURM. For the
    latter the request comes so early that two more steps and two more checkpoints fit, each as long as the longest that
    was reported, and what it takes to leave.

    Parameters
    ----------
    time_limit : float or None    `train.time_limit` [s]
    watch_job : bool              whether to ask for the job's limit; one rank is enough, since ranks agree on stopping

    Notes
    -----
    A second signal changes nothing. tests/unit/train/test_stop.py shows each cause, and the margin.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self, time_limit: float | None = None, watch_job: bool = False) -> None:
        self._signal: str | None = None
        self._limit_at = None if time_limit is None else time.monotonic() + time_limit
        self._job_ends_at = job_end_time(os.environ) if watch_job else None
        self._longest_step = self._longest_save = 0.0

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._remember) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def received(self) -> bool:
        """Whether this rank has to stop after the step that it does."""
        return self.reason is not None

    @property
    def reason(self) -> str | None:
        """Why this rank has to stop, None if it has not."""
        if self._signal is not None:
            return self._signal
        if self._limit_at is not None and time.monotonic() >= self._limit_at:
            return "train.time_limit is over"
        if self._job_ends_at is not None and time.time() >= self._job_ends_at - self._margin:
            return "the job's wall time ends"
        return None

    @property
    def _margin(self) -> float:
        return LEAVING + 2.0 * (self._longest_step + self._longest_save)

    def step_took(self, seconds: float) -> None:
        """Report how long a step took, its validation included."""
        self._longest_step = max(self._longest_step, seconds)

    def save_took(self, seconds: float) -> None:
        """Report how long a checkpoint took until it was on the disk."""
        self._longest_save = max(self._longest_save, seconds)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._signal = f"{signal.Signals(number).name} came"


def job_end_time(environment: Mapping[str, str]) -> float | None:
    """When the limit of this SLURM job is reached.

    Parameters
    ----------
    environment : mapping    the process's variables

    Returns
    -------
    float or None    seconds since 1970; None outside a job, in a job without limit, and, with a warning, if SLURM does
                     not say (then signals alone stop the training)
    """
    job = environment.get("SLURM_JOB_ID")
    if job is None:
        return None
    # Newer versions of SLURM tell the job itself.
    answer = environment.get("SLURM_JOB_END_TIME") or _ask_squeue(job, environment)
    if answer.isdecimal():
        return float(answer)
    if answer not in ("NONE", "N/A", "Unknown"):  # what squeue says of a job without limit
        log.warning("the end of job %s is not known (%s); set train.time_limit to stop in time", job, answer)
    return None


def _ask_squeue(job: str, environment: Mapping[str, str]) -> str:
    squeue = shutil.which("squeue", path=environment.get("PATH"))
    if squeue is None:
        return "squeue is not on PATH"
    try:
        done = subprocess.run(
            [squeue, "--noheader", f"--jobs={job}", "--format=%e"],
            env={**environment, "SLURM_TIME_FORMAT": "%s"}, capture_output=True, text=True, timeout=SQUEUE_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"squeue did not answer in {SQUEUE_SECONDS:.0f} s"
    return done.stdout.strip() or done.stderr.strip() or "squeue said nothing"
