"""Means of blocks know the error of the mean of a series that remembers."""

import numpy as np
import pytest

from hpcsurrogate.data.block_average import block_average


def autoregressive(memory, length, seed):
    random = np.random.default_rng(seed)
    noise = random.standard_normal((length, 1))
    series = np.zeros_like(noise)
    series[0] = noise[0] / np.sqrt(1 - memory**2)
    for step in range(1, length):
        series[step] = memory * series[step - 1] + noise[step]
    return series


def test_the_error_is_that_of_the_mean_of_a_series_with_memory():
    """Variance of the mean of an AR(1) series: 1 / (n (1 - memory)^2), for n far beyond 1 / (1 - memory)."""
    memory, length = 0.8, 4000
    found = [block_average(autoregressive(memory, length, seed), 16) for seed in range(60)]
    exact = 1 / ((1 - memory) * np.sqrt(length))
    # 60 estimates of 15 degrees of freedom each: the mean square is known to 2 / sqrt(2 * 900) of itself.
    assert np.mean([part.error[0] ** 2 for part in found]) == pytest.approx(exact**2, rel=0.2)
    assert np.std([part.mean[0] for part in found]) == pytest.approx(exact, rel=0.4)
    assert all(part.is_sure for part in found)


def test_blocks_that_are_too_short_are_said():
    assert not block_average(autoregressive(0.98, 400, 0), 16).is_sure


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="rows"):
        block_average(np.zeros((3, 1)), 4)
