"""A real process and its guard: exit codes, signals, parents that are gone, silence."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from hpcsurrogate.parallel.guard import TICK, Silence
from hpcsurrogate.parallel.hang import process_state, wait_until

START = """
import ctypes, os, signal, sys, time
from hpcsurrogate.parallel import heartbeat
from hpcsurrogate.parallel.guard import watch_over_this_process
watch_over_this_process(bound_to_parent={bound})
print(os.getpid(), os.getppid(), flush=True)
"""


class Watched:
    """A process with a guard, that goes on with `script`; what it prints goes to files."""

    def __init__(self, script: str, bound: bool = False, environment: dict[str, str] | None = None):
        self._stdout, self._stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115  as long as it
        self.guard = subprocess.Popen(
            [sys.executable, "-c", START.format(bound=bound) + script],
            env=os.environ | (environment or {}), stdout=self._stdout, stderr=self._stderr,
        )  # fmt: skip
        assert wait_until(lambda: "\n" in content(self._stdout), 10.0), content(self._stderr)
        self.child, guard = map(int, content(self._stdout).split()[:2])
        assert guard == self.guard.pid != self.child

    def printed(self) -> str:
        """What the script has printed so far."""
        return content(self._stdout).partition("\n")[2]

    def end(self) -> tuple[int, str, str]:
        """Exit code, what it printed, what it said; the child must be gone then."""
        exit_code = self.guard.wait(timeout=20)
        assert wait_until(lambda: process_state(self.child) == "Z", 5.0)
        return exit_code, self.printed(), content(self._stderr)


def content(file) -> str:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


@pytest.fixture
def watched():
    """`watched(script, bound=False, environment=None)` -> Watched; what is left of them at the end is killed."""
    started = []

    def start(*arguments, **options):
        started.append(Watched(*arguments, **options))
        return started[-1]

    yield start
    for process in started:
        process.guard.kill()
        process.guard.wait()


@pytest.mark.parametrize(
    ("script", "exit_code", "expected"),
    [
        ("print('done')", 0, ""),
        ("sys.exit(75)", 75, ""),
        ("raise ValueError('x')", 1, "ValueError: x"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 6, "was ended by SIGKILL: if nobody sent it, the node"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 6, "was ended by SIGTERM: somebody sent it"),
    ],
)
def test_it_ends_as_the_process_ends(watched, script, exit_code, expected):
    code, stdout, stderr = watched(script, environment={"OMPI_COMM_WORLD_RANK": "3"}).end()
    assert code == exit_code
    assert stdout == ("done\n" if exit_code == 0 else "")  # once: the guard flushes nothing that was the child's
    assert expected in stderr and stderr.startswith("hpcsurrogate: error: rank 3: the process") == (exit_code == 6)


def test_the_stacks_of_a_crash_are_shown_or_kept(watched, tmp_path):
    code, _, stderr = watched("ctypes.string_at(0)").end()
    assert code == 6 and "in string_at" in stderr
    assert stderr.splitlines()[-1].endswith(
        "was ended by SIGSEGV: a fault in a library; stacks above; the same command goes on"
    )
    armed = watched(f"heartbeat.arm(30.0, {str(tmp_path)!r}, 1, 2)\nctypes.string_at(0)")
    code, _, stderr = armed.end()
    assert code == 6 and stderr.count("\n") == 1 and f"stacks in {tmp_path}/hangs/rank-0001.txt" in stderr
    assert "in string_at" in (tmp_path / "hangs" / "rank-0001.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signals_reach_the_process_which_may_answer(watched, number):
    process = watched(
        f"signal.signal({int(number)}, lambda *_: sys.exit(75))\nprint('ready', flush=True)\ntime.sleep(20)"
    )
    assert wait_until(lambda: process.printed() == "ready\n", 10.0)
    process.guard.send_signal(number)
    assert process.end() == (75, "ready\n", "")


def test_a_process_ended_on_request_is_no_error(watched):
    process = watched("time.sleep(20)")
    process.guard.send_signal(signal.SIGTERM)
    assert process.end() == (-signal.SIGTERM, "", "")


def test_a_launcher_that_ignores_the_end_of_its_children_changes_nothing():
    """A process inherits that, and then could not learn how its own child ended."""
    done = subprocess.run(
        [sys.executable, "-c", f"{START.format(bound=False)}sys.exit(75)"],
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN), capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (75, "")


def test_the_process_dies_with_its_guard(watched):
    process = watched("time.sleep(20)")
    process.guard.kill()
    assert process.end()[0] == -signal.SIGKILL


@pytest.mark.parametrize("bound", [True, False])
def test_a_process_whose_launcher_is_gone_ends_if_it_is_bound_to_it(tmp_path, bound):
    """The launcher is a shell that is killed, as mpirun may be, or that a user leaves."""
    script, pids = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(
        START.format(bound=bound)
        + f"open({str(tmp_path / 'partial')!r}, 'w').write(f'{{os.getpid()}} {{os.getppid()}}')\n"
        + f"os.rename({str(tmp_path / 'partial')!r}, {str(pids)!r})\ntime.sleep(20)"
    )
    launcher = subprocess.Popen(
        ["sh", "-c", f"'{sys.executable}' '{script}' & wait"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert wait_until(pids.exists, 10.0)
        launcher.kill()
        launcher.wait()
        child, guard = map(int, pids.read_text().split())
        if bound:
            assert wait_until(lambda: process_state(child) == process_state(guard) == "Z", 5.0)
        else:
            time.sleep(5 * TICK)
            assert process_state(child) == "S"
    finally:
        for pid in map(int, pids.read_text().split()):
            if process_state(pid) != "Z":
                os.kill(pid, signal.SIGKILL)


HOLD_THE_LOCK = "import re; re.match('(a+)+b', 'a' * 99)"  # without an end, and never letting go of the lock
BUSY = "while True: pass"


@pytest.mark.parametrize(
    ("hang", "state"), [(HOLD_THE_LOCK, "computes"), (BUSY, "computes"), ("os.kill(os.getpid(), 19)", "is stopped")]
)
def test_a_silent_process_is_ended_with_its_stacks(watched, tmp_path, hang, state):
    script = f"heartbeat.arm(0.6, {str(tmp_path)!r}, 0, 1)\nheartbeat.beat('step 4: loss')\n{hang}"
    started = time.monotonic()
    code, _, stderr = watched(script).end()
    assert code == 6 and time.monotonic() - started < 0.6 + 5
    assert stderr.startswith(f"hpcsurrogate: error: rank 0 hangs in 'step 4: loss' ({state}; process ")
    assert stderr.count("\n") == 1
    assert 'File "<string>", line' in (tmp_path / "hangs" / "rank-0000.txt").read_text()
    assert (tmp_path / "hangs" / "hang.txt").read_text() == stderr.removeprefix("hpcsurrogate: error: ")
    assert json.loads((tmp_path / "hangs" / "rank-0000.json").read_text())["silent"] >= 0.6


def test_the_guards_of_several_ranks_say_one_line(watched, tmp_path):
    """Rank 2 computes, the others have as little to say; one of them speaks for all, and names rank 2 alone.

    Rank 0 had a long pause before, after which ten times its length would be allowed; it is heard all the same.
    """
    wait = f"heartbeat.beat('step 4: sum')\nfrom hpcsurrogate.parallel.world import World\n{WAITING}"
    slow = f"heartbeat.beat('step 3')\ntime.sleep(0.8)\n{wait}"
    scripts = [slow, wait, "heartbeat.beat('step 4: loss')\ntime.sleep(20)"]
    ranks = [
        watched(f"heartbeat.arm(1.5, {str(tmp_path)!r}, {rank}, 3)\n{script}") for rank, script in enumerate(scripts)
    ]
    ends = [rank.end() for rank in ranks]
    assert [code for code, _, _ in ends] == [6, 6, 6]
    (line,) = [stderr for _, _, stderr in ends if stderr]
    assert line.count("\n") == 1 and "rank 2 hangs in 'step 4: loss' (computes" in line and "rank 1" not in line


def test_a_rank_may_wait_for_one_that_is_at_work(watched, tmp_path):
    """As at the end of a validation, of which another rank has the longer part."""
    wait = f"heartbeat.beat('sums')\nfrom hpcsurrogate.parallel.world import World\n{WAITING.replace('20', '3')}"
    work = "for number in range(40):\n    heartbeat.beat(f'validation: batch {number}')\n    time.sleep(0.1)"
    ranks = [
        watched(f"heartbeat.arm(0.6, {str(tmp_path)!r}, {rank}, 2)\n{script}\nheartbeat.disarm()\ntime.sleep(1)")
        for rank, script in enumerate((wait, work))
    ]
    assert [rank.end() for rank in ranks] == [(0, "", "")] * 2
    assert list((tmp_path / "hangs").iterdir()) == []  # it was silent for too long, and reported, but is no more


# A rank that waits: its innermost frame of this program is a method of World.
WAITING = "World(comm=type('Comm', (), {'barrier': lambda self: time.sleep(20)})()).barrier()"


def test_a_process_that_beats_or_is_not_armed_is_left_alone(watched, tmp_path):
    arm = f"heartbeat.arm(0.6, {str(tmp_path)!r}, 0, 1)\n"
    beats = f"{arm}for _ in range(20):\n    time.sleep(0.05)\n    heartbeat.beat('x')\n"
    assert watched(beats).end() == (0, "", "")
    assert watched(f"heartbeat.arm(0.2, {str(tmp_path)!r}, 0, 1)\nheartbeat.disarm()\ntime.sleep(1)").end() == (
        0,
        "",
        "",
    )
    assert list(tmp_path.iterdir()) == []


def test_silence_is_measured_against_the_pauses_before_within_bounds():
    silence = Silence()
    for beats, pauses in [(1, 3), (2, 8), (3, 2)]:
        for _ in range(pauses + 1):
            silence.look(beats, 0.2)
    assert silence.longest == pytest.approx(1.6) and silence.seconds == pytest.approx(0.4)
    assert silence.allowed(25.0) == 25.0
    assert silence.allowed(5.0) == pytest.approx(16.0)
    assert silence.allowed(0.5) == pytest.approx(10.0)


def test_time_in_which_the_observer_stood_still_does_not_count():
    silence = Silence()
    silence.look(1, 0.2)
    silence.look(1, 3600.0)
    assert silence.seconds == 2 * TICK
