"""What accuracy costs elsewhere: the bare host on a finer grid, and the cheapest classical way at any resolution.

Works on the lines of couple.json, and adds keys to them.
"""

from collections.abc import Sequence

from hpcsurrogate.couple.resolution import Ladder
from hpcsurrogate.couple.verdict import Line, find_best_classical


def add_prices(lines: Sequence[Line]) -> None:
    """Add to every line its cost relative to the bare host's, and what the same accuracy costs by other means.

    Parameters
    ----------
    lines : sequence of dict    contenders as in couple.json; changed

    Notes
    -----
    Equal accuracy is equal time to decorrelation. Curves that are known by power laws give them exactly
    (tests/unit/couple/test_prices.py).
    """
    bare = next(line for line in lines if line["role"] == "bare")
    bare_ladder = _ladder([bare] + [line for line in lines if line["role"] == "ladder"])
    best = find_best_classical(lines, bare)
    best_ladder = best and _ladder(_with_rungs(best, lines))
    ways = classical_ways(lines)
    for line in lines:
        line["cost_ratio_step"] = line["cost_ms_per_step"] / bare["cost_ms_per_step"]
        line["cost_ratio_time"] = line["cost_ms_per_time_unit"] / bare["cost_ms_per_time_unit"]
        _add_resolution(line, bare_ladder)
        grid, bound = (None, None) if best_ladder is None else _effective_grid(line, best_ladder)
        line["effective_grid_of_best_classical"], line["effective_grid_of_best_classical_bound"] = grid, bound
        line["cheapest_classical"], line["speed_up_over_classical"] = cheapest_way(line, ways)


def classical_ways(lines: Sequence[Line]) -> dict[str, Ladder]:
    """Return every stable way to run without learning, the bare host too, on all its grids: name -> cheap to dear."""
    bases = [line for line in lines if line["role"] in ("bare", "classical") and line["ladder_of"] is None]
    rungs = {base["name"]: [line for line in _with_rungs(base, lines) if line["stable"]] for base in bases}
    return {name: _ladder(way) for name, way in rungs.items() if way}


def cheapest_way(line: Line, ways: dict[str, Ladder]) -> tuple[str | None, float | None]:
    """Return the cheapest of some ways that is as accurate as a line, and its cost over the line's.

    None twice if none is, or if the line's run ended before it could show how accurate it is.
    """
    costs = {name: way.cost_of(line["decorrelation_time"]) for name, way in ways.items()}
    known = {name: cost for name, cost in costs.items() if cost is not None}
    if not known or line["reached_end"]:
        return None, None
    cheapest = min(known, key=known.__getitem__)
    return cheapest, known[cheapest] / line["cost_ms_per_time_unit"]


def _with_rungs(base: Line, lines: Sequence[Line]) -> list[Line]:
    return [base] + [line for line in lines if line["ladder_of"] == base["name"]]


def _ladder(rungs: Sequence[Line]) -> Ladder:
    rungs = sorted(rungs, key=lambda line: line["grid"][0])
    return Ladder(
        tuple(line["grid"][0] for line in rungs),
        tuple(line["decorrelation_time"] for line in rungs),
        tuple(line["cost_ms_per_time_unit"] for line in rungs),
    )


def _effective_grid(line: Line, ladder: Ladder) -> tuple[float | None, str | None]:
    return ladder.effective_grid(line["decorrelation_time"], line["reached_end"])


def _add_resolution(line: Line, ladder: Ladder) -> None:
    """Set the grid on which the bare host is as accurate, and how much more it costs there."""
    if line["role"] in ("bare", "ladder"):
        grid, bound = float(line["grid"][0]), None
    else:
        grid, bound = _effective_grid(line, ladder)
    line["effective_grid"], line["effective_grid_bound"] = grid, bound
    line["equivalent_cost_ms_per_time_unit"] = None if grid is None else ladder.cost_at(grid)
    line["speed_up"] = None if grid is None else ladder.cost_at(grid) / line["cost_ms_per_time_unit"]
