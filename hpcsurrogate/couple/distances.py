"""Distances of a coarse run from filtered DNS, how sure they are over the starts, and similarity with it.

Every distance is a function of means over the starts, so that drawing the starts again, which the bootstrap does, is a
product with a matrix of weights. Axes: b = starts, r = draws of the starts.

    similarity = 1 - distance / distance of the bare host

which is 1 for the reference itself, 0 where a closure brings nothing, negative where it harms: Ross, Li, Perezhogin,
Fernandez-Granda and Zanna 2023, J. Adv. Model. Earth Syst. 15, doi:10.1029/2022MS003258.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hpcsurrogate.couple.bootstrap import interval
from hpcsurrogate.couple.observation import DISTRIBUTIONS, Statistics
from hpcsurrogate.evaluate.aposteriori import cumulative_distributions, wasserstein_distance

SPECTRUM_FLOOR = 1e-10  # of the fullest shell; float32 round-off, squared, stays below 1e-12
DISTANCES = ("rollout_error", "spectrum_log_error", *(f"{name}_distance" for name in DISTRIBUTIONS))
Array = np.ndarray


@dataclass(frozen=True)
class Ingredients:
    """What the distances of one run are made of: per start, means over the times that count; float64."""

    rollout: Array  # (b,), relative L2 error of the velocity, over the whole run
    spectrum: Array  # (b, k)
    reference_spectrum: Array  # (b, k)
    distributions: tuple[tuple[Array, Array, Array, float], ...]  # per `DISTRIBUTIONS`: points (p,), both (b, p), scale

    def distances(self, weights: Array) -> dict[str, Array]:
        """Return each of `DISTANCES`.

        Parameters
        ----------
        weights : ndarray, shape (r, b)    of the starts, rows that sum to one

        Returns
        -------
        dict of ndarray, shape (r,)
        """
        values = [weights @ self.rollout, self._spectrum_error(weights)]
        for points, ours, truth, scale in self.distributions:
            values.append(wasserstein_distance(points, weights @ ours, weights @ truth) / scale)
        return dict(zip(DISTANCES, values, strict=True))

    def _spectrum_error(self, weights: Array) -> Array:
        mean = self.reference_spectrum.mean(0)
        # The 2/3 rule leaves the last shells empty but for round-off, whose logarithm means nothing.
        filled = mean > SPECTRUM_FLOOR * mean.max()
        ours, truth = weights @ self.spectrum[:, filled], weights @ self.reference_spectrum[:, filled]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.sqrt(np.mean((np.log10(ours) - np.log10(truth)) ** 2, axis=1))


def gather(run: Statistics, reference: Statistics, rollout_tb: Tensor, late: slice) -> Ingredients:
    """Reduce a run to what its distances are made of.

    Parameters
    ----------
    run, reference : Statistics    axes (t, b, ...)
    rollout_tb : Tensor, shape (t, b) [-]
    late : slice    of the times at which spectra and distributions are taken
    """
    distributions = []
    for number, _ in enumerate(DISTRIBUTIONS):
        ours, truth = (_by_start(s.quantiles[late, :, number]) for s in (run, reference))
        distributions.append((*cumulative_distributions(ours, truth), float(truth.std()) or 1.0))
    return Ingredients(
        rollout=rollout_tb[1:].mean(0).double().numpy(),
        spectrum=run.spectrum[late].mean(0).double().numpy(),
        reference_spectrum=reference.spectrum[late].mean(0).double().numpy(),
        distributions=tuple(distributions),
    )


def even_weights(num_starts: int) -> Array:
    """Return the weights of the starts as they are, shape (1, b)."""
    return np.full((1, num_starts), 1 / num_starts)


def similarities(run: Ingredients, bare: Ingredients, draws: Array) -> dict:
    """Return how much nearer to the reference a run is than the bare host, with bootstrapped 95 % intervals.

    Parameters
    ----------
    run, bare : Ingredients
    draws : ndarray, shape (r, b)    `bootstrap_weights` of the starts

    Returns
    -------
    dict    each of `DISTANCES`, and `mean` over them: {"value": float, "interval": [low, high]}, or None where a
            distance is not finite or the bare host has none
    """
    found: dict[str, dict | None] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        value, spread = (
            {name: 1 - ours / bare.distances(weights)[name] for name, ours in run.distances(weights).items()}
            for weights in (even_weights(len(run.rollout)), draws)
        )
    for parts in (value, spread):
        parts["mean"] = np.mean([parts[name] for name in DISTANCES], axis=0)
    for name in (*DISTANCES, "mean"):
        known = np.isfinite(value[name]).all() and np.isfinite(spread[name]).all()
        found[name] = {"value": float(value[name][0]), "interval": list(interval(spread[name]))} if known else None
    return found


def _by_start(quantiles_tbq: Tensor) -> Array:
    """Quantiles of all times of each start side by side, shape (b, t q), float64."""
    return quantiles_tbq.double().transpose(0, 1).flatten(1).numpy()
