"""The stage draws every figure, each shows what it should, and the page holds the same pictures."""

import base64

import numpy as np
import pytest
from matplotlib.colors import to_hex

from hpcsurrogate.report.cost_figure import cost_figure, pareto_front
from hpcsurrogate.report.curve_figures import series_figure, spectrum_figure, training_figure
from hpcsurrogate.report.distribution_figure import distribution_figure
from hpcsurrogate.report.field_figure import field_figure
from hpcsurrogate.report.page import CAPTIONS
from hpcsurrogate.report.results import read_results
from hpcsurrogate.report.stage import run_report
from hpcsurrogate.report.style import contender_looks
from hpcsurrogate.report.tables import contender_table

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
    times, errors = cost_figure(results).axes
    assert times.get_xscale() == "log" and "ms" in errors.get_xlabel() and "0.95" in times.get_ylabel()
    labels = [text.get_text() for text in times.get_legend().get_texts()]
    assert "gradient, order 2 & <4> (blew up)" in labels
    assert len(labels) == len(results.drawing_order()) + 2, "the bare host on finer grids, and the front"
    lines = {line.get_label(): line for line in times.get_lines()}
    assert list(lines["no closure, finer grids"].get_xdata()) == [31.0, 63.0, 123.0, 840.0]
    points = {container.get_label(): container.lines[0].get_xydata()[0] for container in times.containers}
    assert tuple(points["learned"]) == (362.0, 3.31)
    points = {container.get_label(): container.lines[0].get_xydata()[0] for container in errors.containers}
    assert tuple(points["learned"]) == pytest.approx((362.0, 0.3 / 4.31))
    assert "gradient, order 2 & <4> (blew up)" not in points, "it has no error"
    assert any(list(line.get_xdata()) == [66.0, 190.0] for line in times.get_lines()), "a ladder of its own"


def test_the_front_holds_what_nothing_unlearned_beats(results):
    """By cost: 31 ms 0.32 s, 56 ms 0.41 s, 60 ms 1.54 s, 66 ms 2.43 s, 190 ms 3.1 s, 840 ms 3.59 s; not the learned."""
    for axes in cost_figure(results).axes:
        front = next(line for line in axes.get_lines() if line.get_label() == "front without learning")
        assert list(front.get_xdata()) == [31.0, 56.0, 60.0, 66.0, 190.0, 840.0]


def test_the_front_of_known_points():
    points = [(3.0, 5.0), (1.0, 1.0), (2.0, 0.5), (1.0, 2.0), (4.0, 5.0)]
    assert pareto_front(points, float.__gt__) == [(1.0, 2.0), (3.0, 5.0)]
    assert pareto_front(points, float.__lt__) == [(1.0, 1.0), (2.0, 0.5)]
    assert pareto_front([], float.__lt__) == []


def test_densities_hold_all_samples(results):
    """The integral of a density is one, but for the quantiles that end no bin and for straight lines over tails."""
    figure = distribution_figure(results)
    for axes in figure.axes:
        line = next(line for line in axes.get_lines() if line.get_label() == "learned")
        where, density = line.get_xdata(), line.get_ydata()
        assert np.all(density > 0)
        assert 0.8 < np.trapezoid(density, where) < 1.1
        assert "gradient, order 2 & <4>" not in [line.get_label() for line in axes.get_lines()]


def test_figures_of_a_flow_in_three_dimensions(results):
    """The middle plane of the magnitude: never negative, and the scale says so; grids are named by three numbers."""
    for contender in results.contenders:
        contender["grid"] = contender["grid"] + contender["grid"][:1]
    for name in [name for name in results.fields if name.startswith("vorticity") and name != "vorticity_times"]:
        results.fields[name] = np.abs(results.fields[name])
    assert results.num_dims == 3
    figure = field_figure(results, (*DOMAIN, 1.0))
    assert "magnitude" in figure.axes[-1].get_ylabel()
    assert {axes.get_images()[0].get_clim()[0] for axes in figure.axes if axes.get_images()} == {0.0}
    texts = [text.get_text() for text in cost_figure(results).axes[0].texts]
    assert "$256^3$" in texts
    assert "96 × 96 × 96" in contender_table(results)


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
