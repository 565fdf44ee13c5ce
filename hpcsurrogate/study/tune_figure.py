"""The figure of a search: what accuracy costs, how the search went on, and what each key did."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from hpcsurrogate.report.style import BARE_COLOR, BEST_CLASSICAL_COLOR, LEARNED_COLOR, label_panel, new_figure
from hpcsurrogate.study.objectives import Objective

COLUMNS = 3  # of the panels of keys
WIDE = 8.0  # largest over smallest value from which an axis is logarithmic
SEVERAL_DECADES = 100.0  # up to here ticks at 1 and 3 have room
FIRST_TRIAL = {"color": BEST_CLASSICAL_COLOR, "marker": "s", "markersize": 6, "linestyle": "none", "zorder": 4}


def tune_figure(summary: dict[str, Any]) -> Figure:
    """Draw a search from the content of tune.json.

    Panels: with a cost, error or score over it with the Pareto front, down (or up) and to the left is better; error or
    score by the number of the trial, with the best so far; and over each key. Red is the front, or the best trial.
    """
    objectives = [Objective(**objective) for objective in summary["objectives"]]
    keys = list(summary["trials"][0]["values"]) if summary["trials"] else []
    rows = math.ceil(len(keys) / COLUMNS)
    figure = new_figure(7.2, 3.2 + 2.2 * rows)
    layout = figure.add_gridspec(1 + rows, 2 * COLUMNS, height_ratios=[1.5] + [1.0] * rows)
    panels = []
    if len(objectives) > 1:
        panels = [figure.add_subplot(layout[0, :COLUMNS]), figure.add_subplot(layout[0, COLUMNS:])]
        _draw_front(panels[0], summary, objectives)
    else:
        panels = [figure.add_subplot(layout[0, :])]
    _draw_progress(panels[-1], summary, objectives[0])
    for index, key in enumerate(keys):
        row, column = 1 + index // COLUMNS, 2 * (index % COLUMNS)
        axes = figure.add_subplot(layout[row, column : column + 2])
        _draw_key(axes, summary, key, objectives[0], labelled=column == 0)
        panels.append(axes)
    for axes, letter in zip(panels, "abcdefghijklmnopqrstuvwxyz", strict=False):
        label_panel(axes, letter)
    return figure


def _draw_front(axes: Axes, summary: dict[str, Any], objectives: Sequence[Objective]) -> None:
    complete = _complete(summary)
    points = {trial["number"]: trial["objectives"] for trial in complete}
    axes.plot(
        [cost for _, cost in points.values()], [error for error, _ in points.values()],
        color=BARE_COLOR, marker="o", markersize=4, linestyle="none", label="trials",
    )  # fmt: skip
    front = sorted((points[number][1], points[number][0], number) for number in summary["front"])
    # Between two points of the front lies what both of them reach.
    axes.step(
        [cost for cost, _, _ in front], [error for _, error, _ in front],
        where="post", color=LEARNED_COLOR, marker="o", markersize=5.5, label="Pareto front", zorder=5,
    )  # fmt: skip
    for cost, error, number in front:
        axes.annotate(
            str(number), (cost, error), xytext=(4, 4), textcoords="offset points", fontsize=8, color=LEARNED_COLOR
        )
    if 0 in points:
        axes.plot(points[0][1], points[0][0], **FIRST_TRIAL, label="first trial")
    axes.set(xlabel=objectives[1].label, ylabel=objectives[0].label)
    _scale(axes, "x", [cost for _, cost in points.values()])
    _scale(axes, "y", [error for error, _ in points.values()])
    axes.legend(loc="best")


def _draw_progress(axes: Axes, summary: dict[str, Any], objective: Objective) -> None:
    complete = _complete(summary)
    numbers = [trial["number"] for trial in complete]
    values = [trial["objectives"][0] for trial in complete]
    best = [objective.best(values[: index + 1]) for index in range(len(values))]
    axes.plot(numbers, values, color=BARE_COLOR, marker="o", markersize=4, linestyle="none", label="complete")
    axes.step(numbers, best, where="post", color=BEST_CLASSICAL_COLOR, linewidth=1.7, label="best so far")
    for state, marker in (("pruned", "|"), ("failed", "x")):
        without = [trial["number"] for trial in summary["trials"] if trial["state"] == state]
        axes.plot(
            without, [0.02] * len(without), transform=axes.get_xaxis_transform(),
            color="#444444", marker=marker, markersize=6, linestyle="none", label=state if without else None,
        )  # fmt: skip
    axes.set(xlabel="trial", ylabel=objective.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _scale(axes, "y", values)
    axes.legend(loc="best")


def _draw_key(axes: Axes, summary: dict[str, Any], key: str, objective: Objective, labelled: bool) -> None:
    complete = _complete(summary)
    numeric = all(_is_number(trial["values"][key]) for trial in complete)
    for trial in complete:
        on_front = trial["number"] in summary["front"]
        value = trial["values"][key]
        axes.plot(
            value if numeric else str(value), trial["objectives"][0],
            color=LEARNED_COLOR if on_front else BARE_COLOR, zorder=5 if on_front else 3,
            marker="o", markersize=5 if on_front else 3.5, linestyle="none",
        )  # fmt: skip
    *section, name = key.split(".")
    axes.set_xlabel(f"{'.'.join(section)}.\n{name}" if section else name, fontsize=8.5)
    if labelled:
        axes.set_ylabel(objective.label)
    if numeric:
        _scale(axes, "x", [trial["values"][key] for trial in complete])
    _scale(axes, "y", [trial["objectives"][0] for trial in complete])


def _complete(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [trial for trial in summary["trials"] if trial["state"] == "complete"]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _scale(axes: Axes, direction: Literal["x", "y"], values: Sequence[float]) -> None:
    """A logarithmic axis for values that differ by a factor, with few ticks, as plain numbers."""
    if not values or min(values) <= 0 or max(values) / min(values) < WIDE:
        return
    axes.set(**{f"{direction}scale": "log"})
    axis = getattr(axes, f"{direction}axis")
    axis.set_major_locator(LogLocator(subs=(1, 3) if max(values) / min(values) < SEVERAL_DECADES else (1,)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())
