"""The cubics through values at knots: what they pass through, what they are exact for, and how fast they converge."""

import torch

from hpcsurrogate.models.spline import spline

DOUBLE = torch.float64


def test_pass_through_the_values_and_are_exact_for_straight_lines():
    knots = torch.arange(8, dtype=DOUBLE)
    values = torch.stack((2 - 3 * knots, torch.randn(8, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))), 1)
    place = torch.linspace(0, 7, 57, dtype=DOUBLE).reshape(3, 19)
    # A few sums of values of order ten.
    torch.testing.assert_close(spline(values, place)[..., 0], 2 - 3 * place, rtol=0, atol=1e-13)
    torch.testing.assert_close(spline(values, knots), values, rtol=0, atol=1e-13)


def test_keep_their_last_value_beyond_the_last_knot():
    values = torch.randn(8, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    beyond = spline(values, torch.tensor([7.0, 7.5, 100.0], dtype=DOUBLE))
    torch.testing.assert_close(beyond[:, 0], values[-1].expand(3), rtol=0, atol=1e-13)


def test_error_falls_with_the_third_power_of_the_distance_of_the_knots():
    place = torch.linspace(0.2, 0.8, 301, dtype=DOUBLE)  # away from the ends, where values go on straight

    def error(intervals):
        values = torch.sin(5 * torch.linspace(0, 1, intervals + 1, dtype=DOUBLE)).unsqueeze(1)
        return (spline(values, place * intervals)[:, 0] - torch.sin(5 * place)).abs().max()

    # Third order: a factor 8 with some slack for where the worst point falls between the knots.
    assert error(20) / error(40) > 6


def test_have_no_kinks():
    place = torch.tensor([3 - 1e-7, 3.0, 3 + 1e-7], dtype=DOUBLE)
    values = torch.randn(8, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    below, at, above = spline(values, place)[:, 0].unbind()
    # The two slopes, each with an error of second derivative times 1e-7 and round-off 1e-16 / 1e-7.
    assert abs((above - at) - (at - below)) < 1e-5 * 1e-7
