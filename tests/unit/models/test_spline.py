"""The cubics through values at knots: what they pass through, what they are exact for, and how fast they converge."""

import torch

from hpcsurrogate.models.spline import spline_weights

DOUBLE = torch.float64


def test_pass_through_the_values_and_are_exact_for_straight_lines():
    place = torch.linspace(0, 7, 57, dtype=DOUBLE).reshape(3, 19)
    weights = spline_weights(place, 8)
    knots = torch.arange(8, dtype=DOUBLE)
    # Sums of eight products of order ten.
    torch.testing.assert_close(weights @ (2 - 3 * knots), 2 - 3 * place, rtol=0, atol=1e-13)
    assert torch.equal(spline_weights(knots, 8), torch.eye(8, dtype=DOUBLE))


def test_error_falls_with_the_third_power_of_the_distance_of_the_knots():
    place = torch.linspace(0.2, 0.8, 301, dtype=DOUBLE)  # away from the ends, where values go on straight

    def error(intervals):
        values = torch.sin(5 * torch.linspace(0, 1, intervals + 1, dtype=DOUBLE))
        return (spline_weights(place * intervals, intervals + 1) @ values - torch.sin(5 * place)).abs().max()

    # Third order: a factor 8 with some slack for where the worst point falls between the knots.
    assert error(20) / error(40) > 6


def test_have_no_kinks():
    place = torch.tensor([3 - 1e-7, 3.0, 3 + 1e-7], dtype=DOUBLE)
    values = torch.randn(8, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    below, at, above = (spline_weights(place, 8) @ values).unbind()
    # The two slopes, each with an error of second derivative times 1e-7 and round-off 1e-16 / 1e-7.
    assert abs((above - at) - (at - below)) < 1e-5 * 1e-7
