"""Effective grid and equivalent cost on ladders whose curves are known."""

import math

import pytest

from hpcsurrogate.couple.resolution import Ladder

# Time to decorrelation grows by 1 s with every doubling, cost eightfold: both curves are exact between the rungs.
LADDER = Ladder((64, 96, 128, 256), (1.0, 1.0 + math.log2(1.5), 2.0, 3.0), (1.0, 1.5**3, 8.0, 64.0))


@pytest.mark.parametrize(
    ("time", "grid"), [(1.0, 64), (1.25, 64 * 2**0.25), (2.0, 128), (2.5, 128 * 2**0.5), (3.0, 256)]
)
def test_effective_grid_and_its_cost_between_the_rungs(time, grid):
    found, bound = LADDER.effective_grid(time, reached_end=False)
    assert bound is None
    assert found == pytest.approx(grid, rel=1e-12)
    assert LADDER.cost_at(found) == pytest.approx((grid / 64) ** 3, rel=1e-12)


@pytest.mark.parametrize(
    ("time", "reached_end", "bound"),
    [(0.9, False, "< 64"), (3.1, False, "> 256"), (2.5, True, "> 128"), (3.0, True, "> 128"), (1.0, True, ">= 64")],
)
def test_outside_the_ladder_only_a_bound_is_known(time, reached_end, bound):
    """A run that reached its end may be better than it looks; so may a rung that did, so it bounds nothing."""
    assert LADDER.effective_grid(time, reached_end) == (None, bound)


def test_a_rung_that_falls_back_does_not_make_the_curve_ambiguous():
    ladder = Ladder((64, 128, 256), (2.0, 1.0, 4.0), (1.0, 8.0, 64.0))
    assert ladder.effective_grid(2.0, False) == (64.0, None)
    found, _ = ladder.effective_grid(3.0, False)
    assert found == pytest.approx(128 * 2**0.5)


def test_a_ladder_of_one_rung_gives_bounds():
    ladder = Ladder((64,), (1.0,), (1.0,))
    assert ladder.effective_grid(1.5, False) == (None, "> 64")
    assert ladder.effective_grid(0.5, False) == (None, "< 64")
