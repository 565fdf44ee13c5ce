"""Vorticity of one start side by side: filtered DNS, no closure, best classical, learned."""

import matplotlib
import numpy as np
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from hpcsurrogate.report.results import Results
from hpcsurrogate.report.style import new_figure

MAX_TIMES = 3
BLOWN_UP_COLOR = "#d9d9d9"


def field_figure(results: Results, domain: tuple[float, ...]) -> Figure:
    """Draw vorticity [1/s] at up to three times, one colour scale for all; cells that are not finite are grey.

    In three dimensions it is the magnitude in the middle plane of z.

    Parameters
    ----------
    results : Results
    domain : tuple    Lx, Ly[, Lz] [m]
    """
    in_plane = results.num_dims == 2
    columns = _columns(results)
    rows = _choose_times(results.fields["vorticity_times"])
    limit = float(np.percentile(np.abs(results.fields["vorticity_reference"]), 99.5))
    aspect = domain[1] / domain[0]
    figure = new_figure(1.95 * len(columns) + 0.9, (1.95 * len(rows)) * aspect + 0.25)
    panels = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
    for row, time_index in enumerate(rows):
        for column, (title, vorticity) in enumerate(columns):
            axes = panels[row, column]
            field = np.ma.masked_invalid(vorticity[time_index]).T
            image = axes.imshow(
                field, origin="lower", cmap=_colormap(in_plane), vmin=-limit if in_plane else 0, vmax=limit,
                extent=(0, domain[0], 0, domain[1]),
                interpolation="nearest",
            )  # fmt: skip
            axes.grid(False)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(True)
            if row == 0:
                axes.set_title(title)
        panels[row, 0].set_ylabel(f"t = {results.fields['vorticity_times'][time_index]:.3g} s")
    label, extend = ("vorticity [1/s]", "both") if in_plane else ("vorticity magnitude [1/s]", "max")
    figure.colorbar(image, ax=panels, label=label, shrink=0.7, aspect=28, extend=extend, pad=0.015)
    return figure


def _columns(results: Results) -> list[tuple[str, np.ndarray]]:
    """Titles and fields; a contender on another grid has no fields to compare and gets no column."""
    columns = [("filtered DNS", results.fields["vorticity_reference"])]
    for index in (results.bare, results.best_classical, results.learned):
        if index is not None and f"vorticity/{index}" in results.fields:
            columns.append((results.contenders[index]["name"], results.fields[f"vorticity/{index}"]))
    return columns


def _choose_times(times: np.ndarray) -> list[int]:
    """Evenly spaced times up to the last; the start, where all are equal, is left out."""
    later = [index for index, time in enumerate(times) if time > 0]
    if len(later) <= MAX_TIMES:
        return later
    return [later[round(share * (len(later) - 1))] for share in np.linspace(0, 1, MAX_TIMES)]


def _colormap(has_sign: bool) -> Colormap:
    return matplotlib.colormaps["RdBu_r" if has_sign else "magma"].with_extremes(bad=BLOWN_UP_COLOR)
