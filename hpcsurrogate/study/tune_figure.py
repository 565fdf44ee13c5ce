"""The figure of a search: what accuracy costs, how the search went on, and what each key did."""

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from hpcsurrogate.report.style import BARE_COLOR, BEST_CLASSICAL_COLOR, LEARNED_COLOR, label_panel, new_figure
from hpcsurrogate.study.objectives import Objective

COLUMNS = 3  # of the panels of keys
WIDE = 8.0  # largest over smallest value from which an axis is logarithmic
SEVERAL_DECADES = 100.0  # up to here ticks at 1 and 3 have room
LONG_LABELS = 24  # letters of all choices of a key from which their labels are turned
BEST = {"color": LEARNED_COLOR, "marker": "o", "markersize": 5, "linestyle": "none", "zorder": 5}
FIRST_TRIAL = {"color": BEST_CLASSICAL_COLOR, "marker": "s", "markersize": 6, "linestyle": "none", "zorder": 4}


def tune_figure(summary: dict[str, Any]) -> Figure:
    """Draw a search from the content of tune.json.

    Panels: with a cost, error or score over it with the Pareto front, down (or up) and to the left is better; error or
    score by the number of the trial, with the best so far; and over each key. Red is the front, or the best trial.
    """
    objectives = [Objective(**objective) for objective in summary["objectives"]]
    keys = summary["keys"]
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
        first = figure.axes[-(index % COLUMNS)] if column else None
        axes = figure.add_subplot(layout[row, column : column + 2], sharey=first)
        _draw_key(axes, summary, key, objectives[0])
        if first is not None:
            axes.tick_params(labelleft=False)
            axes.set_ylabel("")
        panels.append(axes)
    for axes, letter in zip(panels, "abcdefghijklmnopqrstuvwxyz", strict=False):
        label_panel(axes, letter)
    # What is drawn in several panels is explained once.
    drawn: dict[str, Any] = {}
    for axes in reversed(panels):
        handles, labels = axes.get_legend_handles_labels()
        drawn |= dict(zip(labels, handles, strict=True))
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=6, columnspacing=1.2)
    return figure


def _draw_front(axes: Axes, summary: dict[str, Any], objectives: Sequence[Objective]) -> None:
    complete = _complete(summary)
    points = {trial["number"]: trial["objectives"] for trial in complete}
    axes.plot(
        [cost for _, cost in points.values()], [error for error, _ in points.values()],
        color=BARE_COLOR, marker="o", markersize=4, linestyle="none", label="complete",
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


def _draw_progress(axes: Axes, summary: dict[str, Any], objective: Objective) -> None:
    complete = _complete(summary)
    numbers = [trial["number"] for trial in complete]
    values = [trial["objectives"][0] for trial in complete]
    best = [objective.best(values[: index + 1]) for index in range(len(values))]
    axes.plot(numbers, values, color=BARE_COLOR, marker="o", markersize=4, linestyle="none", label="complete")
    axes.step(numbers, best, where="post", color=BEST_CLASSICAL_COLOR, linewidth=1.7, label="best so far")
    on_front = [index for index, number in enumerate(numbers) if number in summary["front"]]
    axes.plot(
        [numbers[index] for index in on_front], [values[index] for index in on_front],
        **BEST, label="Pareto front" if len(summary["objectives"]) > 1 else "best",
    )  # fmt: skip
    for state, marker in (("pruned", "|"), ("failed", "x")):
        without = [trial["number"] for trial in summary["trials"] if trial["state"] == state]
        axes.plot(
            without, [0.02] * len(without), transform=axes.get_xaxis_transform(),
            color="#444444", marker=marker, markersize=6, linestyle="none", label=state if without else None,
        )  # fmt: skip
    axes.set(xlabel="trial", ylabel=objective.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _scale(axes, "y", values)


def _draw_key(axes: Axes, summary: dict[str, Any], key: str, objective: Objective) -> None:
    complete = _complete(summary)
    values = [trial["values"][key] for trial in complete]
    errors = [trial["objectives"][0] for trial in complete]
    if all(_is_number(value) for value in values):
        places = values
        if all(isinstance(value, int) for value in values):
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        _scale(axes, "x", places)
    else:
        names = sorted({json.dumps(value).strip('"') for value in values})
        places = [names.index(json.dumps(value).strip('"')) for value in values]
        turned = {"rotation": 20, "ha": "right"} if sum(map(len, names)) > LONG_LABELS else {}
        axes.set_xticks(range(len(names)), names, **turned)
        axes.set_xlim(-0.5, len(names) - 0.5)
    axes.plot(places, errors, color=BARE_COLOR, marker="o", markersize=3.5, linestyle="none")
    on_front = [index for index, trial in enumerate(complete) if trial["number"] in summary["front"]]
    axes.plot([places[index] for index in on_front], [errors[index] for index in on_front], **BEST)
    *section, name = key.split(".")
    axes.set_xlabel(f"{'.'.join(section)}.\n{name}" if section else name, fontsize=8.5)
    axes.set_ylabel(objective.label.replace(" [", "\n["))  # small panels
    _scale(axes, "y", errors)


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
    axis.set_major_formatter(lambda value, _: _short(value))
    axis.set_minor_locator(NullLocator())


def _short(value: float) -> str:
    """0.01, 3e-4: small panels have no room for zeros."""
    return f"{value:g}" if 0.01 <= value < 10000 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
