"""Long runs without a reference beside them: does a closure keep its host finite, and the flow's statistics?"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hpcsurrogate.couple.contenders import Entry, build_closure
from hpcsurrogate.couple.distances import SPECTRUM_FLOOR
from hpcsurrogate.couple.observation import Observer, Statistics
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.reference import build_references, place_starts, reference_key
from hpcsurrogate.couple.runs import MAX_BATCH_POINTS
from hpcsurrogate.evaluate.aposteriori import log_spectrum_error
from hpcsurrogate.physics.hosts import AnyHost, fold_closure, make_host

# Rungs are rivals of the learned closure, with which it does no harm to be lenient, and the dearest runs of all.
RUNG_DURATIONS = 5.0


@dataclass(frozen=True)
class LongRun:
    """A long run of b starts beside the statistics of filtered DNS of the same, statistically steady flow."""

    steps: int  # that all starts stayed finite for
    finite: bool  # to the end
    energy_error: float | None  # of the mean over the starts and the last half, relative
    largest_energy_error: float | None  # the same of the start and moment at which it is largest, over the whole run
    spectrum_log_error: float | None  # of the mean over the starts and the last half


@dataclass(frozen=True)
class RecordNoise:
    """Standard errors of what a long run is held against, relative, from the means of the realisations."""

    energy: float
    spectrum: float  # root mean square over the shells: the error of the log spectrum that no closure can be below


def run_recorded(plan: Plan, entry: Entry, num_starts: int, num_steps: int) -> tuple[LongRun, RecordNoise]:
    """Run a contender from snapshots of the realisations of a plan, held against the statistics of their records.

    Parameters
    ----------
    plan : Plan         of a statistically steady flow, with at least two realisations
    entry : Entry       its constants set
    num_starts : int    spread evenly over the realisations, the same number in each, at least so many
    num_steps : int     of the entry's time step

    Returns
    -------
    LongRun
    RecordNoise
    """
    of_each = math.ceil(num_starts / len(plan.realisations))
    starts = place_starts(plan, plan.realisations, of_each)
    reference = build_references(plan, [entry.host], starts)[reference_key(entry.host)]
    host = make_host(entry.host, plan.experiment.flow)
    run = run_long(host, build_closure(plan, entry, host), reference.velocity, reference.statistics, num_steps)
    return run, record_noise(reference.statistics, of_each)


def record_noise(reference: Statistics, of_each: int) -> RecordNoise:
    """Return how well records know their means; `of_each` neighbours along the axis b belong to one realisation."""

    def relative_error(series: Tensor) -> Tensor:
        means = series.double().mean(0).unflatten(0, (-1, of_each)).mean(1)
        return means.std(0) / means.mean(0) / math.sqrt(len(means))

    spectrum = relative_error(reference.spectrum)[_filled(reference)]
    return RecordNoise(float(relative_error(reference.energy)), float(spectrum.square().mean().sqrt()))


@torch.no_grad()
def run_long(
    host: AnyHost,
    closure: Callable[[Tensor], Tensor] | None,
    velocity: Tensor,
    reference: Statistics,
    num_steps: int,
    num_observations: int = 100,
) -> LongRun:
    """Run all starts for many steps as one batch.

    Parameters
    ----------
    host : AnyHost
    closure : callable or None
    velocity : Tensor, shape (b, d, nx, ny[, nz]) [m/s]    the starts
    reference : Statistics    axes (t, b, ...), of filtered DNS on the host's own grid
    num_steps : int           of the host's time step
    num_observations : int    evenly spread; between them nothing is looked at

    Notes
    -----
    A laminar flow stays what it is, and one that is driven without loss is found out
    (tests/unit/couple/test_stability.py).
    """
    host, closure = fold_closure(host, closure)
    observer = Observer(host, host.grid.shape)
    state = host.encode(velocity)
    steps, seen = 0, []
    for number in range(1, num_observations + 1):
        target = round(number * num_steps / num_observations)
        for _ in range(target - steps):
            state = host.step(state, closure)
        observation = observer.observe(host.decode(state)).statistics
        if not torch.isfinite(observation.energy).all():
            return LongRun(steps, False, None, None, None)
        steps = target
        seen.append(observation)
    series = Statistics.combine(torch.stack, seen)
    mean_energy = reference.energy.double().mean()
    late = series.map(lambda part: part[num_observations // 2 :])
    return LongRun(
        steps=steps,
        finite=True,
        energy_error=float(late.energy.double().mean() / mean_energy - 1),
        largest_energy_error=float((series.energy.double() / mean_energy - 1).abs().max()),
        spectrum_log_error=_spectrum_error(late, reference),
    )


@dataclass(frozen=True)
class Endurance:
    """Whether all starts stayed finite when a run was carried on beyond its comparison with DNS. Times in [s]."""

    duration: float  # that was asked for, from the start of the comparison
    blow_up_time: float | None  # when some start was first seen not to be finite


def carry_on(plan: Plan, entry: Entry, velocity: Tensor) -> Endurance | None:
    """Run an entry from starts at the points of its host for `couple.long_run`; None if that is nothing.

    A rung of a ladder for no more than `RUNG_DURATIONS` (tests/unit/couple/test_stability.py).
    """
    durations = plan.experiment.couple.long_run
    if entry.ladder_of is not None:
        durations = min(durations, RUNG_DURATIONS)
    num_intervals = round(durations * plan.num_intervals)
    if not num_intervals:
        return None
    host = make_host(entry.host, plan.experiment.flow)
    host, closure = fold_closure(host, build_closure(plan, entry, host))
    return run_on(host, closure, velocity, plan.interval, entry.steps_per_snapshot, num_intervals)


@torch.no_grad()
def run_on(
    host: AnyHost,
    closure: Callable[[Tensor], Tensor] | None,
    velocity: Tensor,
    interval: float,
    steps_per_interval: int,
    num_intervals: int,
) -> Endurance:
    """Run all starts, some at a time; what they do is not looked at, only whether it is finite.

    Parameters
    ----------
    host : AnyHost            what it can take of the closure folded in already
    closure : callable or None
    velocity : Tensor, shape (b, d, nx, ny[, nz]) [m/s]    the starts
    interval : float [s]      after which it is looked at, in so many steps

    Notes
    -----
    One that grows slowly is found, when it has (tests/unit/couple/test_stability.py).
    """
    size, blow_ups = max(1, MAX_BATCH_POINTS // velocity[0, 0].numel()), []
    for starts in velocity.split(size):
        state = host.encode(starts)
        for number in range(1, num_intervals + 1):
            for _ in range(steps_per_interval):
                state = host.step(state, closure)
            if not torch.isfinite(host.decode(state)).all():
                blow_ups.append(number * interval)
                break
    return Endurance(num_intervals * interval, min(blow_ups, default=None))


def _spectrum_error(late: Statistics, reference: Statistics) -> float:
    truth, filled = reference.spectrum.double().mean((0, 1)), _filled(reference)
    return log_spectrum_error(late.spectrum.double().mean((0, 1))[filled], truth[filled])


def _filled(reference: Statistics) -> Tensor:
    """Which shells hold energy."""
    truth = reference.spectrum.double().mean((0, 1))
    return truth > SPECTRUM_FLOOR * truth.max()
