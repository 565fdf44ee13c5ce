"""The stage draws every figure, each shows what it should, and the page holds the same pictures."""

import base64

import numpy as np
import pytest
from matplotlib.colors import to_hex

from hpcsurrogate.report.cost_figure import cost_figure
from hpcsurrogate.report.curve_figures import series_figure, spectrum_figure, training_figure
from hpcsurrogate.report.field_figure import field_figure
from hpcsurrogate.report.page import CAPTIONS
from hpcsurrogate.report.results import read_results
from hpcsurrogate.report.stage import run_report
from hpcsurrogate.report.style import contender_looks

DOMAIN = (6.283185307179586, 6.283185307179586)


@pytest.fixture
def results(paths):
    return read_results(paths)


def test_page_holds_the_figures(experiment, paths):
    run_report(experiment, paths)
    page = paths.report.read_text(encoding="utf-8")
    images = {name: (paths.figures / f"{name}.png").read_bytes() for name in CAPTIONS}
    for image in images.values():
        assert image.startswith(b"\x89PNG") and len(image) > 5000
        assert base64.b64encode(image).decode() in page
    assert sorted(path.name for path in paths.figures.iterdir()) == sorted(f"{name}.png" for name in CAPTIONS)
    run_report(experiment, paths)
    assert images == {name: (paths.figures / f"{name}.png").read_bytes() for name in CAPTIONS}


def test_every_contender_keeps_its_colour(results):
    looks = contender_looks(results)
    assert len({look.color for look in looks.values()}) == len(looks)
    for figure in (series_figure(results), spectrum_figure(results)):
        drawn = {line.get_label(): to_hex(line.get_color()) for line in figure.axes[0].get_lines()}
        for index, look in looks.items():
            name = results.contenders[index]["name"]
            assert drawn.get(name, look.color) == look.color
        assert drawn["learned"] == looks[results.learned].color


def test_cost_figure_shows_all_points(results):
    axes = cost_figure(results).axes[0]
    assert axes.get_xscale() == "log" and "ms" in axes.get_xlabel() and "0.95" in axes.get_ylabel()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "gradient, order 2 & <4> (blew up)" in labels
    assert len(labels) == len(results.drawing_order()) + 1
    ladder = axes.get_lines()[0]
    assert list(ladder.get_xdata()) == [31.0, 63.0, 123.0, 840.0]
    points = {container.get_label(): container.lines[0].get_xydata()[0] for container in axes.containers}
    assert tuple(points["learned"]) == (362.0, 3.31)


def test_series_are_over_those_of_dns(results):
    correlation, energy, enstrophy = series_figure(results).axes
    learned = results.learned
    lines = {line.get_color(): line.get_ydata() for line in energy.get_lines()}
    expected = results.fields[f"energy/{learned}"] / results.fields[f"reference_energy/{learned}"]
    np.testing.assert_array_equal(lines[contender_looks(results)[learned].color], expected)
    assert "[s]" in enstrophy.get_xlabel() and correlation.get_ylim()[1] > 1


def test_blown_up_spectrum_is_left_out(results):
    labels = [line.get_label() for line in spectrum_figure(results).axes[0].get_lines()]
    assert "gradient, order 2 & <4>" not in labels and "learned" in labels and "filtered DNS" in labels


def test_vorticity_has_one_scale_and_the_grid_the_right_way_round(results):
    figure = field_figure(results, DOMAIN)
    images = [axes.get_images()[0] for axes in figure.axes if axes.get_images()]
    assert len(images) == 3 * 4
    assert len({image.get_clim() for image in images}) == 1
    # x runs to the right and y up: the picture's rows are y.
    first = results.fields["vorticity_reference"][1]
    np.testing.assert_array_equal(np.asarray(images[0].get_array()), first.T)
    assert images[0].origin == "lower"
    assert figure.axes[0].get_title() == "filtered DNS" and figure.axes[3].get_title() == "learned"


def test_contender_without_field_gets_no_column(results):
    del results.fields[f"vorticity/{results.best_classical}"]
    titles = [axes.get_title() for axes in field_figure(results, DOMAIN).axes if axes.get_title()]
    assert titles == ["filtered DNS", "no closure", "learned"]


def test_training_has_a_panel_for_each_phase(results):
    apriori, unrolled = training_figure(results).axes
    assert len(apriori.get_lines()[0].get_xdata()) == 120 and len(apriori.get_lines()[1].get_xdata()) == 6
    windows = [line for line in unrolled.get_lines() if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in windows] == [181]


def test_one_phase_alone_is_drawn(results):
    results.training[:] = [record for record in results.training if record["phase"] == "apriori"]
    assert len(training_figure(results).axes) == 1
