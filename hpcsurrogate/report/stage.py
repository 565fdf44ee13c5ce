"""The report stage: figures/*.png and report.html from the files of the stages before."""

import io
from collections.abc import Mapping

from hpcsurrogate.core.atomic import atomic_path, write_text_atomic
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.report.cost_figure import cost_figure
from hpcsurrogate.report.curve_figures import series_figure, spectrum_figure, training_figure
from hpcsurrogate.report.distribution_figure import distribution_figure
from hpcsurrogate.report.field_figure import field_figure
from hpcsurrogate.report.page import render_page
from hpcsurrogate.report.results import read_results
from hpcsurrogate.report.style import Figure, figure_style


def run_report(experiment: Experiment, paths: RunPaths) -> None:
    """Draw the figures and write the page.

    Raises
    ------
    ConfigError    if matplotlib is not installed
    DataError      if couple.json, couple.npz, evaluate.json or metrics.jsonl is missing or damaged, or unseen.json is
                   damaged

    Notes
    -----
    The same inputs give the same figures (tests/unit/report/test_stage.py).
    """
    results = read_results(paths)
    with figure_style():
        figures = {
            "cost": cost_figure(results),
            "vorticity": field_figure(results, experiment.flow.domain),
            "series": series_figure(results),
            "spectra": spectrum_figure(results),
            "distributions": distribution_figure(results),
            "training": training_figure(results),
        }
        images = write_figures(figures, paths)
    write_text_atomic(paths.report, render_page(experiment, results, images))
    get_logger("report").info("wrote %s", paths.report)


def write_figures(figures: Mapping[str, Figure], paths: RunPaths) -> dict[str, bytes]:
    """Write figures/NAME.png of each and return the bytes; inside `figure_style`."""
    images = {name: _png(figure) for name, figure in figures.items()}
    for name, image in images.items():
        with atomic_path(paths.figures / f"{name}.png") as temporary:
            temporary.write_bytes(image)
    return images


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
