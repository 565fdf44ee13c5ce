"""Scores of one coarse run against the filtered DNS of its own grid and layout, on the modes that all runs share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.couple.bootstrap import interval
from hpcsurrogate.couple.budget import Budget, energy_budget, enstrophy_budget
from hpcsurrogate.couple.distances import (
    DISTANCES,
    Ingredients,
    even_weights,
    gather,
)
from hpcsurrogate.couple.observation import Observation, Statistics
from hpcsurrogate.evaluate.aposteriori import decorrelation_time, relative_l2_error, vorticity_correlation


@dataclass(frozen=True)
class Comparison:
    """A run beside its reference at all t times from b starts; fields are gone but for one plane of the first start."""

    correlation: Tensor  # (t, b) of the vorticity [-]
    rollout: Tensor  # (t, b), relative L2 error of the velocity [-]
    run: Statistics
    reference: Statistics
    picture: Tensor  # (t, x, y), `vorticity_plane` of the first start [1/s]

    @staticmethod
    def join(parts: Sequence["Comparison"]) -> "Comparison":
        """All starts of several comparisons side by side."""

        def side_by_side(tensors: list[Tensor]) -> Tensor:
            return torch.cat(tensors, dim=1)

        return Comparison(
            correlation=side_by_side([part.correlation for part in parts]),
            rollout=side_by_side([part.rollout for part in parts]),
            run=Statistics.combine(side_by_side, [part.run for part in parts]),
            reference=Statistics.combine(side_by_side, [part.reference for part in parts]),
            picture=parts[0].picture,
        )


@dataclass(frozen=True)
class Score:
    """Scores of one run. Lists hold one value per start; errors are None where the run blew up."""

    correlation: Tensor  # (t, b)
    rollout: Tensor  # (t, b)
    decorrelation_times: list[float]  # [s]; the end of the run where the threshold is never crossed
    reached_end: bool  # some start never crossed: the mean is a lower bound
    blow_up_time: float | None  # first time [s] at which some start was not finite
    energy_error: float | None
    enstrophy_error: float | None
    energy_budget: Budget | None
    enstrophy_budget: Budget | None
    ingredients: Ingredients

    @property
    def decorrelation_time(self) -> float:
        """Mean over the starts [s]."""
        return float(np.mean(self.decorrelation_times))

    def decorrelation_interval(self, draws: np.ndarray) -> tuple[float, float]:
        """Bootstrap 95 % of the mean [s]; `draws` are the `bootstrap_weights` of the starts."""
        return interval(draws @ np.array(self.decorrelation_times))

    @property
    def stable(self) -> bool:
        """Whether every start stayed finite to the end."""
        return self.blow_up_time is None

    @cached_property
    def distances(self) -> dict[str, float | None]:
        """Each of `DISTANCES`; None where the run blew up, or a shell lost all its energy."""
        if not self.stable:
            return dict.fromkeys(DISTANCES)
        found = self.ingredients.distances(even_weights(len(self.decorrelation_times)))
        return {name: float(found[name][0]) if np.isfinite(found[name][0]) else None for name in DISTANCES}

    @property
    def spectrum_log_error(self) -> float | None:
        """Root mean square over shells of log10(E / E_reference)."""
        return self.distances["spectrum_log_error"]

    @property
    def rollout_error(self) -> float | None:
        """Relative L2 error of the velocity, mean over times and starts."""
        return self.distances["rollout_error"]

    def distance_intervals(self, draws: np.ndarray) -> dict[str, tuple[float, float] | None]:
        """Bootstrap 95 % of each of `DISTANCES`; `draws` are the `bootstrap_weights` of the starts."""
        if not self.stable:
            return dict.fromkeys(DISTANCES)
        spread = self.ingredients.distances(draws)
        return {name: interval(spread[name]) if np.isfinite(spread[name]).all() else None for name in DISTANCES}

    @property
    def dissipation_error(self) -> float | None:
        """Error of all the energy that is lost in the last quarter, relative to the reference's; signed."""
        budget = self.energy_budget
        return None if budget is None else budget.loss / budget.reference_loss - 1 if budget.reference_loss else None


def compare(run: Observation, reference: Observation) -> Comparison:
    """Compare a run with its reference, both stacked over time: axes (t, b, ...).

    Notes
    -----
    NaN where the run is not finite (tests/unit/couple/test_scoring.py).
    """
    times = range(len(run.energy))
    return Comparison(
        correlation=torch.stack([vorticity_correlation(run.vorticity[t], reference.vorticity[t]) for t in times]),
        rollout=torch.stack([relative_l2_error(run.velocity[t], reference.velocity[t]) for t in times]),
        run=run.statistics,
        reference=reference.statistics,
        picture=vorticity_plane(run.vorticity[:, 0]),
    )


def vorticity_plane(vorticity: Tensor) -> Tensor:
    """Return what is drawn: (t, x, y) as it is; of (t, 3, x, y, z) the magnitude in the middle plane of z [1/s]."""
    if vorticity.ndim == 3:
        return vorticity.clone()
    return vorticity[..., vorticity.shape[-1] // 2].square().sum(1).sqrt()


def score_run(run: Observation, reference: Observation, times: Tensor, threshold: float) -> Score:
    """Score one run that is in memory as a whole; arguments as in `compare` and `score`."""
    return score(compare(run, reference), times, threshold)


def score(comparison: Comparison, times: Tensor, threshold: float) -> Score:
    """Score one run.

    Parameters
    ----------
    comparison : Comparison
    times : Tensor, shape (t,) [s]    from the start
    threshold : float [-]    correlation that ends agreement

    Notes
    -----
    The spectrum error compares means over the starts and the last quarter of the run, the distances of distributions
    pool both. The errors of energy and enstrophy are the root mean square over that quarter of the difference of the
    means over the starts, relative to the reference's mean (tests/unit/couple/test_scoring.py).
    """
    run, reference = comparison.run, comparison.reference
    found, crossed = decorrelation_time(times, comparison.correlation, threshold)
    finite = torch.isfinite(run.energy).all(dim=1)
    quarter = last_quarter(len(times))
    stable = bool(finite.all())
    # A budget takes a difference in time.
    window = slice(max(0, min(quarter.start, len(times) - 2)), None)
    return Score(
        correlation=comparison.correlation,
        rollout=comparison.rollout,
        decorrelation_times=[float(value) for value in found],
        reached_end=not bool(crossed.all()),
        blow_up_time=None if stable else float(times[int(torch.nonzero(~finite)[0])]),
        energy_error=_series_error(run.energy[quarter], reference.energy[quarter]) if stable else None,
        enstrophy_error=_series_error(run.enstrophy[quarter], reference.enstrophy[quarter]) if stable else None,
        energy_budget=energy_budget(run, reference, times, window) if stable else None,
        enstrophy_budget=enstrophy_budget(run, reference, times, window) if stable else None,
        ingredients=gather(run, reference, comparison.rollout, quarter),
    )


def last_quarter(num_times: int) -> slice:
    """Return the snapshots of the last quarter of a run, at least the last one."""
    return slice(min(num_times - 1, (3 * num_times) // 4), None)


def mean_spectrum(statistics: Statistics) -> Tensor:
    """Average the spectrum over starts and the last quarter of the run; shape (k,) [m^3/s^2]."""
    return statistics.spectrum[last_quarter(statistics.spectrum.shape[0])].mean(dim=(0, 1))


def _series_error(ours: Tensor, truth: Tensor) -> float:
    difference = ours.mean(dim=1) - truth.mean(dim=1)
    error = float(difference.square().mean().sqrt() / truth.mean())
    return error if math.isfinite(error) else math.inf
