"""What a time step costs: batch 1, one thread, all contenders in turn, the median of several rounds."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hpcsurrogate.couple.contenders import ClosureFunction
from hpcsurrogate.physics.hosts import AnyHost

WARM_UP_STEPS = 4  # the second call of a TorchScript file still compiles
ROUNDS = 7
ROUND_SECONDS = 0.03  # long against the clock and the scheduler, short enough for twenty contenders


@dataclass(frozen=True)
class TimedRun:
    """What is timed: a host, its closure, and one start of shape (1, d, nx, ny[, nz]) [m/s]."""

    host: AnyHost
    closure: ClosureFunction | None
    velocity: Tensor


@torch.no_grad()
def measure_costs(runs: Sequence[TimedRun]) -> list[float]:
    """Measure the time of one step of every run.

    The rounds go over all runs in turn, so that a disturbance of the machine meets all alike, and each starts again
    from the same state, so that an unstable run is timed on ordinary numbers.

    Returns
    -------
    list of float [s]    in the order of `runs`
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        states = [run.host.encode(run.velocity) for run in runs]
        lengths = [_steps_per_round(run, state) for run, state in zip(runs, states, strict=True)]
        rounds = [
            [_time_step(run, state, steps) for run, state, steps in zip(runs, states, lengths, strict=True)]
            for _ in range(ROUNDS)
        ]
    finally:
        torch.set_num_threads(num_threads)
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def _steps_per_round(run: TimedRun, state: Tensor) -> int:
    _time_step(run, state, WARM_UP_STEPS)
    return max(2, round(ROUND_SECONDS / _time_step(run, state, 2)))


def _time_step(run: TimedRun, state: Tensor, steps: int) -> float:
    started = time.perf_counter()
    for _ in range(steps):
        state = run.host.step(state, run.closure)
    return (time.perf_counter() - started) / steps
