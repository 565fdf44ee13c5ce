"""Long runs without a reference beside them: does a closure keep its host finite, and the flow's statistics?"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hpcsurrogate.couple.distances import SPECTRUM_FLOOR
from hpcsurrogate.couple.observation import Observer, Statistics
from hpcsurrogate.evaluate.aposteriori import log_spectrum_error
from hpcsurrogate.physics.hosts import AnyHost, fold_damping


@dataclass(frozen=True)
class LongRun:
    """A long run of b starts beside the statistics of filtered DNS of the same, statistically steady flow."""

    steps: int  # that all starts stayed finite for
    finite: bool  # to the end
    energy_error: float | None  # of the mean over the starts and the last half, relative
    largest_energy_error: float | None  # the same of the start and moment at which it is largest, over the whole run
    spectrum_log_error: float | None  # of the mean over the starts and the last half


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
    host, closure = fold_damping(host, closure)
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


def _spectrum_error(late: Statistics, reference: Statistics) -> float:
    truth = reference.spectrum.double().mean((0, 1))
    filled = truth > SPECTRUM_FLOOR * truth.max()
    return log_spectrum_error(late.spectrum.double().mean((0, 1))[filled], truth[filled])
