"""Which runs an ensemble would gain most from, largest expected gain first.

Legend: y = log viscosity of a candidate state; C = covariance of y over the members; s(x) = standard error of y that a
run at x would have.

The members are taken for draws of a Gaussian process. A run at x leaves C(z, z') - C(z, x) C(x, z') / (C(x, x) +
s(x)^2), whatever it will measure; the best x lowers the variance most on average over all candidates z (Cohn 1996,
doi:10.1016/0893-6080(95)00137-9, equation 9). The next one is sought with what the first has left.
"""

import torch
from torch import Tensor

LEAST_NOISE = 1e-6  # relative: what rounding leaves of a variance is nothing to be learned


def choose_runs(log_viscosity: Tensor, factor: float, noise: Tensor, count: int) -> tuple[list[int], list[float]]:
    """Choose runs among candidate states that fill the domain.

    Parameters
    ----------
    log_viscosity : Tensor, shape (members, n), float64    of every member at every candidate
    factor : float                                         on the members' spread: their calibration
    noise : Tensor, shape (n,), float64                    s: relative standard error of a run at each candidate
    count : int                                            of runs; a state may be chosen again

    Returns
    -------
    list of int      the candidates, best first
    list of float    expected relative error of the viscosity over the domain, root mean square: now, and after each run

    Notes
    -----
    A run without noise leaves no variance where it is, and no run raises it anywhere; m members know m - 1 directions
    (tests/unit/evaluate/test_propose.py).
    """
    covariance = covariance_of(log_viscosity, factor)
    chosen, errors = [], [_error(covariance)]
    for _ in range(count):
        gain = covariance.square().mean(0) / _variance_of_a_run(covariance, noise)
        chosen.append(int(gain.argmax()))
        covariance = after_run(covariance, noise, chosen[-1])
        errors.append(_error(covariance))
    return chosen, errors


def error_after(log_viscosity: Tensor, factor: float, noise: Tensor, runs: list[int]) -> float:
    """Return the expected error after given runs; arguments and error as in `choose_runs`."""
    covariance = covariance_of(log_viscosity, factor)
    for index in runs:
        covariance = after_run(covariance, noise, index)
    return _error(covariance)


def covariance_of(log_viscosity: Tensor, factor: float) -> Tensor:
    """Calibrated covariance of the members, shape (n, n)."""
    deviation = factor * (log_viscosity - log_viscosity.mean(0))
    return deviation.T @ deviation / (len(log_viscosity) - 1)


def after_run(covariance: Tensor, noise: Tensor, index: int) -> Tensor:
    """What a run at a candidate leaves of the covariance."""
    column = covariance[:, index]
    return covariance - torch.outer(column, column) / _variance_of_a_run(covariance, noise)[index]


def _variance_of_a_run(covariance: Tensor, noise: Tensor) -> Tensor:
    return covariance.diagonal().clamp_min(0) + noise.clamp_min(LEAST_NOISE).square()


def _error(covariance: Tensor) -> float:
    return float(covariance.diagonal().clamp_min(0).mean().sqrt())
