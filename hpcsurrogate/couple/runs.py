"""Run a coarse solver with a closure from all starts and observe it at every snapshot time."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hpcsurrogate.couple.contenders import ClosureFunction
from hpcsurrogate.couple.observation import Observation, Observer

# Larger batches fall out of the cache and cost more per start than several smaller ones.
MAX_BATCH_POINTS = 2**16


def run_starts(
    observer: Observer,
    closure: ClosureFunction | None,
    velocity: Tensor,
    num_intervals: int,
    steps_per_snapshot: int,
    watch: Callable[[Tensor], None] | None = None,
) -> Iterator[tuple[slice, Observation]]:
    """Run all starts to the end, some at a time, so that only their fields are in memory; arguments as in `run_batch`.

    Yields
    ------
    (slice, Observation)    which starts, and their observation as from `run_batch`
    """
    size = max(1, MAX_BATCH_POINTS // velocity[0, 0].numel())
    for first in range(0, len(velocity), size):
        starts = slice(first, first + size)
        yield starts, run_batch(observer, closure, velocity[starts], num_intervals, steps_per_snapshot, watch=watch)


@torch.no_grad()
def run_batch(
    observer: Observer,
    closure: ClosureFunction | None,
    velocity: Tensor,
    num_intervals: int,
    steps_per_snapshot: int,
    stop: Callable[[int, Observation], bool] | None = None,
    watch: Callable[[Tensor], None] | None = None,
) -> Observation:
    """Run a batch of starts.

    Parameters
    ----------
    observer : Observer    of the host that runs
    closure : callable or None
    velocity : Tensor, shape (b, d, nx, ny[, nz]) [m/s]    the starts, at the points of the host
    num_intervals : int    snapshot intervals to run
    steps_per_snapshot : int    time steps in each
    stop : callable, optional    told the snapshot's index and the observation; the run ends where it returns True
    watch : callable, optional    shown the velocity, of the same shape, at each of these times

    Returns
    -------
    Observation stacked over num_intervals + 1 times, the start included
        NaN from where a start blew up, and after `stop`
    """
    host = observer.host

    def observe(state: Tensor) -> Observation:
        velocity = host.decode(state)
        if watch is not None:
            watch(velocity)
        return observer.observe(velocity)

    state = host.encode(velocity)
    observations = [observe(state)]
    for index in range(1, num_intervals + 1):
        for _ in range(steps_per_snapshot):
            state = host.step(state, closure)
        observations.append(observe(state))
        alive = torch.isfinite(observations[-1].energy)
        if not alive.any() or (stop is not None and stop(index, observations[-1])):
            break
    return _pad(Observation.combine(torch.stack, observations), num_intervals + 1)


def _pad(observation: Observation, num_times: int) -> Observation:
    """Fill the times after the end of a run with NaN."""
    missing = num_times - observation.energy.shape[0]

    def extend(part: Tensor) -> Tensor:
        return torch.cat([part, part.new_full((missing, *part.shape[1:]), torch.nan)])

    return observation.map(extend)
