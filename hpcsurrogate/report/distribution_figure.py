"""Distributions of vorticity and strain rate in the coarse runs, beside those of filtered DNS."""

import numpy as np
from matplotlib.figure import Figure

from hpcsurrogate.report.results import Results
from hpcsurrogate.report.style import REFERENCE_LINE, contender_looks, label_panel, new_figure

QUANTILES_PER_BIN = 4
TITLES = ("vorticity / rms", "strain rate / rms")
BELOW = 3.0  # how far the axis goes below the lowest density of filtered DNS


def distribution_figure(results: Results) -> Figure:
    """Draw densities from quantiles: as many samples lie between two of them as between any other two.

    Each run is drawn over the root mean square of its own reference: filtered otherwise, this is another one.
    """
    figure = new_figure(7.2, 3.2)
    panels = figure.subplots(1, 2, sharey=True)
    looks, bare = contender_looks(results), results.bare
    lowest, highest = np.inf, 0.0
    for number, (axes, title, letter) in enumerate(zip(panels, TITLES, "ab", strict=True)):
        truth = results.fields[f"reference_quantiles/{bare}"][number]
        for index in results.drawing_order():
            values = results.fields[f"quantiles/{index}"][number]
            if np.isfinite(values).all():
                name = results.contenders[index]["name"]
                scale = _rms(results.fields[f"reference_quantiles/{index}"][number])
                axes.plot(*_density(values / scale), **looks[index].line(), label=name)
        where, density = _density(truth / _rms(truth))
        axes.plot(where, density, **REFERENCE_LINE, label="filtered DNS")
        margin = 0.15 * (where[-1] - where[0])
        axes.set(yscale="log", xlabel=title, xlim=(where[0] - margin, where[-1] + margin))
        lowest, highest = min(lowest, density.min() / BELOW), max(highest, 2 * density.max())
        axes.set_ylim(lowest, highest)
        label_panel(axes, letter)
    panels[0].set_ylabel("probability density [-]")
    panels[1].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure


def _rms(quantiles: np.ndarray) -> float:
    return float(np.sqrt(np.mean(quantiles**2))) or 1.0


def _density(quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles and heights of bins that hold the same share of all samples each."""
    edges = quantiles[::QUANTILES_PER_BIN]
    widths = np.maximum(np.diff(edges), 1e-12)
    return 0.5 * (edges[1:] + edges[:-1]), QUANTILES_PER_BIN / len(quantiles) / widths
