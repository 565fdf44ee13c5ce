"""A few real training steps on a number of ranks, in a run directory that is thrown away."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import RankLostError, RequeueRequested
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.parallel.guard import die_with_parent
from hpcsurrogate.parallel.launch import launcher_command, launcher_environment
from hpcsurrogate.pipeline.runner import ERRORS_BY_EXIT_CODE
from hpcsurrogate.pipeline.training_status import read_records
from hpcsurrogate.study.children import StopSignals, first_error
from hpcsurrogate.study.runs import linked_run
from hpcsurrogate.study.tune_keys import last_phase

WARM_UP_STEPS = 3  # first calls allocate memory, and files are read for the first time
SECONDS_BETWEEN_LOOKS = 0.1
NEVER = 10**9


@dataclass(frozen=True)
class Measurement:
    """Steps of one training.

    Attributes
    ----------
    ranks, batch_size : int [-]
    seconds : ndarray, shape (steps,)    wall time of each step [s]
    """

    ranks: int
    batch_size: int
    seconds: np.ndarray

    @property
    def median(self) -> float:
        """Median time of a step [s]."""
        return float(np.median(self.seconds))

    @property
    def samples_per_second(self) -> float:
        """Samples (or windows) of all ranks together [1/s]."""
        return self.batch_size / self.median


def time_steps(
    experiment: Experiment, directory: Path, ranks: int, batch_size: int, steps: int, stop: StopSignals
) -> Measurement:
    """Train for some steps of the last phase, which takes most of the time, and return how long they took.

    Parameters
    ----------
    experiment : Experiment    whose run directory holds the prepared data
    directory : Path           of the throw-away run; what is there goes, and nothing is left of it
    ranks, batch_size, steps : int [-]
    stop : StopSignals         hands requests to stop to the training

    Raises
    ------
    RequeueRequested     if the training was asked to stop from outside
    HpcsurrogateError    of the class whose exit code the training gave, with its last line
    """
    total = WARM_UP_STEPS + steps
    shutil.rmtree(directory, ignore_errors=True)  # of a measurement that was killed
    try:
        linked_run(experiment, directory, _overrides(experiment, batch_size, total))
        records = _train(experiment, directory, ranks, total, stop)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    records = records[WARM_UP_STEPS:]
    plain = [record["seconds"] for record in records if "validation_loss" not in record]
    return Measurement(ranks, batch_size, np.array(plain or [record["seconds"] for record in records]))


def _overrides(experiment: Experiment, batch_size: int, steps: int) -> list[str]:
    """Changes to the experiment: one phase, long enough, of windows of the final length, without what disturbs it."""
    unrolled = last_phase(experiment) == "unrolled"
    return [
        "train.tensorboard=false",
        "train.time_limit=null",
        f"train.checkpoint_every={NEVER}",
        f"train.patience={NEVER}",
        f"train.validate_every={NEVER}",
        # The phase that is left out must not stumble over its batch either.
        f"train.apriori.batch_size={batch_size}",
        f"train.unrolled.batch_size={batch_size}",
        f"train.apriori.epochs={0 if unrolled else steps}",
        f"train.unrolled.iterations={steps + 1 if unrolled else 0}",  # the last one validates
        f"train.unrolled.snapshots=[{max(experiment.train.unrolled.snapshots)}]",
    ]


def _train(experiment: Experiment, directory: Path, ranks: int, steps: int, stop: StopSignals) -> list[dict]:
    """The records of the first steps of a real training on ranks."""
    paths, log = RunPaths(directory), directory / "output.log"
    program = [sys.executable, "-m", "mpi4py", "-m", "hpcsurrogate", "train", str(paths.config)]
    command = launcher_command(ranks, experiment.threads_per_rank) + program
    environment = launcher_environment(ranks, experiment.threads_per_rank)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=functools.partial(die_with_parent, os.getpid(), signal.SIGTERM),
        )
        with stop.handed_to(process):
            records = _follow(process, paths.metrics, steps)
    if stop.received:
        raise RequeueRequested("scaling: stopped on request; run the same command to measure anew")
    if len(records) < steps:
        kind = ERRORS_BY_EXIT_CODE.get(process.returncode, RankLostError)
        raise kind(f"scaling: the training on {ranks} rank(s) ended early: {first_error(log) or _last_line(log)}")
    return records


def _follow(process: subprocess.Popen, metrics: Path, steps: int) -> list[dict]:
    """Wait until so many steps are recorded, ask the training to stop, and return their records."""
    asked = False
    while process.poll() is None:
        if not asked and len(read_records(metrics)) >= steps:
            process.send_signal(signal.SIGUSR1)
            asked = True
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return read_records(metrics)[:steps]


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
