"""Smooth functions of one variable through values at evenly spaced knots, in a form that TorchScript takes."""

import torch
from torch import Tensor


def spline_weights(place: Tensor, num_knots: int) -> Tensor:
    """What the value at each knot counts in a smooth function through all of them.

    Between two knots it is the cubic that takes its slopes there from the neighbours on both sides: E. Catmull and
    R. Rom, A class of local interpolating splines (1974).

    Parameters
    ----------
    place : Tensor, any shape    where, in units of the knots' distance, from 0 to num_knots - 1
    num_knots : int              at least 2; beyond the first and the last the values go on straight

    Returns
    -------
    Tensor, shape of `place` and (num_knots,), its dtype

    Notes
    -----
    Exact for straight lines, of third order for smooth functions (tests/unit/models/test_spline.py).
    """
    knots = torch.arange(num_knots).type_as(place)
    values = (knots.unsqueeze(1) == knots).to(place.dtype)
    before, after = 2 * values[:1] - values[1:2], 2 * values[-1:] - values[-2:-1]
    padded = torch.cat((before, values, after))
    left = place.floor().clamp(0, num_knots - 2)
    t, index = (place - left).unsqueeze(-1), left.to(torch.int64)
    a, b, c, d = padded[index], padded[index + 1], padded[index + 2], padded[index + 3]
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
