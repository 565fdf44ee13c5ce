"""One look for all figures: fonts, sizes, and one colour and line per contender wherever it is drawn."""

from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from hpcsurrogate.report.results import Results

RC_PARAMS = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.labelsize": 9.5,
    "axes.titlesize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.4,
    "mathtext.fontset": "cm",
    "savefig.dpi": 150,
    "figure.facecolor": "white",
}

REFERENCE_LINE = {"color": "#000000", "linestyle": (0, (5, 2)), "linewidth": 1.3, "zorder": 8}
LEARNED_COLOR = "#d1341f"
BEST_CLASSICAL_COLOR = "#0b62a4"
BARE_COLOR = "#8a8a8a"
# Distinct also to readers who confuse red and green. Dashes and markers run through cycles of other lengths, so that a
# colour that comes round again does not bring the same dash or marker with it.
OTHER_COLORS = (
    *("#e69f00", "#009e73", "#9467bd", "#56b4e9", "#b5651d", "#cc79a7"),
    *("#5c6b00", "#1f3b73", "#17becf", "#7a0177", "#a1a100", "#444444"),
)
OTHER_DASHES = ("--", (0, (4, 1.5, 1, 1.5)), (0, (1, 1)), (0, (6, 2)), (0, (4, 1, 1, 1, 1, 1)))
OTHER_MARKERS = ("^", "v", "D", "P", "X", "<", ">", "p", "h")


@dataclass(frozen=True)
class Look:
    """How one contender is drawn."""

    color: str
    dash: Any
    width: float
    marker: str
    front: int

    def line(self) -> dict[str, Any]:
        """Return the keyword arguments of `Axes.plot` for a curve."""
        return {"color": self.color, "linestyle": self.dash, "linewidth": self.width, "zorder": self.front}


def contender_looks(results: Results) -> dict[int, Look]:
    """Give every contender outside the ladder its look; the learned, best classical and bare ones stand out."""
    looks = {}
    others = 0
    for index in results.drawing_order():
        if index == results.learned:
            looks[index] = Look(LEARNED_COLOR, "-", 2.2, "*", 6)
        elif index == results.best_classical:
            looks[index] = Look(BEST_CLASSICAL_COLOR, "-", 1.9, "s", 5)
        elif index == results.bare:
            looks[index] = Look(BARE_COLOR, "-", 1.7, "o", 4)
        else:
            color = OTHER_COLORS[others % len(OTHER_COLORS)]
            dash = OTHER_DASHES[others % len(OTHER_DASHES)]
            looks[index] = Look(color, dash, 1.2, OTHER_MARKERS[others % len(OTHER_MARKERS)], 3)
            others += 1
    return looks


def figure_style() -> Any:
    """Return the context in which figures are made and saved."""
    return matplotlib.rc_context(RC_PARAMS)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of width x height inches that arranges its axes itself; it needs no display."""
    return Figure(figsize=(width, height), layout="constrained")


def plain_log_ticks(axis: Axis) -> None:
    """Write the ticks 1, 2, 3, 5 of every decade of a logarithmic axis as plain numbers; for axes of a few decades."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def label_panel(axes: Axes, letter: str) -> None:
    """Write (a), (b), ... above the upper left corner of a panel."""
    axes.text(-0.05, 1.03, f"({letter})", transform=axes.transAxes, ha="right", va="bottom", fontsize=9.5)
