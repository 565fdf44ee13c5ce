"""What a batch system does to a training, done by a real SLURM: one controller and two node daemons on this machine.

Each job trains on two nodes, a rank each. Whatever happens on the way, its final weights are those of a training that
nothing disturbed, bit for bit.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcsurrogate.core.paths import RunPaths
from tests.slurm_daemons import LOCAL_SLURM, TIMEOUT, ask, processes_with, wait_until

PROJECT = Path(__file__).resolve().parents[2]

# A sitecustomize module for all processes of a job. Rank 0 stops at some points of its training, each once: it leaves
# the file `mark`, then does what the test asks for. `told` is set when the training's own handler of a signal has run,
# so that no test is a race. The points: "save", in the middle of the checkpoint of a step; "step", at the end of one.
STOP_AT_POINTS = """
import json, os, pathlib, signal, subprocess, threading, time

POINTS = {points!r}
JOB = os.environ.get("SLURM_JOB_ID")
told = threading.Event()
set_handler, sync, dumps = signal.signal, os.fsync, json.dumps


def signal_and_tell(number, handler):
    if number not in (signal.SIGUSR1, signal.SIGTERM) or not callable(handler):
        return set_handler(number, handler)
    return set_handler(number, lambda *arguments: (handler(*arguments), told.set()))


def arrive(point, step):
    action, mark = POINTS.get((point, step), (None, None))
    if action is not None and not os.path.exists(mark):
        pathlib.Path(mark).touch()
        exec(action, globals() | {{"mark": mark}})


def sync_part(descriptor):
    folder = os.path.basename(os.path.dirname(os.readlink(f"/proc/self/fd/{{descriptor}}")))
    if folder.startswith(".partial-step-"):
        arrive("save", int(folder.removeprefix(".partial-step-")))
    sync(descriptor)


def write_record(content, **options):
    if isinstance(content, dict) and "gradient_norm" in content:
        arrive("step", content["step"])
    return dumps(content, **options)


if os.environ.get("SLURM_PROCID") == "0":
    signal.signal, os.fsync, json.dumps = signal_and_tell, sync_part, write_record
"""
UNTIL_TOLD = "assert told.wait(100)"
FOR_EVER = "time.sleep(600)"


class BatchJob:
    """A job of this SLURM that trains in a run directory."""

    def __init__(self, number: str, run_dir: Path, output: Path):
        self.number, self.run_dir, self._output = number, run_dir, output

    @property
    def output(self) -> str:
        """All that the job has printed, in all its starts."""
        return self._output.read_text() if self._output.exists() else ""

    def field(self, name: str) -> str:
        """JobState, Restarts, ExitCode, ..."""
        answer = ask("scontrol", "--oneliner", "show", "job", self.number)
        return dict(pair.split("=", 1) for pair in answer.split() if "=" in pair)[name]

    def ranks(self) -> dict[int, str]:
        """Processes of the ranks that live, of whichever start of the job."""
        return processes_with(f"SLURM_JOB_ID={self.number}", f"SLURM_CONF={os.environ['SLURM_CONF']}", "PMIX_RANK=")

    def wait_for_end_of(self, ranks: dict[int, str], since: float) -> float:
        """Wait until none of these processes lives; return the seconds since `since`."""
        assert wait_until(lambda: not ranks.keys() & self.ranks().keys()), f"{self.ranks()} live\n{self.output}"
        return time.monotonic() - since

    def wait_for_restarts(self, number: int) -> None:
        """Wait until SLURM has queued the job again so often."""
        assert wait_until(lambda: int(self.field("Restarts")) >= number), f"not queued again\n{self.output}"

    def wait_for_state(self, state: str) -> None:
        """Wait until the job is over, and assert that it ended so."""
        over = lambda: self.field("JobState") not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")  # noqa: E731
        assert wait_until(over), f"still {self.field('JobState')}\n{self.output}"
        assert self.field("JobState") == state, self.output


@pytest.fixture
def train_job(slurm, prepared_run, tmp_path):
    """`train_job(*overrides, environment=None, run_dir=None)` -> BatchJob of slurm/train.sbatch on two nodes.

    Without `run_dir` it has a run of its own. What is still in the queue at the end of the test is cancelled.
    """
    jobs = []

    def submit(*overrides, environment=None, run_dir=None):
        run_dir = run_dir or prepared_run.copy(tmp_path / f"run-{len(jobs)}")
        output = tmp_path / f"job-{len(jobs)}.out"
        number = ask(
            "env", *(f"{name}={value}" for name, value in (environment or {}).items()),
            "sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--time=10",
            f"--output={output}", PROJECT / "slurm" / "train.sbatch",
            prepared_run.experiment_file, f"run_dir={run_dir}", *overrides,
        )  # fmt: skip
        jobs.append(BatchJob(number, run_dir, output))
        return jobs[-1]

    yield submit
    for job in jobs:
        ask("scancel", job.number)


@pytest.fixture
def stop_at(tmp_path):
    """`stop_at((point, step, action), ...)` -> (environment of a job, a file for each point, there when it is reached).

    Actions are Python, with `told`, `mark`, JOB and some modules of the library.
    """

    def write(*points):
        folder, marks = tmp_path / "injected", [tmp_path / f"reached-{number}" for number in range(len(points))]
        folder.mkdir()
        actions = {
            (point, step): (action, str(mark)) for (point, step, action), mark in zip(points, marks, strict=True)
        }
        (folder / "sitecustomize.py").write_text(STOP_AT_POINTS.format(points=actions))
        return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])}, *marks

    return write


@pytest.mark.fault(12, "SIGUSR1 from SLURM in mid-step")
def test_a_signalled_job_checkpoints_queues_itself_again_and_the_chain_goes_on(
    slurm, prepared_run, stop_at, reference_weights, weights_of, tmp_path, monkeypatch, fault
):
    """The whole chain of `hpcsurrogate submit`, up to the report."""
    environment, stopped = stop_at(("step", 14, UNTIL_TOLD))
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    run_dir = prepared_run.copy(tmp_path / "run")
    command = [sys.executable, "-m", "hpcsurrogate"]
    submit = [
        *command,
        "submit",
        prepared_run.experiment_file,
        f"run_dir={run_dir}",
        "slurm.nodes=2",
        "slurm.time=0:10:00",
    ]
    train, score = (line.split()[2].rstrip(",") for line in ask(*submit).splitlines()[:2])
    jobs = {name: BatchJob(number, run_dir, run_dir / "slurm" / f"faults-{name}-{number}.out")
            for name, number in (("train", train), ("score", score))}  # fmt: skip
    try:
        job = jobs["train"]
        assert wait_until(stopped.exists), job.output
        refused = subprocess.run(submit, capture_output=True, text=True, timeout=TIMEOUT)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        ranks, sent = job.ranks(), time.monotonic()
        ask("scancel", "--signal=USR1", "--batch", train)
        seconds = job.wait_for_end_of(ranks, sent)
        newest = max(path.name for path in RunPaths(run_dir).checkpoints.glob("step-*"))
        assert int(newest.removeprefix("step-")) >= 14
        assert f"job train   {train} pending" in ask(*command, "status", run_dir)
        job.wait_for_state("COMPLETED")
        assert job.field("Restarts") == "1"
        assert "exit code 75: back into the queue" in job.output
        assert weights_of(run_dir) == reference_weights
        jobs["score"].wait_for_state("COMPLETED")
        assert "report " in ask(*command, "status", run_dir)
        assert RunPaths(run_dir).report.exists()
    finally:
        ask("scancel", train, score)
    fault.exited(seconds)


@pytest.mark.fault(13, "SIGUSR1 from SLURM during a save")
def test_a_save_that_is_under_way_when_the_signal_comes_finishes_once(
    train_job, stop_at, reference_weights, weights_of, fault
):
    """The save of step 8 itself has SLURM signal the job, and goes on only when the training has heard it."""
    action = 'subprocess.run(["scancel", "--signal=USR1", "--batch", JOB], check=True); ' + UNTIL_TOLD
    environment, stopped = stop_at(("save", 8, action))
    job = train_job(environment=environment)
    assert wait_until(stopped.exists), job.output
    ranks, sent = job.ranks(), time.monotonic()
    seconds = job.wait_for_end_of(ranks, sent)
    checkpoints = sorted(path.name for path in RunPaths(job.run_dir).checkpoints.iterdir())
    assert "step-00000008" in checkpoints
    assert [name for name in checkpoints if not name.startswith("step-")] == []
    job.wait_for_state("COMPLETED")
    assert "damaged" not in job.output
    assert job.field("Restarts") == "1"
    assert weights_of(job.run_dir) == reference_weights
    fault.exited(seconds)


@pytest.mark.fault(14, "SIGTERM, then SIGKILL after 5 s, during a save")
def test_after_a_kill_in_mid_save_the_previous_checkpoint_serves(
    train_job, stop_at, reference_weights, weights_of, fault
):
    """The save of step 8 never ends, so the training cannot either; KillWait of the SLURM here is 5 s."""
    environment, stopped = stop_at(("save", 8, FOR_EVER))
    job = train_job(environment=environment)
    assert wait_until(stopped.exists), job.output
    ranks, sent = job.ranks(), time.monotonic()
    ask("scontrol", "requeue", job.number)
    seconds = job.wait_for_end_of(ranks, sent)
    checkpoints = RunPaths(job.run_dir).checkpoints
    assert sorted(path.name for path in checkpoints.glob("step-*"))[-1] == "step-00000004"
    assert (checkpoints / ".partial-step-00000008").is_dir()
    job.wait_for_state("COMPLETED")
    assert "resuming from step 4" in job.output
    assert weights_of(job.run_dir) == reference_weights
    fault.exited(seconds)


@pytest.mark.fault(14, "scancel in mid-step")
def test_a_cancelled_job_checkpoints_and_stays_cancelled(train_job, stop_at, reference_weights, weights_of, fault):
    """Its training ends with 75, for which it would be queued again; submitted anew, it goes on."""
    environment, stopped = stop_at(("step", 6, UNTIL_TOLD))
    job = train_job(environment=environment)
    assert wait_until(stopped.exists), job.output
    ranks, sent = job.ranks(), time.monotonic()
    ask("scancel", job.number)
    seconds = job.wait_for_end_of(ranks, sent)
    job.wait_for_state("CANCELLED")
    assert job.field("Restarts") == "0"
    again = train_job(run_dir=job.run_dir)
    again.wait_for_state("COMPLETED")
    assert "resuming from step 7" in again.output  # the step after the one in which the signal came
    assert weights_of(job.run_dir) == reference_weights
    fault.exited(seconds)


@pytest.mark.fault(15, "scontrol requeue; a node daemon killed")
def test_a_job_that_is_queued_again_and_then_loses_a_node_ends_with_the_same_weights(
    slurm, train_job, stop_at, reference_weights, weights_of, fault
):
    """After `scontrol requeue` the second start is kept from ending, until SLURM finds out that a node is lost."""
    environment, first, second = stop_at(("step", 14, UNTIL_TOLD), ("save", 24, FOR_EVER))
    job = train_job("train.watchdog=100", environment=environment)
    assert wait_until(first.exists), job.output
    ranks, sent = job.ranks(), time.monotonic()
    ask("scontrol", "requeue", job.number)
    fault.exited(job.wait_for_end_of(ranks, sent))
    assert wait_until(second.exists), job.output
    ranks = job.ranks()
    os.kill(int((slurm / "slurmd-node1.pid").read_text()), signal.SIGKILL)
    job.wait_for_restarts(2)
    ask(LOCAL_SLURM, "start", slurm)
    job.wait_for_end_of(ranks, since=0.0)
    fault.withstood()  # how long this takes is a matter of SLURM's patience with a node
    job.wait_for_state("COMPLETED")
    assert weights_of(job.run_dir) == reference_weights


@pytest.mark.fault(16, "requeued again and again without progress")
def test_a_job_that_is_queued_again_without_progress_is_refused(train_job, stop_at, fault):
    """Each start is taken from its nodes before the first checkpoint is whole; one in a row is allowed."""
    action = 'os.unlink(mark); subprocess.run(["scontrol", "requeue", JOB], check=True); os._exit(1)'
    environment, _ = stop_at(("save", 0, action))
    job = train_job("slurm.max_requeues=1", environment=environment)
    job.wait_for_state("FAILED")
    assert job.field("ExitCode") == "2:0"
    assert job.field("Restarts") == "2"
    lines = [line for line in job.output.splitlines() if "error:" in line and "hpcsurrogate" in line]
    assert f"job {job.number} was queued again 2 times in a row without getting beyond step 0" in lines[-1]
    fault.withstood()
