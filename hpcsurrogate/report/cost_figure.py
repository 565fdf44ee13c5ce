"""The price of accuracy: time to decorrelation against cost, every contender and the bare host on finer grids."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpcsurrogate.report.results import Results
from hpcsurrogate.report.style import BARE_COLOR, contender_looks, new_figure, plain_log_ticks


def cost_figure(results: Results) -> Figure:
    """Draw time to decorrelation [s] with its interval over cost [ms per simulated time unit].

    Up and to the left is better. The grey line is what the host reaches without closure by a finer grid alone: a
    closure pays where it lies above that line.
    """
    figure = new_figure(7.2, 4.3)
    axes = figure.subplots()
    _draw_ladder(axes, results)
    looks = contender_looks(results)
    for index in results.drawing_order():
        contender, look = results.contenders[index], looks[index]
        time = contender["decorrelation_time"]
        low, high = contender["decorrelation_interval"]
        axes.errorbar(
            contender["cost_ms_per_time_unit"], time, yerr=[[max(time - low, 0)], [max(high - time, 0)]],
            color=look.color, marker=look.marker, markersize=13 if look.marker == "*" else 7, linestyle="none",
            markeredgecolor="white", markeredgewidth=0.7, elinewidth=1.1, capsize=2.5, zorder=look.front + 2,
            label=_label(contender),
        )  # fmt: skip
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.09)
    axes.set_xlabel("cost [ms per simulated time unit, one thread]")
    axes.set_ylabel(f"time to vorticity correlation {results.coupling['correlation_threshold']:g} [s]")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure


def _draw_ladder(axes: Axes, results: Results) -> None:
    rungs = [results.contenders[index] for index in results.ladder()]
    costs = [rung["cost_ms_per_time_unit"] for rung in rungs]
    times = [rung["decorrelation_time"] for rung in rungs]
    axes.plot(costs, times, color=BARE_COLOR, marker="o", markersize=4, zorder=2, label="no closure, finer grids")
    for rung, cost, time in zip(rungs, costs, times, strict=True):
        nx, ny = rung["grid"]
        text = f"${nx}^2$" if nx == ny else f"${nx}\\times{ny}$"
        axes.annotate(
            text, (cost, time), xytext=(5, -5), textcoords="offset points", ha="left", va="top", fontsize=8,
            color="#555555",
        )  # fmt: skip


def _label(contender: dict) -> str:
    notes = []
    if not contender["stable"]:
        notes.append("blew up")
    if contender["reached_end"]:
        notes.append("lower bound")
    return contender["name"] + (f" ({', '.join(notes)})" if notes else "")
