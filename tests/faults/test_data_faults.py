"""Shards that change or cannot be locked while the program runs."""

import fcntl
import os
import shutil
import subprocess
import sys
import time

import pytest

TRAINED_ON, OTHER = "prepared/realisation-0000-000000.hdf5", "prepared/realisation-0002-000000.hdf5"
LIMIT = 60  # seconds for a command that takes about 5


def replace_shard(run_dir) -> None:
    """Put a valid shard of another realisation in the place of one, as a copy that ends with a rename does."""
    shutil.copy(run_dir / OTHER, run_dir / "copied")
    os.replace(run_dir / "copied", run_dir / TRAINED_ON)


@pytest.mark.fault(35, "shard replaced during a run, read from files")
def test_a_replaced_shard_ends_a_training_that_reads_from_files(prepared_run, train_command, tmp_path, fault):
    """Seen in the next epoch."""
    run_dir = prepared_run.copy(tmp_path / "run")
    # So many steps that it cannot end before the shard is replaced.
    job = train_command(run_dir, "train.store=stream", "train.unrolled.iterations=4000")
    job.wait_for_step(5)
    injected = time.monotonic()
    replace_shard(run_dir)
    finished = job.finish()
    assert finished.exit_code == 3, finished.stderr
    (error,) = finished.errors
    assert TRAINED_ON in error
    job.assert_nothing_survives()
    fault.exited(finished.ended_at - injected)


@pytest.mark.fault(35, "shard replaced during a run, kept in memory")
def test_a_replaced_shard_does_not_reach_a_training_that_has_it_in_memory(
    prepared_run, train_command, reference_weights, weights_of, tmp_path
):
    run_dir = prepared_run.copy(tmp_path / "run")
    job = train_command(run_dir, "train.store=node")
    job.wait_for_step(1)
    replace_shard(run_dir)
    finished = job.finish()
    assert finished.exit_code == 0, finished.stderr
    assert weights_of(run_dir) == reference_weights
    # The next stage sees that its input is not what was recorded.
    after = train_command(run_dir, ranks=1).finish()
    assert after.exit_code == 3 and f"{TRAINED_ON} changed" in after.stderr


def prepare_with(error, run_dir, experiment_file, environment=None) -> tuple[subprocess.CompletedProcess, int]:
    """`hpcsurrogate prepare`, from the start, while requests for a lock on a raw shard are answered with an error.

    Returns what the command left, and how many requests were answered so.
    """
    shutil.rmtree(run_dir / "prepared", ignore_errors=True)
    shard, calls = run_dir / "raw" / "realisation-0000-000000.hdf5", run_dir.with_name("calls")
    strace = ["strace", "-f", "-o", str(calls), "-P", str(shard), "-e", "trace=flock", "-e", f"inject=flock:{error}"]
    command = [sys.executable, "-m", "hpcsurrogate", "prepare", str(experiment_file), f"run_dir={run_dir}"]
    variables = os.environ | (environment or {})
    done = subprocess.run(strace + command, env=variables, capture_output=True, text=True, timeout=LIMIT, check=False)
    return done, calls.read_text().count("INJECTED")


@pytest.mark.fault(36, "lock refused twice, then given")
def test_a_lock_that_is_given_at_last_is_waited_for(prepared_run, tmp_path):
    run_dir = prepared_run.copy(tmp_path / "run")
    done, refusals = prepare_with("error=EAGAIN:when=1..2", run_dir, prepared_run.experiment_file)
    assert done.returncode == 0, done.stderr
    assert refusals == 2
    # The shards themselves name the time at which they were written.
    of_run, expected = (folder / "prepared/statistics.json" for folder in (run_dir, prepared_run.run_dir))
    assert of_run.read_text() == expected.read_text()


@pytest.mark.fault(36, "file system without locks")
def test_without_locks_the_hint_is_given_and_works(prepared_run, tmp_path):
    run_dir = prepared_run.copy(tmp_path / "run")
    done, refusals = prepare_with("error=ENOLCK", run_dir, prepared_run.experiment_file)
    assert done.returncode == 3, done.stderr
    assert refusals > 2
    (line,) = [line for line in done.stderr.splitlines() if "error:" in line]
    assert "raw/realisation-0000-000000.hdf5" in line and "No locks available" in line
    hint = dict(word.split("=") for word in line.split() if word.startswith("HDF5_USE_FILE_LOCKING="))
    again, _ = prepare_with("error=ENOLCK", run_dir, prepared_run.experiment_file, hint)
    assert again.returncode == 0, again.stderr


@pytest.mark.fault(36, "shard locked by another program")
def test_a_shard_that_another_program_keeps_locked_is_named(prepared_run, train_command, tmp_path, fault):
    run_dir = prepared_run.copy(tmp_path / "run")
    with (run_dir / TRAINED_ON).open("r+b") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        job = train_command(run_dir)
        started = time.monotonic()
        finished = job.finish()
    assert finished.exit_code == 3, finished.stderr
    (error,) = finished.errors
    assert TRAINED_ON in error and "HDF5_USE_FILE_LOCKING" in error
    job.assert_nothing_survives()
    fault.exited(finished.ended_at - started)
