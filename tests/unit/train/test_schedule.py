"""Learning rate and curriculum as functions of the iteration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsurrogate.train.schedule import FINAL_FRACTION, WARM_UP_ITERATIONS, curriculum, learning_rate


@given(num_iterations=st.integers(1, 500), peak=st.floats(1e-6, 1.0))
def test_learning_rate_is_positive_and_never_above_its_peak(num_iterations, peak):
    rates = [learning_rate(i, num_iterations, peak) for i in range(num_iterations)]
    assert all(0.0 < rate <= peak for rate in rates)


def test_learning_rate_climbs_to_the_peak_and_then_falls_to_its_last_fraction():
    rates = [learning_rate(i, 1000, 1.0) for i in range(1000)]
    assert rates[:WARM_UP_ITERATIONS] == sorted(rates[:WARM_UP_ITERATIONS])
    assert max(rates) == pytest.approx(1.0, abs=1e-15)
    assert rates[WARM_UP_ITERATIONS:] == sorted(rates[WARM_UP_ITERATIONS:], reverse=True)
    # The last iteration stands one step before the end of the cosine, where the curve is flat to (pi / 2 / 990)^2.
    assert rates[-1] == pytest.approx(FINAL_FRACTION, abs=1e-5)


@given(num_iterations=st.integers(0, 100), lengths=st.lists(st.integers(1, 8), min_size=1, max_size=5))
def test_curriculum_covers_every_iteration_once_in_equal_shares(num_iterations, lengths):
    shares = curriculum(num_iterations, tuple(lengths))
    assert [i for first, last, _ in shares for i in range(first, last)] == list(range(num_iterations))
    if num_iterations >= len(lengths):
        assert [length for _, _, length in shares] == lengths
        sizes = [last - first for first, last, _ in shares]
        assert max(sizes) - min(sizes) <= 1
