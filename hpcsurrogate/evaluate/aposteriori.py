"""A-posteriori metrics: a coarse run with a closure against filtered DNS.

Legend: omega = vorticity [1/s]; E(k) = energy spectrum [m^3/s^2]; axes b = start, t = time.
"""

import math

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ShapeError


def vorticity_correlation(model_bxy: Tensor, reference_bxy: Tensor) -> Tensor:
    """Return the Pearson correlation of two vorticity fields, for each start.

    Parameters
    ----------
    model_bxy, reference_bxy : Tensor, shape (batch, nx, ny) [1/s]

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
    if model_bxy.shape != reference_bxy.shape:
        raise ShapeError(
            f"vorticity_correlation: {tuple(model_bxy.shape)} and {tuple(reference_bxy.shape)} must have one shape"
        )
    model, reference = (
        (part - part.mean((-2, -1), keepdim=True)).flatten(-2) for part in (model_bxy.double(), reference_bxy.double())
    )
    return (model * reference).sum(-1) / (model.norm(dim=-1) * reference.norm(dim=-1))


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
