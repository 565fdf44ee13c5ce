"""A-posteriori metrics: a coarse run with a closure against filtered DNS.

Legend: omega = vorticity [1/s]; E(k) = energy spectrum [m^3/s^2]; F, G = cumulative distributions; axes b = start,
t = time.
"""

import math

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.errors import ShapeError


def vorticity_correlation(model: Tensor, reference: Tensor) -> Tensor:
    """Return the Pearson correlation of two vorticity fields, for each start; in 3-D over all components together.

    Parameters
    ----------
    model, reference : Tensor, shape (batch, nx, ny) or (batch, 3, nx, ny, nz) [1/s]

    Returns
    -------
    Tensor, shape (batch,), float64 [-]    NaN for a start whose model or reference is not finite or constant

    Raises
    ------
    ShapeError    if the shapes differ

    Notes
    -----
    Does not change when either field is scaled or shifted by a constant (tests/unit/evaluate/test_aposteriori.py).
    """
    if model.shape != reference.shape:
        raise ShapeError(
            f"vorticity_correlation: {tuple(model.shape)} and {tuple(reference.shape)} must have one shape"
        )
    axes = tuple(range(-3, 0)) if model.ndim == 5 else (-2, -1)
    ours, truth = ((part - part.mean(axes, keepdim=True)).flatten(1) for part in (model.double(), reference.double()))
    return (ours * truth).sum(-1) / (ours.norm(dim=-1) * truth.norm(dim=-1))


def decorrelation_time(times: Tensor, correlation_tb: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return when the correlation of each start first falls below a threshold, by linear interpolation in time.

    Parameters
    ----------
    times : Tensor, shape (num_times,) [s]              increasing
    correlation_tb : Tensor, shape (num_times, batch) [-]    NaN counts as below: the run has blown up
    threshold : float [-]

    Returns
    -------
    times_b : Tensor, shape (batch,), float64 [s]    the last time for a start that never falls below
    crossed_b : Tensor, shape (batch,), bool         whether it did fall below

    Raises
    ------
    ShapeError    if there is not one correlation per time

    Notes
    -----
    Exact for a correlation that is linear between the times (tests/unit/evaluate/test_aposteriori.py). From a finite
    value to NaN there is no line; the last finite time is taken, which is the cautious end.
    """
    times, correlation = torch.as_tensor(times).double(), torch.as_tensor(correlation_tb).double()
    if correlation.ndim != 2 or len(times) != len(correlation) or len(times) == 0:
        raise ShapeError(
            f"decorrelation_time: correlation {tuple(correlation.shape)} wants one row for each of {len(times)} times"
        )
    below = ~(correlation >= threshold)
    crossed = below.any(0)
    after = below.int().argmax(0)
    before = (after - 1).clamp_min(0)
    start = torch.arange(correlation.shape[1], device=correlation.device)
    high, low = correlation[before, start], correlation[after, start]
    drop = high - low
    fraction = torch.where(torch.isfinite(drop) & (drop > 0), (high - threshold) / drop, torch.zeros_like(drop))
    # A start that is below from the first time on has no value before: its time is the first one.
    crossing = times[before] + (times[after] - times[before]) * fraction
    return torch.where(crossed, crossing, times[-1].expand_as(crossing)), crossed


def log_spectrum_error(spectrum: Tensor, reference: Tensor) -> float:
    """Return the root mean square, over shells, of log10(E_model / E_reference).

    Parameters
    ----------
    spectrum, reference : Tensor, shape (..., num_shells) [m^3/s^2]    only shells to be compared; k = 0 left out

    Returns
    -------
    float [-]    0.1 means a factor of 1.26; infinite or NaN for a run that lost all energy in a shell or blew up

    Raises
    ------
    ShapeError    if the shapes differ

    Notes
    -----
    Symmetric in model and reference: twice too much counts as half (tests/unit/evaluate/test_aposteriori.py).
    """
    if spectrum.shape != reference.shape:
        raise ShapeError(
            f"log_spectrum_error: {tuple(spectrum.shape)} and {tuple(reference.shape)} must have one shape"
        )
    difference = torch.log10(spectrum.double()) - torch.log10(reference.double())
    return math.sqrt(value) if math.isfinite(value := difference.square().mean().item()) else value


def relative_l2_error(model: Tensor, reference: Tensor) -> Tensor:
    """Return |u - u_ref| / |u_ref| of each start, the norm over components and points.

    Parameters
    ----------
    model, reference : Tensor, shape (batch, ...), one for both

    Returns
    -------
    Tensor, shape (batch,), float64 [-]    2^(1/2) for a field of the same energy that has nothing in common

    Raises
    ------
    ShapeError    if the shapes differ
    """
    if model.shape != reference.shape:
        raise ShapeError(f"relative_l2_error: {tuple(model.shape)} and {tuple(reference.shape)} must have one shape")
    ours, truth = model.double().flatten(1), reference.double().flatten(1)
    return (ours - truth).norm(dim=1) / truth.norm(dim=1)


def cumulative_distributions(
    samples: np.ndarray, reference: np.ndarray, num_points: int = 1024
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cumulative distributions of two sets of samples, per start, at common points.

    Parameters
    ----------
    samples, reference : ndarray, shape (batch, n) and (batch, m), one unit
    num_points : int

    Returns
    -------
    points : ndarray, shape (num_points,)                   from the smallest to the largest of all samples
    ours, truth : ndarray, shape (batch, num_points) [-]    NaN if a sample is not finite
    """
    low, high = min(samples.min(), reference.min()), max(samples.max(), reference.max())
    points = np.linspace(low, high, num_points)
    if not np.isfinite(samples).all():
        return points, *(np.full((len(part), num_points), np.nan) for part in (samples, reference))
    curves = [
        np.array([np.searchsorted(np.sort(row), points, side="right") / len(row) for row in part])
        for part in (samples, reference)
    ]
    return points, *curves


def wasserstein_distance(points: np.ndarray, ours: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the first Wasserstein distance of distributions: the integral of |F - G|.

    Parameters
    ----------
    points : ndarray, shape (p,)                 evenly spaced, all samples between the first and the last
    ours, truth : ndarray, shape (..., p) [-]    F and G there

    Returns
    -------
    ndarray, shape (...), unit of the points

    Notes
    -----
    The distance of a distribution from itself moved by s is s, to the spacing of the points
    (tests/unit/evaluate/test_aposteriori.py). S. S. Vallender, Theory Probab. Appl. 18, 784 (1974).
    """
    return np.abs(ours - truth).sum(-1) * (points[1] - points[0])
