"""Draws of realisations and starts whose spread is known."""

import numpy as np
import pytest

from hpcsurrogate.couple.bootstrap import RESAMPLES, bootstrap_weights, interval


def test_every_draw_is_a_mean_and_all_starts_weigh_the_same_on_average():
    """A weight of 1/6 varies by about 1/6 from draw to draw: 2000 draws know its mean to 0.004."""
    weights = bootstrap_weights([3, 3, 4, 4, 7, 7])
    assert weights.shape == (RESAMPLES, 6) and (weights >= 0).all()
    assert weights.sum(axis=1) == pytest.approx(1.0, abs=1e-12)
    assert weights.mean(axis=0) == pytest.approx(1 / 6, abs=0.016)
    assert np.array_equal(weights, bootstrap_weights([0, 0, 1, 1, 2, 2])), "always the same draws"


def test_starts_that_agree_within_two_realisations_count_as_two():
    """A quarter of the draws takes either realisation twice: the interval reaches from one to the other."""
    low, high = interval(bootstrap_weights([0] * 8 + [1] * 8) @ np.repeat([1.0, 3.0], 8))
    assert (low, high) == pytest.approx((1.0, 3.0))


def test_of_one_realisation_the_starts_are_drawn_and_one_start_is_itself():
    low, high = interval(bootstrap_weights([5, 5, 5, 5]) @ np.array([1.0, 2.0, 3.0, 4.0]))
    assert 1.0 < low < 2.5 < high < 4.0
    assert interval(bootstrap_weights([5]) @ np.array([1.5])) == (1.5, 1.5)


@pytest.mark.parametrize("of_each", [1, 4])
def test_the_variance_is_that_of_the_realisations_and_that_within_them(of_each):
    """Of m starts in each of K: var(means of realisations) / K + mean(var within) / (K m), of the values as they are.

    The variance of 2000 draws is known to 3 %.
    """
    number = 16
    values = np.random.default_rng(1).standard_normal((number, of_each)) + np.arange(number)[:, None] / 4
    weights = bootstrap_weights(np.repeat(np.arange(number), of_each))
    known = values.mean(1).var() / number + values.var(1).mean() / (number * of_each)
    spread = weights @ values.ravel()
    assert spread.var() == pytest.approx(known, rel=0.1)
    low, high = interval(spread)
    assert high - low == pytest.approx(2 * 1.96 * known**0.5, rel=0.1)


def test_intervals_hold_the_mean_as_often_as_they_say():
    """A third of the variance between eight realisations: 95 % are meant, starts drawn alone hold it in 82 %.

    Of 1000 experiments the share is known to 0.7 %.
    """
    number, of_each, share = 8, 4, 0.3
    generator = np.random.default_rng(2)
    between = np.repeat(generator.standard_normal((1000, number)), of_each, axis=1)
    values = share**0.5 * between + (1 - share) ** 0.5 * generator.standard_normal((1000, number * of_each))

    def coverage(realisations):
        low, high = np.percentile(values @ bootstrap_weights(realisations).T, [2.5, 97.5], axis=1)
        return ((low < 0) & (high > 0)).mean()

    assert coverage(np.repeat(np.arange(number), of_each)) == pytest.approx(0.95, abs=0.025)
    assert coverage(np.arange(number * of_each)) < 0.87, "what drawing starts alone would give"
