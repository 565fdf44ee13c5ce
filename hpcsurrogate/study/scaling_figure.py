"""The scaling of a training as one figure: samples a second and efficiency over the number of ranks."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, StrMethodFormatter

from hpcsurrogate.core.atomic import atomic_path
from hpcsurrogate.report.style import (
    BEST_CLASSICAL_COLOR,
    LEARNED_COLOR,
    REFERENCE_LINE,
    figure_style,
    label_panel,
    new_figure,
    plain_log_ticks,
)

LOOKS = {
    "strong": {"color": BEST_CLASSICAL_COLOR, "marker": "o", "markersize": 5, "label": "strong: the same batch"},
    "weak": {"color": LEARNED_COLOR, "marker": "s", "markersize": 5, "label": "weak: the same share a rank"},
}


def write_scaling_figure(content: dict[str, Any], path: Path) -> None:
    """Draw the content of scaling.json as a PNG file; the same content gives the same file."""
    with figure_style(), atomic_path(path) as temporary:
        scaling_figure(content).savefig(temporary, metadata={"Software": None})


def scaling_figure(content: dict[str, Any]) -> Figure:
    """Draw both kinds of scaling beside the ideal; more ranks than cores have a grey ground."""
    figure = new_figure(7.2, 3.3)
    panels = figure.subplots(1, 2)
    ranks = [point["ranks"] for point in content["strong"]]
    for kind, look in LOOKS.items():
        points = content[kind]
        panels[0].plot(ranks, [point["samples_per_second"] for point in points], **look)
        panels[1].plot(ranks, [point["efficiency"] for point in points], **look)
    first = content["strong"][0]
    ideal = [first["samples_per_second"] * number / first["ranks"] for number in ranks]
    panels[0].plot(ranks, ideal, **REFERENCE_LINE, label="ideal")
    panels[1].plot(ranks, [1.0] * len(ranks), **REFERENCE_LINE)
    panels[0].set(yscale="log", ylabel="samples a second [1/s]")
    plain_log_ticks(panels[0].yaxis)
    highest = max(point["efficiency"] for kind in LOOKS for point in content[kind])
    panels[1].set(ylabel="efficiency", ylim=(0.0, max(1.1, 1.05 * highest)))
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes, letter in zip(panels, "ab", strict=True):
        _set_ranks(axes, ranks)
        _shade_oversubscribed(axes, content)
        label_panel(axes, letter)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _set_ranks(axes: Axes, ranks: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set(xlabel="ranks", xlim=(ranks[0] / 1.15, ranks[-1] * 1.15))
    axes.xaxis.set_major_locator(FixedLocator(ranks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _shade_oversubscribed(axes: Axes, content: dict[str, Any]) -> None:
    """Grey where ranks x threads exceed the cores, from the last number of ranks that had a core for each thread."""
    edge = content["cores"] / content["threads_per_rank"]
    right = axes.get_xlim()[1]
    if any(point["oversubscribed"] for point in content["strong"]):
        left = max(edge, axes.get_xlim()[0])
        axes.axvspan(left, right, color="#ececec", zorder=0, lw=0, label="more threads than cores")
