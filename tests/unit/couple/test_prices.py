"""What the same accuracy costs by other means, on curves that are power laws."""

import math

import pytest

from hpcsurrogate.couple.prices import add_prices, cheapest_way, classical_ways
from hpcsurrogate.couple.resolution import Ladder


def make_line(name, role, grid, time, cost, ladder_of=None, **changes):
    return {
        "name": name,
        "role": role,
        "ladder_of": ladder_of,
        "grid": [grid, grid],
        "host": {"kind": "finite_volume"},
        "decorrelation_time": time,
        "reached_end": False,
        "stable": True,
        "cost_ms_per_step": cost / 10,
        "cost_ms_per_time_unit": cost,
    } | changes


def ladder(name, role, first_time, first_cost, rung_role=None, grids=(64, 128, 256)):
    """One second more and eight times the cost with every doubling."""
    lines = []
    for grid in grids:
        doublings = math.log2(grid / grids[0])
        base = grid == grids[0]
        lines.append(
            make_line(
                name if base else f"{name}, {grid} x {grid}",
                role if base else rung_role or role,
                grid,
                first_time + doublings,
                first_cost * 8**doublings,
                None if base else name,
            )
        )
    return lines


@pytest.fixture
def lines():
    """Bare: 1 s for 10 ms. A good scheme: 2 s for 40 ms. Another host: 2.5 s for 30 ms on its one grid."""
    bare, good = ladder("bare", "bare", 1.0, 10.0, "ladder"), ladder("good", "classical", 2.0, 40.0)
    other = make_line("other", "classical", 64, 2.5, 30.0, host={"kind": "spectral"})
    return [*bare, *good, other]


def by_name(lines):
    return {line["name"]: line for line in lines}


def test_the_cheapest_classical_way_is_found_among_all_ladders_and_hosts(lines):
    learned = make_line("learned", "learned", 64, 3.5, 100.0)
    weak = make_line("weak", "learned", 64, 2.5, 60.0)
    add_prices([*lines, learned, weak])
    # The bare host reaches 3.5 s on no grid, 'other' neither; 'good' does halfway, as logarithms go, to 256.
    assert learned["cheapest_classical"] == "good"
    assert learned["speed_up_over_classical"] == pytest.approx(40 * 8**1.5 / 100)
    assert learned["effective_grid_of_best_classical"] == pytest.approx(64 * 2**1.5)
    assert learned["effective_grid"] is None and learned["effective_grid_bound"] == "> 256"
    assert weak["cheapest_classical"] == "other" and weak["speed_up_over_classical"] == pytest.approx(0.5)
    assert weak["speed_up"] == pytest.approx(10 * 8**1.5 / 60)


def test_no_classical_way_is_cheaper_than_itself(lines):
    add_prices(lines)
    named = by_name(lines)
    assert all(line["speed_up_over_classical"] <= 1 + 1e-12 for line in lines if line["cheapest_classical"])
    assert named["other"]["speed_up_over_classical"] == pytest.approx(1)
    assert named["bare"]["speed_up_over_classical"] == pytest.approx(1) and named["bare"]["cost_ratio_time"] == 1


def test_a_run_to_the_end_or_beyond_all_ways_has_no_price(lines):
    beyond = make_line("beyond", "learned", 64, 4.5, 10.0)
    to_the_end = make_line("to the end", "learned", 64, 2.0, 10.0, reached_end=True)
    add_prices([*lines, beyond, to_the_end])
    assert beyond["cheapest_classical"] is None and beyond["speed_up_over_classical"] is None
    assert beyond["effective_grid_of_best_classical_bound"] == "> 256"
    assert to_the_end["speed_up_over_classical"] is None


def test_a_way_that_blew_up_is_no_way(lines):
    lines[-1]["stable"] = False
    weak = make_line("weak", "learned", 64, 2.5, 60.0)
    add_prices([*lines, weak])
    assert weak["cheapest_classical"] == "good"


def test_a_finer_grid_that_is_no_better_makes_the_way_no_dearer():
    grids, times, costs = (64, 128, 256), (2.0, 1.5, 3.0), (10.0, 80.0, 640.0)
    assert Ladder(grids, times, costs).cost_of(2.0) == pytest.approx(10.0)
    assert Ladder(grids, times, costs).cost_of(2.5) == pytest.approx(80.0), "halfway from 64 to 256"


def test_the_bare_host_on_a_finer_grid_is_a_classical_way_too(lines):
    learned = make_line("learned", "learned", 64, 2.0, 20.0)
    cheapest, ratio = cheapest_way(learned, classical_ways([line for line in lines if line["name"] != "other"]))
    assert cheapest == "good" and ratio == pytest.approx(2.0)
    cheapest, ratio = cheapest_way(learned, classical_ways([line for line in lines if "bare" in line["name"]]))
    assert cheapest == "bare" and ratio == pytest.approx(4.0)
