"""The report of a fluid's law: viscosity over rate, the channel, and the page with the verdict."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpcsurrogate.core.atomic import read_json, write_text_atomic
from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.material import about_material, read_material
from hpcsurrogate.embed.artifact import Artifact, load_artifact
from hpcsurrogate.evaluate.law import LawSamples, LogPolynomial, read_classical
from hpcsurrogate.report.page import figure, whole_page
from hpcsurrogate.report.stage import write_figures
from hpcsurrogate.report.style import (
    BEST_CLASSICAL_COLOR,
    LEARNED_COLOR,
    OTHER_COLORS,
    REFERENCE_LINE,
    figure_style,
    label_panel,
    new_figure,
    plain_log_ticks,
)
from hpcsurrogate.report.tables import number, row, table

NAMES = {"learned": "learned", "carreau": "Carreau", "newtonian": "Newton"}
COLORS = {"learned": LEARNED_COLOR, "carreau": BEST_CLASSICAL_COLOR, "newtonian": OTHER_COLORS[0]}
MOST_STATES = 4  # drawn
CONFIDENT = 1.96
SHEAR, SHEAR_ERROR = 1, 7  # columns of the artifact's output: sigma_xy and its standard deviation

CAPTIONS = {
    "viscosity": (
        "Viscosity over the rate of shear",
        "(a) Points: runs of molecular dynamics with standard errors, filled if they were held out; lines: the learned "
        "law with its 95 % interval, and Carreau's, dashed. The states with the most runs. (b) Error of the learned "
        "law on the runs that were held out; bars: twice their standard errors.",
    ),
    "channel": (
        "A channel that training never saw",
        "(a) Velocity along the walls. Points: molecular dynamics; lines: a continuum with each law, between the walls "
        "that a run with moving walls gave. (b) Difference from molecular dynamics over its centre-line velocity; "
        "grey: twice the standard error of the run.",
    ),
}


def run_report_law(experiment: FluidExperiment, paths: RunPaths) -> None:
    """Draw the figures and write the page.

    Raises
    ------
    ConfigError    if matplotlib is not installed
    DataError      if a file of the stages before is missing or damaged

    Notes
    -----
    tests/pipeline/test_lammps_channel.py
    """
    coupling, scores = read_json(paths.coupling), read_json(paths.fit)
    with figure_style():
        figures = {"viscosity": viscosity_figure(paths, read_classical(scores))}
        if "channel" in coupling:
            figures["channel"] = channel_figure(coupling)
        images = write_figures(figures, paths)
    tables = {"viscosity": viscosity_table(scores), "channel": channel_table(coupling) if "channel" in images else ""}
    parts = [part for name in images for part in (figure(*CAPTIONS[name], images[name]), tables[name])]
    units = about_material(paths.material).units
    basis = "a channel of molecular dynamics" if "channel" in images else "runs of molecular dynamics"
    write_text_atomic(paths.report, whole_page(experiment, coupling, f"{basis}, units {units}", parts))
    get_logger("report").info("wrote %s", paths.report)


def viscosity_figure(paths: RunPaths, classical: dict[str, LogPolynomial]) -> Figure:
    """Draw viscosity over rate of the states with the most runs, and the errors on all held-out runs."""
    samples, artifact = read_material(paths.material), load_artifact(paths.law)
    runs = LawSamples.of(samples, np.full(len(samples.density), True))
    held_out = torch.from_numpy(samples.held_out)
    drawn = new_figure(7.2, 6.0)
    top, bottom = drawn.subplots(2, 1, height_ratios=(1.7, 1))
    # A thermostat holds its temperature to some thousandths: runs that agree so far are of one state.
    states = list(zip(runs.density.numpy().round(4), runs.temperature.numpy().round(2), strict=True))
    most = sorted(set(states), key=lambda state: (-states.count(state), state))[:MOST_STATES]
    for color, state in zip((LEARNED_COLOR, BEST_CLASSICAL_COLOR, *OTHER_COLORS), most, strict=False):
        rows = torch.tensor([found == state for found in states]) & (runs.rate > 0)
        _draw_state(top, artifact, classical["carreau"], runs.at(rows), held_out[rows], color)
    top.set(xscale="log", ylabel="viscosity", xlabel="rate of shear")
    top.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), title="density, temperature")
    if held_out.any():
        _draw_errors(bottom, artifact, runs.at(held_out & (runs.rate > 0)))
    bottom.set(xlabel="held-out runs, by rate of shear", ylabel="error of the viscosity [%]")
    plain_log_ticks(top.xaxis)
    for axes, letter in zip((top, bottom), "ab", strict=True):
        label_panel(axes, letter)
    return drawn


def _shear(artifact: Artifact, density: torch.Tensor, temperature: torch.Tensor, rate: torch.Tensor) -> np.ndarray:
    """Stress of simple shear and its standard deviation over the rate, (2, n)."""
    gradient = torch.zeros(len(rate), 9, dtype=torch.float64)
    gradient[:, SHEAR] = rate
    with torch.no_grad():
        output = artifact(density, temperature, gradient)
    return (output[:, (SHEAR, SHEAR_ERROR)] / rate[:, None]).T.numpy()


def _draw_state(
    axes: Axes, artifact: Artifact, carreau: LogPolynomial, runs: LawSamples, held_out: torch.Tensor, color: str
) -> None:
    density, temperature = runs.density.mean(), runs.temperature.mean()
    rates = torch.logspace(float(runs.rate.min().log10()), float(runs.rate.max().log10()), 60, dtype=torch.float64)
    state = (density.expand(60), temperature.expand(60), rates)
    mean, deviation = _shear(artifact, *state)
    label = f"{float(density):.4g}, {float(temperature):.3g}"
    axes.plot(rates, mean, color=color, label=label)
    axes.fill_between(
        rates, mean - CONFIDENT * deviation, mean + CONFIDENT * deviation, color=color, alpha=0.2, linewidth=0
    )
    axes.plot(rates, carreau(*state), color=color, linestyle="--", linewidth=1.0)
    for rows, face in ((held_out, color), (~held_out, "white")):
        found = runs.at(rows)
        axes.errorbar(
            found.rate, found.shear(found.stress) / found.rate, found.shear_error / found.rate,
            fmt="o", color=color, markerfacecolor=face, markersize=4, linewidth=1.0,
        )  # fmt: skip


def _draw_errors(axes: Axes, artifact: Artifact, runs: LawSamples) -> None:
    measured = (runs.shear(runs.stress) / runs.rate).numpy()
    noise = (runs.shear_error / runs.rate).numpy() / measured
    error = _shear(artifact, runs.density, runs.temperature, runs.rate)[0] / measured - 1
    order = np.argsort(runs.rate.numpy(), kind="stable")
    rates, place = runs.rate.numpy()[order], np.arange(1, len(order) + 1)
    axes.axhline(0.0, **REFERENCE_LINE)
    axes.errorbar(
        place, 100 * error[order], 200 * noise[order], fmt="o", color=LEARNED_COLOR,
        ecolor="#bbbbbb", elinewidth=3, markersize=4, zorder=5,
    )  # fmt: skip
    shown = np.flatnonzero(np.diff(rates, prepend=0.0) > 1e-6 * rates)  # the first of each rate
    axes.set_xticks(place[shown], [f"{rate:g}" for rate in rates[shown]], rotation=60)


def channel_figure(coupling: dict) -> Figure:
    """Draw the velocity by molecular dynamics and by every law, and the differences."""
    run = coupling["molecular_dynamics"]
    y, velocity, error = (np.array(run[name]) for name in ("y", "velocity", "standard_error"))
    drawn = new_figure(7.2, 5.4)
    top, bottom = drawn.subplots(2, 1, sharex=True, height_ratios=(1.7, 1))
    top.errorbar(y, velocity, error, fmt="o", color="black", markersize=3.5, linewidth=0.9, label="molecular dynamics")
    bottom.fill_between(y, -200 * error / run["centre"], 200 * error / run["centre"], color="#dddddd", linewidth=0)
    for name, law in coupling["laws"].items():
        if "failed" in law:
            continue
        style = {"color": COLORS[name], "linestyle": "-" if name == "learned" else "--"}
        top.plot(y, law["velocity"], **style, label=NAMES[name])
        bottom.plot(y, 100 * (np.array(law["velocity"]) - velocity) / run["centre"], **style)
    bottom.axhline(0.0, **REFERENCE_LINE)
    top.set(ylabel="velocity")
    bottom.set(xlabel="y", ylabel="difference [%]")
    top.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    for axes, letter in zip((top, bottom), "ab", strict=True):
        label_panel(axes, letter)
    return drawn


def viscosity_table(scores: dict) -> str:
    """Return errors of the viscosity by law, on held-out runs if there are any."""
    judged = scores["held_out"] or scores["training"]
    rows = [
        row(NAMES[name], [number(100 * error["rms"]), number(100 * error["largest"])], name)
        for name, error in judged["errors"].items()
    ]
    rows.append(row("noise of the runs", [number(100 * judged["noise"]), ""], ""))
    cover = ", ".join(f"{100 * value:.0f} % of {name}" for name, value in judged["coverage"].items())
    what = "held-out runs" if scores["held_out"] else "runs of training"
    note = f"<p>{judged['runs']} {what}. The learned law's intervals cover {cover}.</p>"
    return table((f"viscosity of {what}", "error, rms [%]", "largest [%]"), rows) + note


def channel_table(coupling: dict) -> str:
    """Return what each law says of the channel, and what that costs."""
    rows = []
    for name, law in coupling["laws"].items():
        if "failed" in law:
            rows.append(row(NAMES[name], ["no steady flow", "", ""], name))
            continue
        centre = number(law["centre"], 4)
        if "centre_interval" in law:
            centre += f" ({number(law['centre_interval'][0], 4)} to {number(law['centre_interval'][1], 4)})"
        rows.append(row(NAMES[name], [centre, number(100 * law["error"]), number(100 * law["largest_error"])], name))
    run = coupling["molecular_dynamics"]
    noise = number(100 * run["relative_standard_error"])
    rows.append(row("molecular dynamics", [number(run["centre"], 4), f"noise {noise}", ""], ""))
    outside = coupling["laws"]["learned"]["faces_outside"]
    warning = f" {outside} faces are outside of what the learned law was trained on." if outside else ""
    note = (
        f"<p>Molecular dynamics took {number(run['cpu_seconds'])} s of one core, the continuum "
        f"{1e3 * coupling['solver_seconds']:.3g} ms: {number(coupling['cost_ratio'])} times less. The runs that taught "
        f"the law are not counted.{warning}</p>"
    )
    return table(("channel", "centre-line velocity (95 %)", "error, rms [%]", "largest [%]"), rows) + note
