"""What the status says of stages, jobs and a training, from files alone."""

import json
import os
import socket
import subprocess
import sys

import pytest

from hpcsurrogate.core.atomic import write_text_atomic
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.yaml_loader import dump_experiment
from hpcsurrogate.pipeline import records, training_status
from hpcsurrogate.pipeline.jobs import record_jobs
from hpcsurrogate.pipeline.lock import run_lock
from hpcsurrogate.pipeline.stages import STAGES
from hpcsurrogate.pipeline.status import run_status
from hpcsurrogate.pipeline.training_status import PlannedPhase, training_lines


@pytest.fixture
def status(experiment, paths):
    """`status()` -> the lines, by the run directory."""
    write_text_atomic(paths.config, dump_experiment(experiment))

    def lines():
        said = []
        run_status(paths.run_dir, said.append)
        return said

    return lines


@pytest.fixture
def simulated(experiment, paths):
    records.record_start(STAGES[0], experiment, paths)
    paths.raw.mkdir()
    (paths.raw / "shard").write_text("data")
    records.record_end(STAGES[0], experiment, paths, seconds=1.25, ranks=4)


def line_of(lines, name):
    return next(line for line in lines if line.startswith(name)).split(maxsplit=1)[1]


def squeue_that_prints(folder, text, exit_code=0):
    (folder / "squeue").write_text(f"#!/bin/sh\necho '{text}'\nexit {exit_code}\n")
    (folder / "squeue").chmod(0o755)


def metrics(paths, losses, phase="apriori", seconds=2.0):
    """Steps from 1 on with these losses, validated at every second."""
    with paths.metrics.open("w") as file:
        for step, loss in enumerate(losses, start=1):
            record = {"phase": phase, "step": step, "loss": loss, "seconds": seconds}
            file.write(json.dumps(record | ({} if step % 2 else {"validation_loss": loss})) + "\n")


def test_nothing_done_yet_all_is_missing(status):
    assert [line.split() for line in status()[1:]] == [[stage.name, "missing"] for stage in STAGES]


def test_a_finished_stage_says_how_long_it_took_and_on_what(status, simulated):
    assert line_of(status(), "simulate") == "done in 1.25 s on 4 ranks"


def test_a_stage_whose_output_changed_is_to_be_done_again(status, simulated, paths):
    (paths.raw / "shard").write_text("other")
    assert line_of(status(), "simulate") == "to be done again: raw/shard changed"


def test_a_stage_at_work_is_running_and_interrupted_when_its_process_is_gone(status, experiment, paths):
    records.record_start(STAGES[0], experiment, paths)
    with run_lock(paths):
        running = line_of(status(), "simulate")
    assert running.startswith("running, begun 20")
    assert running.endswith(f"process {os.getpid()} on {socket.gethostname()}")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    paths.lock.write_text(f"process {ended.pid} on {socket.gethostname()}")
    assert line_of(status(), "simulate").startswith("interrupted, begun 20")


def test_of_a_process_on_another_host_nothing_can_be_seen(status, experiment, paths):
    records.record_start(STAGES[0], experiment, paths)
    paths.lock.write_text("process 12 on node77")
    assert line_of(status(), "simulate").endswith("process 12 on node77, unless it was ended there")


def test_the_lock_stays_free_and_nothing_is_written(status, simulated, paths):
    before = {path: path.stat().st_mtime_ns for path in paths.run_dir.rglob("*")}
    with run_lock(paths):
        before = {path: path.stat().st_mtime_ns for path in paths.run_dir.rglob("*")}
        status()
    assert {path: path.stat().st_mtime_ns for path in paths.run_dir.rglob("*")} == before


def test_jobs_are_named_with_their_state_and_output(status, paths, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    squeue_that_prints(tmp_path, "17|RUNNING|node[0-1]\n18|PENDING|(Dependency)")
    record_jobs(paths, {"data": "16", "train": "17", "score": "18"})
    data, train, score = (line for line in status() if line.startswith("job "))
    assert data.split()[:4] == ["job", "data", "16", "over;"]
    assert "17 running (node[0-1]); output" in train
    assert train.endswith("slurm/*-train-17.out")
    assert "18 pending (Dependency)" in score


def test_a_slurm_that_does_not_answer_does_not_hide_the_rest(status, paths, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    record_jobs(paths, {"train": "17"})
    assert line_of(status(), "jobs").startswith("train 17: squeue: not on PATH")


def test_a_training_says_how_far_it_is_and_how_long_it_takes(experiment, paths, monkeypatch):
    """Forty steps of a hundred are done, at 2 s each but one: the median is what counts."""
    planned = [PlannedPhase("apriori", 100), PlannedPhase("unrolled", 30)]
    monkeypatch.setattr(training_status, "planned_phases", lambda *_: planned)
    (paths.checkpoints / "step-00000030").mkdir(parents=True)
    (paths.checkpoints / "step-00000030" / "manifest.json").write_text("{}")
    (paths.checkpoints / ".partial-step-00000040").mkdir()
    metrics(paths, [1.0 / step for step in range(1, 41)])
    text = paths.metrics.read_text().replace('"seconds": 2.0', '"seconds": 500.0', 1)
    paths.metrics.write_text(text + '{"phase": "apriori", "st')  # a line that is just being written
    last, left, checkpoint = training_lines(experiment, paths, finished=False)
    assert last.startswith("last step   40, phase apriori, ")
    assert last.endswith("loss 0.025, validation loss 0.025, best 0.025")
    assert left == (
        "time left   2 min for the 60 steps left of this phase at 2 s each, then 30 steps of phase unrolled; "
        "less if it stops early"
    )
    assert checkpoint.startswith("checkpoint  step 30, ")
    assert checkpoint.endswith(" ago; 1 kept")


def test_a_loss_that_is_not_finite_is_called_so(experiment, paths, monkeypatch):
    monkeypatch.setattr(training_status, "planned_phases", lambda *_: [PlannedPhase("apriori", 100)])
    paths.run_dir.mkdir()
    metrics(paths, [None])
    assert training_lines(experiment, paths, finished=False)[0].endswith("loss not finite")


def test_a_finished_training_has_no_time_left(experiment, paths):
    paths.run_dir.mkdir()
    metrics(paths, [1.0, 0.5])
    (last,) = training_lines(experiment, paths, finished=True)
    assert last.startswith("last step   2, ")


def test_without_prepared_data_the_time_left_is_not_known(experiment, paths):
    paths.run_dir.mkdir()
    metrics(paths, [1.0, 0.5])
    _, left = training_lines(experiment, paths, finished=False)
    assert left.startswith("time left   not known: ")
    assert "catalogue.json" in left


def test_requeues_are_counted(experiment, paths):
    paths.run_dir.mkdir()
    attempt = {"job": "7", "requeues": 4, "without_progress": 2, "furthest_step": 10}
    (paths.run_dir / "attempts.json").write_text(json.dumps(attempt))
    assert training_lines(experiment, paths, finished=False) == ["requeues    4 of job 7, 2 in a row without progress"]


def test_an_experiment_file_serves_as_well(experiment_file, status):
    said = []
    run_status(experiment_file, said.append)
    assert said == status()


def test_a_folder_that_is_no_run_directory_is_named(tmp_path):
    with pytest.raises(ConfigError, match="is no run directory"):
        run_status(tmp_path)
