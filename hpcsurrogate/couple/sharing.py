"""The runs of a comparison shared by the ranks: each is done by one of them, and all have what came of it."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from hpcsurrogate.core.log import get_logger
from hpcsurrogate.parallel.world import World

Item = TypeVar("Item")
Found = TypeVar("Found")

log = get_logger("couple")


def share_work(
    world: World,
    items: Sequence[Item],
    price: Callable[[Item], float],
    work: Callable[[list[Item]], Iterable[Found]],
    describe: Callable[[Item, Found], Iterable[str]],
) -> list[Found]:
    """Do all items, each on one rank, and return what was found, in the order of the items, on every rank.

    Collective.

    Parameters
    ----------
    world : World
    items : sequence      the same on every rank
    price : callable      what an item costs, in any unit, by which the items are dealt
    work : callable       this rank's items -> what is found for each, in their order; without collective calls
    describe : callable   lines for people about an item, printed when it is done, of other ranks at the end

    Raises
    ------
    what `work` raises, on every rank

    Notes
    -----
    Nothing depends on the number of ranks (tests/parallel/test_couple_ranks.py).
    """
    mine = deal([price(item) for item in items], world.size)[world.rank]
    found: dict[int, Found] = {}
    with world.failing_together():
        for place, result in zip(mine, work([items[place] for place in mine]) if mine else (), strict=True):
            found[place] = result
            _say(describe(items[place], result))
    of_all = {place: result for part in world.allgather(found) for place, result in part.items()}
    for place in sorted(of_all.keys() - found.keys()):
        _say(describe(items[place], of_all[place]))
    return [of_all[place] for place in range(len(items))]


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        log.info(line)


def deal(prices: Sequence[float], num_ranks: int) -> list[list[int]]:
    """Deal items to ranks, the dearest first, each to the rank that has least to do so far; in order within a rank."""
    load, dealt = [0.0] * num_ranks, [[] for _ in range(num_ranks)]
    for place in sorted(range(len(prices)), key=lambda place: -prices[place]):
        rank = load.index(min(load))
        load[rank] += prices[place]
        dealt[rank].append(place)
    return [sorted(places) for places in dealt]
