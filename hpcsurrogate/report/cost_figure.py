"""The price of accuracy: time to decorrelation and error against cost, every contender and those on finer grids."""

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from hpcsurrogate.report.results import Results
from hpcsurrogate.report.style import (
    BARE_COLOR,
    Look,
    contender_looks,
    label_panel,
    new_figure,
    plain_log_ticks,
)

COST = "cost_ms_per_time_unit"
# Steps: what lies between two points was not run.
FRONT = {"color": "#222222", "linestyle": (0, (2, 2)), "linewidth": 1.0, "zorder": 1, "drawstyle": "steps-post"}


def cost_figure(results: Results) -> Figure:
    """Draw time to decorrelation [s] and rollout error [-] with their intervals over cost [ms per simulated time unit].

    The grey line is what the host reaches without closure by a finer grid alone, thin lines are contenders on finer
    grids of their own. The dashed line is the front of all that needs no learning: a closure pays where it lies beyond.
    """
    figure = new_figure(7.2, 6.6)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, key, letter in zip(panels, ("decorrelation_time", "rollout_error"), "ab", strict=True):
        _draw(axes, results, key)
        axes.set_xscale("log")
        axes.margins(x=0.09, y=0.06)
        label_panel(axes, letter)
    plain_log_ticks(panels[1].xaxis)
    longest = max(line["decorrelation_interval"][1] for line in results.contenders) or 1.0
    panels[0].set_ylim(-0.09 * longest, 1.05 * longest)  # room for the grid's name under a point near zero
    panels[0].set_ylabel(f"time to vorticity correlation {results.coupling['correlation_threshold']:g} [s]")
    if panels[1].has_data():
        panels[1].set_yscale("log")
        plain_log_ticks(panels[1].yaxis)
    panels[1].set(xlabel="cost [ms per simulated time unit, one thread]", ylabel="relative error of velocity [-]")
    panels[0].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure


def pareto_front(
    points: list[tuple[float, float]], better: Callable[[float, float], bool]
) -> list[tuple[float, float]]:
    """Return the points (cost, value) that no other one beats in both, from cheap to dear.

    Parameters
    ----------
    points : list of (float, float)
    better : callable    whether the first value is better than the second

    Notes
    -----
    Values get strictly better along it (tests/unit/report/test_stage.py).
    """
    front: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: point[0]):
        if not front or better(value, front[-1][1]):
            if front and front[-1][0] == cost:
                front.pop()
            front.append((cost, value))
    return front


def _draw(axes: Axes, results: Results, key: str) -> None:
    looks = contender_looks(results)
    for index in results.drawing_order():
        _draw_ladder(axes, results, index, looks[index], key)
    for index in results.drawing_order():
        _draw_contender(axes, results.contenders[index], looks[index], key)
    unlearned = [
        (line[COST], line[key])
        for line in results.contenders
        if line["role"] != "learned" and line["stable"] and line[key] is not None
    ]
    is_better = float.__gt__ if key == "decorrelation_time" else float.__lt__
    front = pareto_front([(float(cost), float(value)) for cost, value in unlearned], is_better)
    axes.plot(*zip(*front, strict=True), **FRONT, label="front without learning") if front else None


def _draw_contender(axes: Axes, line: dict, look: Look, key: str) -> None:
    value = line[key]
    if value is None:
        return
    interval = line["decorrelation_interval" if key == "decorrelation_time" else "rollout_error_interval"]
    low, high = (value, value) if interval is None else interval
    axes.errorbar(
        line[COST], value, yerr=[[max(value - low, 0)], [max(high - value, 0)]],
        color=look.color, marker=look.marker, markersize=13 if look.marker == "*" else 7, linestyle="none",
        markeredgecolor="white", markeredgewidth=0.7, elinewidth=1.1, capsize=2.5, zorder=look.front + 2,
        label=_label(line),
    )  # fmt: skip


def _draw_ladder(axes: Axes, results: Results, base: int, look: Look, key: str) -> None:
    rungs = [results.contenders[index] for index in results.ladder(base)]
    rungs = [rung for rung in rungs if rung[key] is not None]
    is_bare = base == results.bare
    if not is_bare and len(rungs) < 2:
        return
    costs, values = ([rung[name] for rung in rungs] for name in (COST, key))
    label = "no closure, finer grids" if is_bare else None
    color = BARE_COLOR if is_bare else look.color
    below = key == "decorrelation_time"  # of a curve that rises; on the other side of one that falls
    axes.plot(costs, values, color=color, lw=1.4 if is_bare else 0.9, marker="o", markersize=4, zorder=2, label=label)
    for rung, cost, value in zip(rungs, costs, values, strict=True):
        if is_bare or rung["ladder_of"] is not None:
            axes.annotate(
                _grid_text(rung["grid"]), (cost, value), xytext=(5, -5 if below else 4), textcoords="offset points",
                ha="left", va="top" if below else "bottom", fontsize=8 if is_bare else 7,
                color="#555555" if is_bare else color, path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )  # fmt: skip


def _grid_text(grid: list[int]) -> str:
    return f"${grid[0]}^{len(grid)}$" if len(set(grid)) == 1 else "$" + r"\times".join(str(n) for n in grid) + "$"


def _label(contender: dict) -> str:
    notes = []
    if not contender["stable"]:
        notes.append("blew up")
    if contender["reached_end"]:
        notes.append("lower bound")
    return contender["name"] + (f" ({', '.join(notes)})" if notes else "")
