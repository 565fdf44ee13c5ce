"""Scaling: what efficiency means, what the table and the figure show, what is refused before anything is started."""

import json

import matplotlib.image
import numpy as np
import pytest

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.yaml_loader import dump_experiment, load_experiment
from hpcsurrogate.study.children import first_error
from hpcsurrogate.study.scaling import measure_scaling, points, tables
from hpcsurrogate.study.scaling_figure import scaling_figure, write_scaling_figure
from hpcsurrogate.study.scaling_runs import NEVER, Measurement, _last_line, _overrides

EXPERIMENT = {
    "name": "scaled",
    "run_dir": "run",
    "flow": {"viscosity": 0.01},
    "host": {"kind": "finite_volume", "grid": [16, 16], "time_step": 0.05},
    "simulate": {"kind": "dns", "grid": [32, 32], "realisations": 3, "duration": 1.0, "snapshot_interval": 0.1},
    "prepare": {"split": {"train": [0], "validation": [1], "test": [2]}},
    "train": {
        "model": {"kind": "cnn"},
        "apriori": {"epochs": 3, "batch_size": 6},
        "unrolled": {"iterations": 9, "batch_size": 4, "snapshots": [1, 4, 2]},
        "time_limit": 5.0,
    },
    "couple": {"duration": 0.5, "contenders": [{"name": "none", "closure": {"kind": "none"}}]},
}


def measurement(ranks, batch_size, milliseconds):
    return Measurement(ranks, batch_size, 1e-3 * np.array([milliseconds, 1.0, milliseconds, 1e4]))


def content(num_points=3):
    strong = [measurement(1, 8, 100), measurement(2, 8, 62.5), measurement(4, 8, 62.5)][:num_points]
    weak = [measurement(1, 8, 100), measurement(2, 16, 125), measurement(4, 32, 400)][:num_points]
    return {
        "phase": "unrolled", "engine": "horovod", "steps": 4, "threads_per_rank": 2, "cores": 4,
        "strong": points(strong, threads=2, cores=4), "weak": points(weak, threads=2, cores=4),
    }  # fmt: skip


def test_efficiency_is_one_for_the_first_and_counts_the_work_that_a_rank_does_in_a_second():
    strong, weak = content()["strong"], content()["weak"]
    # t1 n1 / (t n) = 100 / (62.5 * 2), and so on; four rounded operations.
    assert [point["efficiency"] for point in strong] == pytest.approx([1.0, 0.8, 0.4], rel=1e-14)
    # t1 / t = 100 / 125, 100 / 400.
    assert [point["efficiency"] for point in weak] == pytest.approx([1.0, 0.8, 0.25], rel=1e-14)
    assert [point["samples_per_second"] for point in weak] == pytest.approx([80.0, 128.0, 80.0], rel=1e-14)


def test_efficiency_counts_from_the_smallest_number_of_ranks():
    measured = points([measurement(2, 8, 100), measurement(4, 8, 50)], threads=1, cores=8)
    assert [point["efficiency"] for point in measured] == pytest.approx([1.0, 1.0], rel=1e-14)


def test_a_step_takes_the_median_so_that_one_slow_step_does_not_count():
    point = points([measurement(1, 8, 100)], threads=1, cores=1)[0]
    assert point["step_seconds"] == pytest.approx(0.1)
    assert point["step_seconds_quartiles"] == pytest.approx([0.0752, 2.575], rel=1e-2)


def test_table_says_where_threads_share_cores():
    lines = tables(content())
    assert "phase unrolled, engine horovod" in lines[0] and "2 thread(s) a rank, 4 cores" in lines[0]
    rows = [line.split() for line in lines if line.split() and line.split()[0].isdigit()]
    assert [row[:5] for row in rows] == [
        ["1", "8", "100.00", "80.0", "100%"],
        ["2", "8", "62.50", "128.0", "80%"],
        ["4", "8", "62.50", "128.0", "40%"],
        ["1", "8", "100.00", "80.0", "100%"],
        ["2", "16", "125.00", "128.0", "80%"],
        ["4", "32", "400.00", "80.0", "25%"],
    ]
    assert [" ".join(row[5:8]) for row in rows] == ["", "", "more threads than"] * 2


def test_figure_draws_every_point_and_the_ideal(tmp_path):
    first, second = scaling_figure(content()).axes
    lines = {line.get_label(): line.get_ydata() for line in first.lines}
    assert list(lines["strong: the same batch"]) == pytest.approx([80.0, 128.0, 128.0])
    assert list(lines["weak: the same share a rank"]) == pytest.approx([80.0, 128.0, 80.0])
    assert list(lines["ideal"]) == pytest.approx([80.0, 160.0, 320.0])
    assert [len(axes.patches) for axes in (first, second)] == [1, 1]  # the ground where threads share cores
    assert [len(axes.patches) for axes in scaling_figure(content(num_points=2)).axes] == [0, 0]
    for name in ("a.png", "b.png"):
        write_scaling_figure(content(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert matplotlib.image.imread(tmp_path / "a.png").shape[:2] > (300, 900)


def test_a_single_number_of_ranks_can_be_drawn_too():
    assert len(scaling_figure(content(num_points=1)).axes) == 2


def changed(**train):
    return Experiment.model_validate_json(json.dumps(EXPERIMENT | {"train": EXPERIMENT["train"] | train}))


@pytest.fixture
def write_experiment(tmp_path):
    def write(**train):
        path = tmp_path / "experiment.yaml"
        path.write_text(dump_experiment(changed(**train).model_copy(update={"run_dir": str(tmp_path / "run")})))
        return path

    return write


@pytest.mark.parametrize(
    ("train", "phase", "epochs", "iterations"),
    [({}, "unrolled", 0, 14), ({"unrolled": {"iterations": 0}}, "apriori", 13, 0)],
)
def test_only_the_last_phase_is_trained_with_the_batch_that_is_measured(
    write_experiment, train, phase, epochs, iterations
):
    path = write_experiment(**train)
    settings = load_experiment(path, _overrides(load_experiment(path), batch_size=24, steps=13)).train
    assert (settings.apriori.epochs, settings.unrolled.iterations) == (epochs, iterations)
    assert getattr(settings, phase).batch_size == 24
    assert settings.unrolled.snapshots == (4,)  # the longest windows, which cost most
    assert settings.time_limit is None and settings.patience == NEVER


@pytest.mark.parametrize(
    ("train", "arguments", "what"),
    [
        ({}, ((1, 3), 5), "train.unrolled.batch_size 4 cannot be split over 3 ranks"),
        ({}, ((1, 0), 5), "--ranks and --steps must be positive"),
        ({}, ((), 5), "--ranks and --steps must be positive"),
        ({}, ((1, 2), 0), "--ranks and --steps must be positive"),
        ({"engine": "none"}, ((1, 2), 5), "train.engine is none"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(
    write_experiment, tmp_path, train, arguments, what
):
    with pytest.raises(ConfigError, match=what):
        measure_scaling(write_experiment(**train), (), *arguments)
    assert not (tmp_path / "run").exists()


def test_data_must_be_prepared(write_experiment):
    with pytest.raises(DataError, match="stage simulate is needed first .* --until prepare"):
        measure_scaling(write_experiment(), (), (1, 2), 5)


@pytest.mark.parametrize(("said", "line"), [("starting\nkilled\n\n", "killed"), ("", "it said nothing")])
def test_where_no_error_was_reported_the_last_line_stands_for_it(tmp_path, said, line):
    (tmp_path / "output.log").write_text(said)
    assert first_error(tmp_path / "output.log") is None
    assert _last_line(tmp_path / "output.log") == line


def test_the_reason_of_a_failed_training_is_its_first_error_line(tmp_path):
    log = tmp_path / "output.log"
    log.write_text("starting\n\0hpcsurrogate: error: no data\nprterun noticed\nhpcsurrogate: error: rank lost\n")
    assert first_error(log) == "no data"
    assert first_error(log, start=30) == "rank lost"
