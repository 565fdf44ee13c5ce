"""Scores of one coarse run against the filtered DNS of its own grid and layout, on the modes that all runs share."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.couple.observation import Observation
from hpcsurrogate.evaluate.aposteriori import decorrelation_time, log_spectrum_error, vorticity_correlation

BOOTSTRAP_RESAMPLES = 2000
SPECTRUM_FLOOR = 1e-10  # of the fullest shell; float32 round-off, squared, stays below 1e-12
Array = np.ndarray


@dataclass(frozen=True)
class Score:
    """Scores of one run. Lists hold one value per start; errors are None where the run blew up."""

    correlation: Tensor  # (t, b)
    decorrelation_times: list[float]  # [s]; the end of the run where the threshold is never crossed
    decorrelation_interval: tuple[float, float]  # bootstrap 95 % of the mean [s]
    reached_end: bool  # some start never crossed: the mean is a lower bound
    blow_up_time: float | None  # first time [s] at which some start was not finite
    spectrum_log_error: float | None  # None also if a shell lost all its energy
    energy_error: float | None
    enstrophy_error: float | None

    @property
    def decorrelation_time(self) -> float:
        """Mean over the starts [s]."""
        return float(np.mean(self.decorrelation_times))

    @property
    def stable(self) -> bool:
        """Whether every start stayed finite to the end."""
        return self.blow_up_time is None


def correlation_series(run: Observation, reference: Observation) -> Tensor:
    """Correlate the vorticity of a run with the reference's.

    Returns
    -------
    Tensor, shape (t, b) [-]    NaN where the run is not finite
    """
    pairs = zip(run.vorticity, reference.vorticity, strict=True)
    return torch.stack([vorticity_correlation(ours, truth) for ours, truth in pairs])


def score_run(run: Observation, reference: Observation, times: Tensor, threshold: float) -> Score:
    """Score one run.

    Parameters
    ----------
    run, reference : Observation    stacked over the t times
    times : Tensor, shape (t,) [s]    from the start
    threshold : float [-]    correlation that ends agreement

    Notes
    -----
    The spectrum error compares means over the starts and the last quarter of the run. The errors of energy and
    enstrophy are the root mean square over that quarter of the difference of the means over the starts, relative to
    the reference's mean (tests/unit/couple/test_scoring.py).
    """
    correlation = correlation_series(run, reference)
    found, crossed = decorrelation_time(times, correlation, threshold)
    decorrelation_times = [float(value) for value in found]
    finite = torch.isfinite(run.energy).all(dim=1)
    quarter = last_quarter(len(times))
    stable = bool(finite.all())
    return Score(
        correlation=correlation,
        decorrelation_times=decorrelation_times,
        decorrelation_interval=bootstrap_interval(np.array(decorrelation_times)),
        reached_end=not bool(crossed.all()),
        blow_up_time=None if stable else float(times[int(torch.nonzero(~finite)[0])]),
        spectrum_log_error=_spectrum_error(run, reference) if stable else None,
        energy_error=_series_error(run.energy[quarter], reference.energy[quarter]) if stable else None,
        enstrophy_error=_series_error(run.enstrophy[quarter], reference.enstrophy[quarter]) if stable else None,
    )


def last_quarter(num_times: int) -> slice:
    """Return the snapshots of the last quarter of a run, at least the last one."""
    return slice(min(num_times - 1, (3 * num_times) // 4), None)


def mean_spectrum(observation: Observation) -> Tensor:
    """Average the spectrum over starts and the last quarter of the run; shape (k,) [m^3/s^2]."""
    return observation.spectrum[last_quarter(observation.spectrum.shape[0])].mean(dim=(0, 1))


def bootstrap_interval(values: Array) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean when the starts are drawn again with replacement (seed fixed).

    With one start it is that value twice: one start tells nothing about the spread.
    """
    picks = np.random.default_rng(0).integers(len(values), size=(BOOTSTRAP_RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def _spectrum_error(run: Observation, reference: Observation) -> float | None:
    truth = mean_spectrum(reference)
    # The 2/3 rule leaves the last shells empty but for round-off, whose logarithm means nothing.
    filled = truth > SPECTRUM_FLOOR * truth.max()
    error = log_spectrum_error(mean_spectrum(run)[filled], truth[filled])
    return error if math.isfinite(error) else None


def _series_error(ours: Tensor, truth: Tensor) -> float:
    difference = ours.mean(dim=1) - truth.mean(dim=1)
    return float(difference.square().mean().sqrt() / truth.mean())
