"""Learning rate and curriculum as functions of the iteration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsurrogate.core.config import LearningRateScaling
from hpcsurrogate.train.schedule import FINAL_FRACTION, curriculum, learning_rate, scaled_rate


@given(num_iterations=st.integers(1, 500), peak=st.floats(1e-6, 1.0), warm_up=st.integers(1, 100))
def test_learning_rate_is_positive_and_never_above_its_peak(num_iterations, peak, warm_up):
    rates = [learning_rate(i, num_iterations, peak, warm_up) for i in range(num_iterations)]
    assert all(0.0 < rate <= peak for rate in rates)


@pytest.mark.parametrize("warm_up", [1, 10, 80])
def test_learning_rate_climbs_to_the_peak_and_then_falls_to_its_last_fraction(warm_up):
    rates = [learning_rate(i, 1000, 1.0, warm_up) for i in range(1000)]
    assert rates[:warm_up] == pytest.approx([(i + 1) / warm_up for i in range(warm_up)], abs=1e-15)
    assert max(rates) == pytest.approx(1.0, abs=1e-15)
    assert rates[warm_up:] == sorted(rates[warm_up:], reverse=True)
    # The last iteration stands one step before the end of the cosine, where the curve is flat to (pi / 2 / 920)^2.
    assert rates[-1] == pytest.approx(FINAL_FRACTION, abs=1e-5)


def test_warm_up_takes_at_most_a_tenth_of_a_short_phase():
    rates = [learning_rate(i, 50, 1.0, 10) for i in range(50)]
    assert rates.index(max(rates)) == 4


def test_rate_follows_the_batch_by_the_rule():
    linear, root = (LearningRateScaling(rule=rule, batch_size=16) for rule in ("linear", "square_root"))
    assert scaled_rate(0.003, 64, linear) == pytest.approx(0.012, rel=1e-15)
    assert scaled_rate(0.003, 64, root) == pytest.approx(0.006, rel=1e-15)
    assert scaled_rate(0.003, 4, root) == pytest.approx(0.0015, rel=1e-15)
    for rule in (linear, root):
        assert scaled_rate(0.003, 16, rule) == 0.003
    assert scaled_rate(0.003, 64, None) == 0.003


@given(num_iterations=st.integers(0, 100), lengths=st.lists(st.integers(1, 8), min_size=1, max_size=5))
def test_curriculum_covers_every_iteration_once_in_equal_shares(num_iterations, lengths):
    shares = curriculum(num_iterations, tuple(lengths))
    assert [i for first, last, _ in shares for i in range(first, last)] == list(range(num_iterations))
    if num_iterations >= len(lengths):
        assert [length for _, _, length in shares] == lengths
        sizes = [last - first for first, last, _ in shares]
        assert max(sizes) - min(sizes) <= 1
