"""Metrics of coarse runs on series and fields with known answers."""

import math

import numpy as np
import pytest
import torch

from hpcsurrogate.core.errors import ShapeError
from hpcsurrogate.evaluate.aposteriori import (
    cumulative_distributions,
    decorrelation_time,
    log_spectrum_error,
    relative_l2_error,
    vorticity_correlation,
    wasserstein_distance,
)

NAN = math.nan


def test_vorticity_correlation_of_waves():
    # <sin x (sin x cos a + cos x sin a)> / (<sin^2>) = cos a.
    x = torch.arange(16, dtype=torch.float64)[:, None] * 2 * math.pi / 16 + torch.zeros(1, 8, dtype=torch.float64)
    angle = torch.tensor([0.0, 0.4, math.pi], dtype=torch.float64)
    model = torch.sin(x + angle[:, None, None])
    reference = torch.sin(x).expand(3, 16, 8)
    torch.testing.assert_close(vorticity_correlation(model, reference), torch.cos(angle), rtol=0, atol=1e-12)
    scaled = vorticity_correlation(5 * model - 3, 0.1 * reference + 7)
    torch.testing.assert_close(scaled, torch.cos(angle), rtol=0, atol=1e-12)


def test_vorticity_correlation_of_a_blown_up_start_is_nan_and_leaves_the_others():
    fields = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    broken = fields.clone()
    broken[0, 3, 3] = torch.inf
    correlation = vorticity_correlation(broken, fields)
    assert correlation[0].isnan()
    assert correlation[1].item() == pytest.approx(1, abs=1e-12)
    with pytest.raises(ShapeError):
        vorticity_correlation(fields, fields[:1])


@pytest.mark.parametrize(
    "series, expected, crossed",
    [
        ([1.0, 1.0, 0.9, 0.8], 2.5, True),  # linear from 1 at 2 to 0.9 at 3
        ([1.0, 0.99, 0.98, 0.97], 7.0, False),  # never below: the last time
        ([1.0, 0.95, 0.97, 0.5], 3 + 4 * 2 / 47, True),  # touching the threshold is not below it
        ([1.0, 0.85, 1.0, 0.85], 0.5 + 1.5 / 3, True),  # the first of two crossings
        ([0.9, 0.8, 0.7, 0.6], 0.5, True),  # below from the start
        ([1.0, 1.0, NAN, NAN], 2.0, True),  # blown up: the last finite time
        ([NAN, NAN, NAN, NAN], 0.5, True),
    ],
)
def test_decorrelation_time_is_interpolated(series, expected, crossed):
    times = torch.tensor([0.5, 2.0, 3.0, 7.0], dtype=torch.float64)
    beside = torch.ones(4, dtype=torch.float64)  # another start of the same batch, which stays perfect
    found, flags = decorrelation_time(times, torch.stack((torch.tensor(series, dtype=torch.float64), beside), 1), 0.95)
    assert found.tolist() == pytest.approx([expected, 7.0], rel=1e-12)
    assert flags.tolist() == [crossed, False]


def test_decorrelation_time_wants_one_row_a_time():
    with pytest.raises(ShapeError, match="one row for each of 3 times"):
        decorrelation_time(torch.arange(3.0), torch.ones(4, 2), 0.95)
    with pytest.raises(ShapeError):
        decorrelation_time(torch.arange(0.0), torch.ones(0, 2), 0.95)


def test_log_spectrum_error():
    reference = torch.tensor([1.0, 0.1, 1e-3], dtype=torch.float64)
    assert log_spectrum_error(reference, reference) == 0
    assert log_spectrum_error(2 * reference, reference) == pytest.approx(math.log10(2), rel=1e-12)
    assert log_spectrum_error(reference / 2, reference) == pytest.approx(math.log10(2), rel=1e-12)
    one_off = reference * torch.tensor([10.0, 1.0, 1.0], dtype=torch.float64)
    assert log_spectrum_error(one_off, reference) == pytest.approx(math.sqrt(1 / 3), rel=1e-12)
    assert math.isinf(log_spectrum_error(torch.zeros(3), reference))
    assert math.isnan(log_spectrum_error(torch.full((3,), NAN), reference))
    with pytest.raises(ShapeError):
        log_spectrum_error(reference[:2], reference)


@pytest.mark.parametrize("shape", [(2, 8, 6), (2, 2, 8, 6), (2, 3, 4, 6, 8)])
def test_relative_error_of_a_scaled_field_and_of_one_with_nothing_in_common(shape):
    field = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    factors = torch.tensor([1.2, 0.5], dtype=torch.float64).view(-1, *[1] * (len(shape) - 1))
    expected = torch.tensor([0.2, 0.5], dtype=torch.float64)
    torch.testing.assert_close(relative_l2_error(factors * field, field), expected, rtol=1e-12, atol=0)
    sine, cosine = (f(torch.arange(8) * 2 * math.pi / 8).expand(1, 4, 8) for f in (torch.sin, torch.cos))
    assert relative_l2_error(sine, cosine).item() == pytest.approx(math.sqrt(2), rel=1e-6)
    with pytest.raises(ShapeError):
        relative_l2_error(field, field[:1])


def test_vorticity_of_three_components_is_correlated_as_one_field():
    """Two parts of equal strength, one reversed where it stands for a quarter of the energy: (3 - 1) / 4."""
    vorticity = torch.ones(1, 3, 4, 4, 4, dtype=torch.float64)
    vorticity[..., 1::2] = -1
    vorticity[:, 0] = 0
    other = vorticity.clone()
    other[:, 1, :2] *= -1
    assert vorticity_correlation(other, vorticity).item() == pytest.approx(0.5, abs=1e-12)


def test_wasserstein_distance_of_a_moved_and_of_a_stretched_distribution():
    """Moved by s: s. Uniform on [0, 1] stretched to [0, 2]: the mean of |2 x - x|, 1/2. Tolerance: the points."""
    even = (np.arange(1000) + 0.5)[None] / 1000
    for other, distance in ((even + 0.25, 0.25), (2 * even, 0.5), (even, 0.0)):
        points, ours, truth = cumulative_distributions(other, even)
        assert wasserstein_distance(points, ours, truth).item() == pytest.approx(distance, abs=3e-3)
