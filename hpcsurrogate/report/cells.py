"""The report of a closure of cells: profiles and errors of the coarse runs beside the fine one, with the verdict."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpcsurrogate.core.atomic import read_json, write_text_atomic
from hpcsurrogate.core.config_cells import LEARNED, CellExperiment
from hpcsurrogate.core.fields import AXES
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.evaluate.cells import symmetric_pairs
from hpcsurrogate.report.page import figure, whole_page
from hpcsurrogate.report.stage import write_figures
from hpcsurrogate.report.style import (
    BEST_CLASSICAL_COLOR,
    LEARNED_COLOR,
    OTHER_COLORS,
    OTHER_DASHES,
    REFERENCE_LINE,
    figure_style,
    label_panel,
    new_figure,
)
from hpcsurrogate.report.tables import number, row, table

PAIRS = symmetric_pairs(3)
PROFILES = (
    "Profiles of the coarse runs",
    "Black dots: the fine run, averaged onto the coarse mesh. (a) Mean velocity along the main direction and (b) its "
    "difference from the fine run, over the root mean square of the fine one; grey: the fine run's own standard error. "
    "(c) Variance of the resolved velocity along the main direction; (d) the resolved shear stress. All without what "
    "the mesh does not resolve.",
)


def run_report_cells(experiment: CellExperiment, paths: RunPaths) -> None:
    """Draw the figure, if the profile is one line, and write the page.

    Raises
    ------
    ConfigError    if matplotlib is not installed
    DataError      if couple.json is missing or damaged

    Notes
    -----
    tests/openfoam/test_couple.py
    """
    coupling = read_json(paths.coupling)
    kept = [axis for axis in AXES if axis not in experiment.couple.average_over]
    parts = [models_table(coupling)]
    if len(kept) == 1:
        with figure_style():
            images = write_figures({"profiles": profile_figure(coupling, kept[0])}, paths)
        parts.append(figure(*PROFILES, images["profiles"]))
    if experiment.calibrate is not None:
        parts.append(gains_table(read_json(paths.calibration)))
    basis = f"{coupling['reference']['times']} times of the fine run"
    write_text_atomic(paths.report, whole_page(experiment, coupling, basis, parts))
    get_logger("report").info("wrote %s", paths.report)


def models_table(coupling: dict) -> str:
    """Return errors and cost of every model; those of a run that failed are empty."""
    best = coupling["best_classical"]
    base = coupling["models"][best]["seconds_per_step"]
    rows = []
    for name, model in coupling["models"].items():
        kind = LEARNED if name == LEARNED else "best" if name == best else ""
        if "failed" in model:
            rows.append(row(name, ["failed", "", "", "", ""], kind))
            continue
        errors = [
            f"{_percent(error['value'])} ({_percent(error['interval'][0])} to {_percent(error['interval'][1])})"
            for error in model["errors"].values()
        ]
        share = model["fallback_share"]
        cost = [number(model["seconds_per_step"] / base), "" if share is None else _percent(share)]
        rows.append(row(name, [*errors, *cost], kind))
    noise = [_percent(value) for value in coupling["reference"]["noise"].values()]
    rows.append(row("noise of the fine run", [*noise, "", ""], ""))
    heads = (
        "model", "mean velocity, off by [%]", "resolved stresses [%]", "wall shear stress [%]", f"step over {best}'s",
        "cells by the guard [%]",
    )  # fmt: skip
    return table(heads, rows)


def gains_table(calibration: dict) -> str:
    """Return the error of the mean velocity with every combination of gains, on the times of training."""
    rows = []
    for run in calibration["runs"]:
        gains = {name: run[name] for name in calibration["best"]}
        error = "failed" if run["error"] is None else _percent(run["error"])
        title = ", ".join(f"{name} {gain:g}" for name, gain in gains.items())
        rows.append(row(title, [error], LEARNED if gains == calibration["best"] else ""))
    return table(("gains, tried on the times of training", "mean velocity, off by [%]"), rows)


def _percent(value: float) -> str:
    return number(100 * value)


def profile_figure(coupling: dict, axis: str) -> Figure:
    """Draw mean velocity, its difference from the fine run, and two stresses over the one coordinate that is left."""
    place = np.array(coupling["places"]["centre"])[:, 0]
    order = np.argsort(place)
    fine = _arrays(coupling["reference"])
    main = int(np.argmax((fine["velocity"] ** 2).sum(0)))
    shear = PAIRS.index(tuple(sorted((main, AXES.index(axis)))))
    size = np.sqrt((fine["velocity"] ** 2).sum(1).mean())
    drawn = new_figure(7.6, 6.0)
    panels = drawn.subplots(2, 2, sharex=True)
    mean, off, variance, stress = panels.ravel()
    for axes, values in ((mean, fine["velocity"][:, main]), *_stresses(variance, stress, fine, main, shear)):
        axes.plot(place[order], values[order], "o", color="black", markersize=3, label="fine run")
    for (name, model), look in zip(coupling["models"].items(), _looks(coupling), strict=True):
        if "failed" in model:
            continue
        found = _arrays(model)
        mean.plot(place[order], found["velocity"][order, main], label=name, **look)
        difference = 100 * (found["velocity"] - fine["velocity"])[:, main] / size
        off.plot(place[order], difference[order], **look)
        for axes, values in _stresses(variance, stress, found, main, shear):
            axes.plot(place[order], values[order], **look)
    off.axhline(0.0, **REFERENCE_LINE)
    noise = 100 * coupling["reference"]["noise"]["velocity"]
    off.axhspan(-noise, noise, color="#dddddd", linewidth=0, zorder=0)
    letters = AXES[main], axis
    mean.set(ylabel=f"mean velocity along {letters[0]} [m/s]")
    off.set(ylabel="difference [%]")
    variance.set(xlabel=f"{axis} [m]", ylabel=f"variance along {letters[0]} [m²/s²]")
    stress.set(xlabel=f"{axis} [m]", ylabel=f"stress {letters[0]}{letters[1]} [m²/s²]")
    drawn.legend(*mean.get_legend_handles_labels(), loc="outside right upper")
    for axes, letter in zip(panels.ravel(), "abcd", strict=True):
        label_panel(axes, letter)
    return drawn


def _arrays(model: dict) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in model["profile"].items()}


def _stresses(
    variance: Axes, shear: Axes, profile: dict[str, np.ndarray], main: int, off_diagonal: int
) -> tuple[tuple[Axes, np.ndarray], ...]:
    stress = profile["stress"]
    return (variance, stress[:, PAIRS.index((main, main))]), (shear, stress[:, off_diagonal])


def _looks(coupling: dict) -> list[dict]:
    looks, others = [], 0
    for name in coupling["models"]:
        if name == LEARNED:
            looks.append({"color": LEARNED_COLOR, "linewidth": 2.0, "zorder": 6})
        elif name == coupling["best_classical"]:
            looks.append({"color": BEST_CLASSICAL_COLOR, "linewidth": 1.7, "zorder": 5})
        else:
            color, dash = OTHER_COLORS[others % len(OTHER_COLORS)], OTHER_DASHES[others % len(OTHER_DASHES)]
            looks.append({"color": color, "linestyle": dash, "linewidth": 1.2})
            others += 1
    return looks
