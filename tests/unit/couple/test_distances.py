"""Distances of runs from their reference, and similarity, on ingredients whose distances are known."""

import numpy as np
import pytest

from hpcsurrogate.couple.bootstrap import bootstrap_weights
from hpcsurrogate.couple.distances import DISTANCES, Ingredients, even_weights, similarities

NUM_STARTS = 16
DRAWS = bootstrap_weights(range(NUM_STARTS))
POINTS = np.linspace(0.0, 4.0, 401)


def make_ingredients(error, shift):
    """Rollout errors around `error`, a spectrum 10^`shift` too high, uniform distributions moved by `shift`."""
    spread = np.linspace(0.9, 1.1, NUM_STARTS)
    uniform = np.clip(POINTS, 0, 1)[None].repeat(NUM_STARTS, 0)
    moved = np.clip(POINTS - shift, 0, 1)[None].repeat(NUM_STARTS, 0)
    flat = np.ones((NUM_STARTS, 5))
    return Ingredients(error * spread, 10**shift * flat, flat, ((POINTS, moved, uniform, 0.5),) * 2)


def test_distances_are_those_of_the_means_over_the_starts():
    """A distribution moved by s lies s away, here over a scale of 0.5; tolerance: the spacing of the points."""
    found = make_ingredients(0.2, 0.3).distances(even_weights(NUM_STARTS))
    assert found["rollout_error"] == pytest.approx(0.2)
    assert found["spectrum_log_error"] == pytest.approx(0.3)
    assert found["vorticity_distance"] == pytest.approx(0.6, abs=0.02)


def test_similarity_is_one_for_the_reference_zero_for_the_bare_host_and_less_for_what_harms():
    bare, perfect = make_ingredients(0.4, 0.5), make_ingredients(0.0, 0.0)
    half, worse = make_ingredients(0.2, 0.25), make_ingredients(0.8, 1.0)
    for run, value in ((perfect, 1.0), (bare, 0.0), (half, 0.5), (worse, -1.0)):
        found = similarities(run, bare, DRAWS)
        assert set(found) == {*DISTANCES, "mean"}
        assert all(entry["value"] == pytest.approx(value, abs=0.02) for entry in found.values())
        # The same starts are drawn for both, so that what they share does not widen the interval.
        assert found["rollout_error"]["interval"] == pytest.approx([value, value], abs=1e-12)


def test_a_bare_host_without_error_and_a_run_that_is_not_finite_have_no_similarity():
    perfect = make_ingredients(0.0, 0.0)
    assert similarities(make_ingredients(0.1, 0.1), perfect, DRAWS)["mean"] is None
    broken = make_ingredients(np.nan, 0.1)
    found = similarities(broken, make_ingredients(0.1, 0.1), DRAWS)
    assert found["rollout_error"] is None and found["mean"] is None and found["spectrum_log_error"] is not None
