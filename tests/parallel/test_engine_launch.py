"""Starting ranks, losing one, and telling them something."""

import os
import signal
import subprocess
import sys
import time

import pytest

from hpcsurrogate.parallel.launch import launcher_command, launcher_environment, run_alone, run_launcher, run_ranks


def rank_command(script, ranks=2):
    return launcher_command(ranks) + [sys.executable, "-m", "mpi4py", "-c", script]


ONE_RANK_LOST = """
import sys, time
from hpcsurrogate.parallel.world import get_world
world = get_world()
if world.rank == 1:
    print("lost at", time.time(), flush=True)
    {failure}
world.barrier()
"""


@pytest.mark.parametrize(
    ("failure", "exit_code"), [("raise ValueError('no such number')", 1), ("sys.exit(4)", 4), ("world.abort(5)", 5)]
)
def test_one_lost_rank_ends_all_with_its_exit_code(capfd, failure, exit_code):
    assert run_launcher(rank_command(ONE_RANK_LOST.format(failure=failure)), launcher_environment(2)) == exit_code
    ended = time.time()
    stdout, stderr = capfd.readouterr()
    assert ended - float(stdout.split()[-1]) < 5
    assert "MPI_ABORT" not in stderr and "-----" not in stderr
    assert ("no such number" in stderr) == (exit_code == 1)


def test_a_rank_killed_by_a_signal_is_reported(capfd):
    failure = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_launcher(rank_command(ONE_RANK_LOST.format(failure=failure)), launcher_environment(2)) != 0
    assert "signal 9" in capfd.readouterr().err


PROGRAM = """
import sys
from hpcsurrogate.parallel.launch import launcher_command, launcher_environment, run_launcher
command = launcher_command(2) + [sys.executable, "-m", "mpi4py", "-c", {script!r}, {folder!r}]
sys.exit(run_launcher(command, launcher_environment(2)))
"""
WAITING_RANK = """
import os, pathlib, signal, sys, time
from mpi4py import MPI
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
pathlib.Path(sys.argv[1], str(os.getpid())).touch()
time.sleep(30)
"""


@pytest.fixture
def program(tmp_path):
    """A process that runs two waiting ranks, and their numbers."""
    text = PROGRAM.format(script=WAITING_RANK, folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", text])
    try:
        deadline = time.monotonic() + 20
        while len(os.listdir(tmp_path)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        yield process, [int(name) for name in os.listdir(tmp_path)]
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_request_to_stop_reaches_the_ranks_and_their_answer_comes_back(program, number):
    """SIGUSR1 is how a batch system announces the end; mpirun itself would end the ranks on SIGTERM."""
    process, _ = program
    process.send_signal(number)
    assert process.wait(timeout=10) == 75


def test_no_rank_outlives_the_program_that_started_them(program):
    process, ranks = program
    process.kill()
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in ranks) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(ranks) == 2 and not any(is_running(pid) for pid in ranks)


def test_a_stage_of_one_process_is_started_without_a_launcher(tmp_path):
    """A file that does not exist shows that the command was there to look for it."""
    assert run_alone(["train", str(tmp_path / "nothing.yaml")]) == 2


def test_run_ranks_starts_the_command_line_and_returns_its_exit_code(capfd):
    assert run_ranks(["--version"], ranks=2) == 0
    assert capfd.readouterr().out.count("0.1.0") == 2
    assert run_ranks(["no-such-subcommand"], ranks=2) == 2


def test_the_time_limit_of_these_tests_ends_hanging_ranks(mpi_process):
    script = "import os, time; print('rank', os.getpid(), flush=True); time.sleep(60)"
    with pytest.raises(pytest.fail.Exception, match="still ran after 3 s") as caught:
        mpi_process(script, ranks=2, timeout=3)
    pids = [int(line.split()[1]) for line in str(caught.value).splitlines() if line.startswith("rank ")]
    assert len(pids) == 2
    deadline = time.monotonic() + 5  # a killed process stays listed until its new parent has taken note
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


STALE = """
import os, sys, tempfile
from pathlib import Path
from hpcsurrogate.parallel.launch import run_ranks
for number in range(os.getpid(), os.getpid() + 60):  # the process numbers that come next
    folder = Path(tempfile.gettempdir()) / f"ompi.{number}"
    (folder / "0" / "0").mkdir(parents=True)
    for name in ("pmix.HOST.tool", f"pmix.HOST.tool.{number}", f"pmix.HOST.tool.prterun-HOST-{number}@0"):
        (folder / name.replace("HOST", os.uname().nodename)).write_text("left behind")
sys.exit(run_ranks(["--version"], 1))
"""


def test_what_a_killed_mpirun_left_behind_does_not_keep_the_next_from_starting(tmp_path):
    """Process numbers come round: then Open MPI found files of its own name, and left with code 213."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    environment.pop("PRTE_MCA_prte_tmpdir_base", None)
    done = subprocess.run([sys.executable, "-c", STALE], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("ompi.")] == []
