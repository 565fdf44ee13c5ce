"""How runs are dealt to ranks."""

import pytest

from hpcsurrogate.couple.sharing import deal, share_work
from hpcsurrogate.parallel.world import World


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 8])
def test_each_is_done_by_one_rank_and_none_waits_long(num_ranks):
    """The busiest has at most 4/3 - 1/3m of the least possible; that is no less than the mean, or the dearest.

    R. L. Graham, SIAM J. Appl. Math. 17, 416 (1969), theorem 2.
    """
    prices = [7.0, 64.0, 1.0, 8.0, 8.0, 27.0, 1.0, 30.0]
    dealt = deal(prices, num_ranks)
    assert sorted(place for places in dealt for place in places) == list(range(len(prices)))
    assert all(places == sorted(places) for places in dealt)
    least = max(sum(prices) / num_ranks, max(prices))
    assert max(sum(prices[place] for place in places) for places in dealt) <= (4 / 3 - 1 / (3 * num_ranks)) * least


def test_a_rank_alone_does_all_in_order():
    found = share_work(World(), [3, 1, 2], float, lambda items: (10 * item for item in items), lambda *_: ())
    assert found == [30, 10, 20]
    assert share_work(World(), [], float, lambda items: pytest.fail("nothing to do"), lambda *_: ()) == []
