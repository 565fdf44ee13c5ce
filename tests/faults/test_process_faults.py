"""Ranks that fail, die, stand still or differ, in a real training under mpirun."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hpcsurrogate
from hpcsurrogate.parallel.launch import PROMISED_RANKS, launcher_command, launcher_environment

# The first phase has 12 steps; on 2 ranks each has two of the four parts of a batch, so call 11 belongs to step 6.
CALL = 11
WITHIN = 5.0  # [s] from a rank's end to that of all
HANG_WITHIN = 30.0
# Far above any pause between beats, here at most a second, and with the five seconds of the report far below 30.
WATCHDOG = "train.watchdog=6"


@pytest.fixture
def injection(tmp_path):
    """Time of the injection, which the rank notes just before."""
    return Injection(tmp_path / "injected-at")


class Injection:
    """Code that notes the time, which all processes of a machine share, before it does the harm."""

    def __init__(self, path: Path):
        self._path = path

    def of(self, action: str) -> str:
        note = f"import time, pathlib\npathlib.Path({str(self._path)!r}).write_text(str(time.monotonic()))\n"
        return note + action

    @property
    def time(self) -> float:
        return float(self._path.read_text())


def assert_one_line(finished, exit_code, *expected):
    """One error line with all expected words, and the exit code."""
    assert finished.exit_code == exit_code, finished.stderr
    assert len(finished.errors) == 1, finished.stderr
    for words in expected:
        assert words in finished.errors[0], finished.stderr


@pytest.mark.fault(1, "exception on one rank")
@pytest.mark.parametrize("rank", [0, 1])
def test_an_exception_on_one_rank_ends_all_and_names_it(
    rank, prepared_run, train_command, act_in_call, injection, tmp_path, fault
):
    """It comes between two sums over the ranks: the others wait for this one."""
    run_dir = prepared_run.copy(tmp_path / "run")
    action = injection.of("raise ValueError('injected')")
    job = train_command(run_dir, environment=act_in_call(rank, CALL, action))
    finished = job.finish()
    assert finished.exit_code == 1
    assert "ValueError: injected" in finished.stderr  # a fault of the program shows its traceback
    assert f"rank {rank}: a fault of the program (ValueError)" in finished.errors[-1]
    assert finished.ended_at - injection.time < WITHIN
    job.assert_nothing_survives()
    fault.exited(finished.ended_at - injection.time)


@pytest.mark.fault(2, "exit on one rank")
def test_the_exit_code_of_one_rank_is_kept(prepared_run, train_command, act_in_call, injection, tmp_path, fault):
    run_dir = prepared_run.copy(tmp_path / "run")
    job = train_command(run_dir, environment=act_in_call(1, CALL, injection.of("raise SystemExit(7)")))
    finished = job.finish()
    assert_one_line(finished, 7, "rank 1: left with exit code 7")
    assert finished.ended_at - injection.time < WITHIN
    job.assert_nothing_survives()
    fault.exited(finished.ended_at - injection.time)


@pytest.mark.fault(3, "SIGKILL to one rank")
@pytest.mark.parametrize("process", ["worker", "guard"])
def test_a_killed_rank_ends_the_job_and_the_resumed_run_is_exact(
    process, prepared_run, train_command, reference_weights, weights_of, tmp_path, fault
):
    run_dir = prepared_run.copy(tmp_path / "run")
    job = train_command(run_dir)
    job.wait_for_step(6)
    injected_at = time.monotonic()
    os.kill(getattr(job.ranks()[1], process), signal.SIGKILL)
    finished = job.finish()
    # Nobody is left to speak for a guard; mpirun says in its own words which rank a signal ended.
    if process == "worker":
        assert_one_line(finished, 6, "rank 1: the process", "was ended by SIGKILL", "out of memory")
    assert finished.exit_code != 0 and finished.ended_at - injected_at < WITHIN
    job.assert_nothing_survives()
    fault.exited(finished.ended_at - injected_at)
    resumed = train_command(run_dir).finish()
    assert resumed.exit_code == 0 and "resuming from step" in resumed.stderr, resumed.stderr
    assert weights_of(run_dir) == reference_weights


@pytest.mark.fault(3, "SIGKILL to a rank that starts")
def test_a_rank_killed_as_soon_as_it_starts_ends_the_job(prepared_run, train_command, tmp_path, fault):
    """mpirun itself then locked up in every third case, until guards gave it time."""
    run_dir = prepared_run.copy(tmp_path / "run")
    for _ in range(4):
        job = train_command(run_dir)
        while len(ranks := job.ranks()) < 2:
            time.sleep(0.001)
        injected_at = time.monotonic()
        os.kill(ranks[1].worker, signal.SIGKILL)
        finished = job.finish()
        assert_one_line(finished, 6, "rank 1: the process", "was ended by SIGKILL")
        assert finished.ended_at - injected_at < WITHIN
        job.assert_nothing_survives()
    fault.exited(finished.ended_at - injected_at)


@pytest.mark.fault(5, "SIGSEGV or abort on one rank")
@pytest.mark.parametrize(
    ("action", "name", "function"),
    [("import ctypes\nctypes.string_at(0)", "SIGSEGV", "in string_at"), ("os.abort()", "SIGABRT", "in after_forward")],
    ids=["segv", "abort"],
)
def test_a_crash_in_a_library_ends_the_job_names_the_rank_and_leaves_its_stacks(
    action, name, function, prepared_run, train_command, act_in_call, injection, reference_weights, weights_of,
    tmp_path, fault,
):  # fmt: skip
    run_dir = prepared_run.copy(tmp_path / "run")
    job = train_command(run_dir, environment=act_in_call(1, CALL, injection.of(action)))
    finished = job.finish()
    assert_one_line(finished, 6, "rank 1: the process", f"was ended by {name}", "hangs/rank-0001.txt")
    assert function in (run_dir / "hangs" / "rank-0001.txt").read_text()
    assert finished.ended_at - injection.time < WITHIN
    job.assert_nothing_survives()
    fault.exited(finished.ended_at - injection.time)
    assert train_command(run_dir).finish().exit_code == 0
    assert weights_of(run_dir) == reference_weights


HANGS = [
    pytest.param(
        "os.kill(os.getpid(), signal.SIGSTOP)", "is stopped", marks=pytest.mark.fault(4, "SIGSTOP to one rank")
    ),
    pytest.param(
        "import re\nre.match('(a+)+b', 'a' * 99)", "computes",  # which takes longer than the universe is old
        marks=pytest.mark.fault(6, "interpreter's lock held for ever"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("action", "state"), HANGS, ids=["stopped", "lock"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_stands_still_is_named_and_all_end(
    action, state, rank, prepared_run, train_command, act_in_call, injection, tmp_path, fault
):
    run_dir = prepared_run.copy(tmp_path / "run")
    job = train_command(run_dir, WATCHDOG, environment=act_in_call(rank, CALL, injection.of(action)))
    finished = job.finish()
    assert_one_line(finished, 6, f"rank {rank} hangs in 'step 6: loss of part 1 of 2' ({state}", "no sign of life")
    assert finished.ended_at - injection.time < HANG_WITHIN
    job.assert_nothing_survives()
    fault.exited(finished.ended_at - injection.time)
    for number in (0, 1):
        assert "hpcsurrogate/train/step.py" in (run_dir / "hangs" / f"rank-{number:04d}.txt").read_text()


SKIP_A_SUM = """
from hpcsurrogate.parallel.engine import Done
from hpcsurrogate.parallel.horovod_engine import HorovodEngine
original = HorovodEngine.sum_async
def sum_async(self, tensor, name):
    if not name.startswith({name!r}):
        return original(self, tensor, name)
    HorovodEngine.sum_async = original
    return Done()
HorovodEngine.sum_async = sum_async
"""


@pytest.mark.fault(7, "one rank leaves out a call that all must make")
@pytest.mark.parametrize(
    ("name", "goes_on_to"), [("verdict", "'step 6: sums over the ranks'"), ("gradients.0", "'sums over the ranks'")]
)
def test_a_rank_that_leaves_out_a_sum_is_named(
    name, goes_on_to, prepared_run, train_command, act_in_call, injection, tmp_path, fault
):
    """Rank 1 goes on to the next sum, or to those of the validation after the step, while rank 0 waits for this one."""
    run_dir = prepared_run.copy(tmp_path / "run")
    action = injection.of(SKIP_A_SUM.format(name=name))
    job = train_command(run_dir, WATCHDOG, environment=act_in_call(1, CALL, action))
    finished = job.finish()
    assert_one_line(
        finished, 6, "rank 0 hangs in 'step 6: sums over the ranks' (waits for other ranks",
        f"rank 1 hangs in {goes_on_to} (waits for other ranks", "one left out a call that another makes",
    )  # fmt: skip
    assert finished.ended_at - injection.time < HANG_WITHIN
    job.assert_nothing_survives()
    fault.exited(finished.ended_at - injection.time)


# Of a sitecustomize module: calls `change(module)` as soon as models/build.py is loaded.
AFTER_LOADING_BUILD = """
import importlib.abc, importlib.util, sys
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "hpcsurrogate.models.build":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), change(module))
        return spec
sys.meta_path.insert(0, Finder())
"""
HANG_AT_THE_START = (
    """
import os, sys, time
def sleep(*arguments):
    {note}
    time.sleep(1000)
def change(module):
    if os.environ.get("OMPI_COMM_WORLD_RANK") == "1":
        module.build_model = sleep
"""
    + AFTER_LOADING_BUILD
)


@pytest.mark.fault(4, "a rank stands still before the first step")
def test_a_rank_that_stands_still_in_the_start_up_is_named(prepared_run, train_command, injection, tmp_path, fault):
    """Where silence may last twenty times as long as between steps."""
    run_dir = prepared_run.copy(tmp_path / "run")
    note = injection.of("").strip().replace("\n", "\n    ")
    (tmp_path / "sitecustomize.py").write_text(HANG_AT_THE_START.format(note=note))
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])}
    job = train_command(run_dir, "train.watchdog=0.3", environment=environment)
    finished = job.finish()
    assert_one_line(finished, 6, "rank 1 hangs in 'start-up: comparing the ranks' (computes at train/stage.py:")
    assert finished.ended_at - injection.time < HANG_WITHIN
    job.assert_nothing_survives()
    fault.exited(finished.ended_at - injection.time)


# --- ranks that do not run the same -----------------------------------------------------------------------------------


@pytest.mark.fault(8, "ranks disagree at the start")
def test_ranks_with_different_command_lines_are_refused(prepared_run, tmp_path):
    run_dir = prepared_run.copy(tmp_path / "run")
    program = [sys.executable, "-m", "mpi4py", "-m", "hpcsurrogate", "train", str(prepared_run.experiment_file)]
    first, second = ([*program, f"run_dir={run_dir}", f"seed={seed}"] for seed in (0, 1))
    environment = launcher_environment(2)
    del environment[PROMISED_RANKS]
    done = subprocess.run(
        [*launcher_command(1), *first, ":", "-np", "1", *second],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert "rank 1 was started with `hpcsurrogate train " in errors[0] and "seed=1`, rank 0 with" in errors[0]
    assert not (run_dir / "checkpoints").exists()


OTHER_CODE = "sys.path.insert(0, COPY)"
OTHER_SHAPE = (
    """
def change(module):
    build = module.build_model
    module.build_model = lambda model, *rest: build(model.model_copy(update={"channels": 9}), *rest)
"""
    + AFTER_LOADING_BUILD
)


@pytest.mark.fault(8, "ranks disagree at the start")
@pytest.mark.parametrize(
    ("difference", "expected"), [(OTHER_CODE, "the program differs"), (OTHER_SHAPE, "the network differs")],
    ids=["code", "shape"],
)  # fmt: skip
def test_ranks_with_other_code_or_shapes_are_refused(difference, expected, prepared_run, train_command, tmp_path):
    """Rank 1 imports a copy of the package in which one comment is another, or builds a wider network."""
    run_dir = prepared_run.copy(tmp_path / "run")
    copy = Path(shutil.copytree(Path(hpcsurrogate.__file__).parent, tmp_path / "copy" / "hpcsurrogate"))
    with (copy / "train" / "step.py").open("a") as file:
        file.write("# another comment\n")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, sys\nif os.environ.get('OMPI_COMM_WORLD_RANK') == '1':\n"
        + "".join(f"    {line}\n" for line in difference.replace("COPY", repr(str(copy.parent))).splitlines())
    )
    # Without the working directory before all, which may hold the package too.
    environment = {"PYTHONPATH": f"{tmp_path / 'site'}:{os.environ['PYTHONPATH']}", "PYTHONSAFEPATH": "1"}
    job = train_command(run_dir, environment=environment)
    assert_one_line(job.finish(), 2, expected, "rank 1 on ", "start all ranks with one file and one installation")
    assert not (run_dir / "checkpoints").exists()
    job.assert_nothing_survives()


# --- the rest of this section of the list -----------------------------------------------------------------------------


@pytest.mark.fault(9, "mpirun killed")
def test_no_rank_outlives_mpirun(prepared_run, train_command, tmp_path, fault):
    run_dir = prepared_run.copy(tmp_path / "run")
    job = train_command(run_dir)
    job.wait_for_step(4)
    assert len(job.ranks()) == 2
    injected_at = time.monotonic()
    job.process.kill()
    job.assert_nothing_survives(WITHIN)
    fault.exited(time.monotonic() - injected_at)


@pytest.mark.fault(10, "one rank ten times slower")
def test_a_slow_rank_is_named_and_goes_on(
    prepared_run, train_command, act_in_call, reference_weights, weights_of, tmp_path
):
    """Half a second for each of the two parts of steps 1 to 8; a step takes less than a tenth of a second."""
    run_dir = prepared_run.copy(tmp_path / "run")
    job = train_command(run_dir, environment=act_in_call(1, 1, "import time\ntime.sleep(0.5)", last=16))
    finished = job.finish()
    assert finished.exit_code == 0, finished.stderr
    warnings = [line for line in finished.stderr.splitlines() if "times the median of the ranks" in line]
    assert len(warnings) == 1 and "rank 1 on " in warnings[0]
    assert weights_of(run_dir) == reference_weights


@pytest.mark.fault(11, "out of memory")
@pytest.mark.parametrize(
    ("action", "size"),
    [("torch.empty(2**52, dtype=torch.uint8)", "GiB"), ("import numpy\nnumpy.ones(2**52, dtype='u1')", "4.00 PiB")],
    ids=["torch", "numpy"],
)
def test_out_of_memory_is_one_line_with_the_size(
    action, size, prepared_run, train_command, act_in_call, injection, tmp_path, fault
):
    run_dir = prepared_run.copy(tmp_path / "run")
    job = train_command(run_dir, environment=act_in_call(1, CALL, injection.of(action)))
    finished = job.finish()
    assert_one_line(finished, 2, "rank 1: out of memory", size, "lower the batch_size")
    job.assert_nothing_survives()
    fault.exited(finished.ended_at - injection.time)


@pytest.mark.fault(18, "two jobs in one run directory")
def test_the_second_job_in_a_run_directory_is_refused_and_names_the_first(
    prepared_run, train_command, act_in_call, reference_weights, weights_of, tmp_path
):
    run_dir = prepared_run.copy(tmp_path / "run")
    gone_on = tmp_path / "gone-on"
    action = f"import time, pathlib\nwhile not pathlib.Path({str(gone_on)!r}).exists():\n    time.sleep(0.05)"
    first = train_command(run_dir, "train.watchdog=100", environment=act_in_call(0, CALL, action))
    first.wait_for_step(4)
    holder = first.ranks()[0].worker
    second = train_command(run_dir)
    assert_one_line(second.finish(), 2, f"{run_dir}: process {holder} on ", "is working here")
    second.assert_nothing_survives()
    gone_on.touch()
    assert first.finish().exit_code == 0
    assert weights_of(run_dir) == reference_weights
