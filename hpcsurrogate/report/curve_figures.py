"""Curves: spectra, time series of the coarse runs, and training losses.

Legend: E(k) kinetic energy spectrum, k wavenumber, t time since the start of a coarse run.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpcsurrogate.report.results import Results
from hpcsurrogate.report.style import (
    BEST_CLASSICAL_COLOR,
    LEARNED_COLOR,
    REFERENCE_LINE,
    contender_looks,
    label_panel,
    new_figure,
    plain_log_ticks,
)

# A run that piles energy up at the smallest scales leaves the ratio panel rather than flattening the others.
MAX_SPECTRUM_RATIO = 3.0


def spectrum_figure(results: Results) -> Figure:
    """Draw E(k) [m^3/s^2] of the runs beside filtered DNS, and the ratio of the two, up to the coarse grid's limit."""
    figure = new_figure(7.2, 5.0)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    wavenumber, reference = results.fields["wavenumber"], results.fields["spectrum_reference"]
    shown = (wavenumber > 0) & (reference > 0)
    looks = contender_looks(results)
    highest_ratio = 1.0
    for index in results.drawing_order():
        spectrum = results.fields[f"spectrum/{index}"]
        if not np.isfinite(spectrum[shown]).all():
            continue
        highest_ratio = max(highest_ratio, float((spectrum[shown] / reference[shown]).max()))
        top.plot(wavenumber[shown], spectrum[shown], **looks[index].line(), label=results.contenders[index]["name"])
        bottom.plot(wavenumber[shown], spectrum[shown] / reference[shown], **looks[index].line())
    top.plot(wavenumber[shown], reference[shown], **REFERENCE_LINE, label="filtered DNS")
    bottom.axhline(1.0, **REFERENCE_LINE)
    top.set(xscale="log", yscale="log", ylabel=r"$E(k)$ [m$^3$/s$^2$]", ylim=_decades(reference[shown]))
    bottom.set(ylabel=r"$E\,/\,E_\mathrm{DNS}$", xlabel=r"wavenumber $k$ [rad/m]")
    plain_log_ticks(bottom.xaxis)
    bottom.set_ylim(0.0, min(max(1.1 * highest_ratio, 1.3), MAX_SPECTRUM_RATIO))
    top.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    for axes, letter in zip((top, bottom), "ab", strict=True):
        label_panel(axes, letter)
    return figure


def series_figure(results: Results) -> Figure:
    """Draw correlation of vorticity with filtered DNS, and energy and enstrophy over its own; means over starts."""
    figure = new_figure(7.2, 6.6)
    panels = figure.subplots(3, 1, sharex=True, height_ratios=(1.3, 1, 1))
    looks = contender_looks(results)
    fields, times = results.fields, results.fields["times"]
    for index in results.drawing_order():
        line = looks[index].line()
        panels[0].plot(times, fields[f"correlation/{index}"], **line, label=results.contenders[index]["name"])
        panels[1].plot(times, fields[f"energy/{index}"] / fields[f"reference_energy/{index}"], **line)
        panels[2].plot(times, fields[f"enstrophy/{index}"] / fields[f"reference_enstrophy/{index}"], **line)
    threshold = results.coupling["correlation_threshold"]
    panels[0].axhline(threshold, color="#555555", lw=0.9, ls=":", label="end of agreement")
    panels[0].set(ylabel="vorticity correlation [-]", ylim=(_lowest_correlation(results), 1.01))
    for axes, name in zip(panels[1:], ("energy", "enstrophy"), strict=True):
        axes.axhline(1.0, **REFERENCE_LINE)
        axes.set_ylabel(f"{name} / DNS [-]")
        axes.set_ylim(*_ratio_limits(results, name))
    panels[2].set(xlabel="time since start [s]", xlim=(times[0], times[-1]))
    panels[0].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    for axes, letter in zip(panels, "abc", strict=True):
        label_panel(axes, letter)
    return figure


def training_figure(results: Results) -> Figure:
    """Draw training and validation loss over steps, one panel a phase; dotted lines mark longer unrolled windows."""
    phases = [phase for phase in ("apriori", "unrolled") if any(r["phase"] == phase for r in results.training)]
    figure = new_figure(3.7 * max(len(phases), 1), 2.9)
    panels = figure.subplots(1, max(len(phases), 1), squeeze=False)[0]
    titles = {"apriori": "regression on the target (a-priori)", "unrolled": "through the solver (unrolled)"}
    for axes, phase, letter in zip(panels, phases, "ab", strict=False):
        records = [record for record in results.training if record["phase"] == phase]
        _draw_losses(axes, records)
        axes.set(title=titles[phase], xlabel="step", ylabel="loss [-]", yscale="log")
        plain_log_ticks(axes.yaxis)
        axes.legend(loc="best")
        label_panel(axes, letter)
    return figure


def _draw_losses(axes: Axes, records: list[dict]) -> None:
    trained = [record for record in records if record["loss"] is not None]
    steps = [record["step"] for record in trained]
    axes.plot(steps, [record["loss"] for record in trained], color=BEST_CLASSICAL_COLOR, lw=1.0, label="training")
    checked = [record for record in records if record.get("validation_loss") is not None]
    axes.plot(
        [record["step"] for record in checked], [record["validation_loss"] for record in checked],
        color=LEARNED_COLOR, marker="o", markersize=3, lw=1.3, label="validation",
    )  # fmt: skip
    for before, after in zip(records, records[1:], strict=False):
        if before.get("window") != after.get("window") and None not in (before.get("window"), after.get("window")):
            axes.axvline(after["step"], color="#777777", lw=0.8, ls=":")


def _decades(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()) / 5, float(values.max()) * 3


def _lowest_correlation(results: Results) -> float:
    """Lower end of the correlation axis: below one half a run has lost the flow, and its course is of no interest."""
    lowest = min(float(np.nanmin(results.fields[f"correlation/{i}"])) for i in results.drawing_order())
    return max(lowest - 0.02, 0.5)


def _ratio_limits(results: Results, name: str) -> tuple[float, float]:
    """Limits that hold all stable runs as long as they are within a factor of two; a run beyond leaves the panel."""
    ratios = [
        results.fields[f"{name}/{i}"] / results.fields[f"reference_{name}/{i}"]
        for i in results.drawing_order()
        if results.contenders[i]["stable"]
    ]
    values = np.concatenate(ratios) if ratios else np.ones(1)
    reach = min(max(float(np.nanmax(np.abs(values - 1.0))) * 1.1, 0.02), 1.0)
    return max(1.0 - reach, 0.0), 1.0 + reach
