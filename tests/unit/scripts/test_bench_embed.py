"""The benchmark of embedded closures: its arithmetic, and one real case on a small grid."""

import importlib.util
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_embed", SCRIPTS / "bench_embed.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        spec.loader.exec_module(module)
    return module


def by_name(figures):
    return {entry["name"]: entry for entry in figures}


def test_overhead_is_the_median_difference_of_calls_side_by_side(bench):
    """Two of five calls meet a slow moment, one of them in the bare call: neither moves the median."""
    pairs = [(1000, 4000), (1000, 900_000), (800_000, 4000), (2000, 5000), (2000, 5000)]
    assert bench.overhead_microseconds(pairs) == pytest.approx(3.0)


@pytest.mark.parametrize(("nanoseconds", "met"), [(10_000, True), (10_001, False)])
def test_the_c_abi_may_add_ten_microseconds(bench, nanoseconds, met):
    taken = [(50_000, 50_000 + nanoseconds)] * 3
    slow = [(1, 2 * (50_000 + nanoseconds))] * 3
    pairs = {"forward": taken, "guarded": taken, bench.BY_DEFAULT: slow}
    forward, guarded, memory = bench.overhead_figures(bench.Case("cnn", 8), pairs)
    assert (guarded["name"], guarded["unit"]) == ("cnn 8^2: C ABI - bare LibTorch, guarded", "us")
    assert (forward["met"], guarded["met"]) == (met, met)
    assert memory["value"] == pytest.approx(2.0) and "met" not in memory


def test_ratios_say_what_is_over_what(bench):
    seconds = {"right-hand side": [2.0], "eager": [8.0], "exported": [4.0], "guarded": [5.0]}
    figures = by_name(bench.figures_of(bench.Case("cnn", 64), seconds))
    assert {name: entry["value"] for name, entry in figures.items()} == {
        "cnn 64^2: exported / eager": 0.5,
        "cnn 64^2: guarded / exported": 1.25,
        "cnn 64^2: guarded / right-hand side": 2.5,
    }
    assert figures["cnn 64^2: exported / eager"]["met"]
    slower = by_name(bench.figures_of(bench.Case("cnn", 64), seconds | {"exported": [8.1], "compiled": [16.2]}))
    assert not slower["cnn 64^2: exported / eager"]["met"]
    assert slower["cnn 64^2: .pt2 / exported"]["value"] == pytest.approx(2.0)


def test_turns_go_back_and_forth(bench):
    order = []
    contestants = {name: lambda name=name: order.append(name) for name in ("a", "b", "c")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "TURN_SECONDS", 0.0)
        seconds = bench.take_turns(contestants, rounds=3)
    assert "".join(order[-9:]) == "cbaabccba"
    assert {name: len(turns) for name, turns in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_real_case_fills_the_table(bench, tmp_path):
    case = bench.Case("quadratic_stencil", 16)
    seconds = bench.measure(case, tmp_path / "model.pt", rounds=2)
    assert set(seconds) == set(bench.COLUMNS) - {"compiled"}
    assert all(len(turns) == 2 and min(turns) > 0 for turns in seconds.values())
    label, size, *medians = bench.line(case, seconds).split()
    assert (label, size, len(medians), medians[-1]) == ("quadratic_stencil", "16^2", len(bench.COLUMNS), "-")
    assert len(bench.heading()) == len(bench.line(case, seconds))


@pytest.mark.parametrize("grid", [(16, 16), (8, 8, 8)])
def test_steps_with_a_deconvolution_are_over_the_bare_one(bench, grid, tmp_path):
    figures = bench.step_figures(grid, bench.measure_steps(grid, tmp_path / "model.pt", rounds=3))
    assert [entry["name"].split(", ")[1] for entry in figures] == [
        "added to the fluxes / bare",
        "in their place / bare",
    ]
    assert all(entry["value"] > 0 for entry in figures)
