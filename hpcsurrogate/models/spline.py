"""Smooth functions of one variable through values at evenly spaced knots, in a form that TorchScript takes."""

import torch
from torch import Tensor


def spline(values: Tensor, place: Tensor) -> Tensor:
    """Smooth functions through their values at the knots.

    Between two knots it is the cubic that takes its slopes there from the neighbours on both sides: E. Catmull and
    R. Rom, A class of local interpolating splines (1974).

    Parameters
    ----------
    values : Tensor, shape (knots, functions)    at least 2 knots
    place : Tensor, any shape                    where, in units of the knots' distance, from 0 to knots - 1; beyond the
                                                 last knot the functions keep their last value

    Returns
    -------
    Tensor, shape of `place` and (functions,), dtype of `values`

    Notes
    -----
    Exact for straight lines, of third order for smooth functions (tests/unit/models/test_spline.py).
    """
    before, after = 2 * values[:1] - values[1:2], 2 * values[-1:] - values[-2:-1]
    padded = torch.cat((before, values, after))
    place = place.clamp(0, values.shape[0] - 1)
    left = place.detach().floor().clamp(0, values.shape[0] - 2)
    t, index = (place - left).unsqueeze(-1), left.to(torch.int64)
    a, b, c, d = padded[index], padded[index + 1], padded[index + 2], padded[index + 3]
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
