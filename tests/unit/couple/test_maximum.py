"""The search for the best value of one number, on functions whose best is known."""

import math

import pytest

from hpcsurrogate.couple import maximum
from hpcsurrogate.couple.maximum import find_maximum, is_at_edge


def counted(best):
    calls = []

    def merit(value):
        calls.append(value)
        return (-abs(math.log(value / best)), 0.0)

    return merit, calls


@pytest.mark.parametrize("best", [1.0, 1.31, 2.9, 7.7, 11.2])
def test_a_single_maximum_is_found_to_what_the_sections_leave(best):
    merit, calls = counted(best)
    tried = find_maximum(merit, (1.0, 2.0, 4.0, 8.0, 16.0))
    assert sorted(calls) == list(tried) and len(calls) == len(set(calls)), "nothing is tried twice"
    found = max(tried, key=tried.__getitem__)
    # Golden sections keep at worst 0.62 of the bracket, 2 log 2, each, and the best of it is at most that far off.
    assert abs(math.log(found / best)) <= 2 * math.log(2) * 0.6181**maximum.REFINEMENTS
    assert not is_at_edge(tried, found)


@pytest.mark.parametrize("best", [0.1, 100.0])
def test_the_search_goes_on_beyond_the_candidates(best):
    merit, calls = counted(best)
    tried = find_maximum(merit, (1.0, 2.0, 4.0, 8.0, 16.0))
    found = max(tried, key=tried.__getitem__)
    assert abs(math.log(found / best)) <= 2 * math.log(2) * 0.6181**maximum.REFINEMENTS
    assert len(calls) <= 5 + maximum.MAX_EXTENSIONS + maximum.REFINEMENTS


def test_a_search_without_a_maximum_ends_and_says_so():
    tried = find_maximum(lambda value: (value,), (1.0, 2.0))
    assert max(tried) == 2.0 ** (1 + maximum.MAX_EXTENSIONS)
    assert is_at_edge(tried, max(tried, key=tried.__getitem__))


def test_ties_of_the_first_number_go_to_the_second():
    tried = find_maximum(lambda value: (1.0, -abs(math.log(value / 3.0))), (1.0, 2.0, 4.0, 8.0))
    assert max(tried, key=tried.__getitem__) == pytest.approx(3.0, rel=0.1)
