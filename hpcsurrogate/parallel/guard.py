"""A watchdog outside the interpreter: the process that the user or MPI started stays behind as guard of the real one.

`watch_over_this_process` forks. The child goes on and becomes the rank; its parent, the guard, holds no lock that the
child could hold, loads nothing and waits. It

- hands signals on to the rank and ends as the rank ends; a rank ended by a signal gives one line and exit code 6;
- ends the rank if whoever started it is gone, and never leaves it behind when it is ended itself;
- ends the rank if it shows no sign of life (parallel/heartbeat.py), and says with the other guards which rank hangs.

Silence is too long after `train.watchdog` seconds, or after ten times the longest pause so far if that is more, since
a step may be slow and a rank ten times slower than before is no hung one; but never after more than twenty times
`train.watchdog`. So a run whose pauses stay below a tenth of `train.watchdog` is ended that many seconds after a hang,
and five for the report. A rank that only waits for another, still at work, has no limit but the longest
(parallel/hang_report.py, is_hang). Only time in which the guard itself was running counts: a job that the batch system
suspended, with all its processes, does not hang.
"""

import ctypes
import faulthandler
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from typing import NoReturn

from hpcsurrogate.core.errors import RankLostError
from hpcsurrogate.parallel import heartbeat
from hpcsurrogate.parallel.hang import MOST_PATIENCE, REPORT_TIME, SilentRank, others_report, say
from hpcsurrogate.parallel.hang_report import stacks_path
from hpcsurrogate.parallel.heartbeat import Pulse, Watch

FORWARDED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
TICK = 0.2  # [s] between two looks at the rank
# [s] A rank of a launcher does not fail sooner: Open MPI 5's mpirun, told so within some 20 ms of the start, locks
# itself up in PMIx_server_finalize in about every third case.
SOONEST_FAILURE = 2.0
SECONDS_BETWEEN_QUESTIONS = 1.0  # to the other guards, through the file system that all ranks share
_libc = ctypes.CDLL(None, use_errno=True)  # here: a process that was just forked must load nothing
_PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>
_FROM_THE_KERNEL = 128  # SI_KERNEL: a terminal sends its signals to all processes of the job itself
# The variables in which launchers say which rank a process is: Open MPI's mpirun, srun, MPICH's, torchrun.
_RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "RANK")
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP)
_LIKELY_REASONS = dict.fromkeys(_CRASHES, "a fault in a library") | {
    signal.SIGKILL: "if nobody sent it, the node or the job ran out of memory: lower batch sizes or ranks per node",
    signal.SIGXCPU: "the limit on CPU time is reached; raise `ulimit -t`",
    signal.SIGBUS: "a file that another process cut short, or /dev/shm is full; `hpcsurrogate check` looks at the data",
}


def watch_over_this_process(bound_to_parent: bool) -> None:
    """Fork: return in the child, which goes on as the rank; stay behind in the parent as its guard.

    To be called before there are threads, and so before MPI, torch or numpy are loaded.

    Parameters
    ----------
    bound_to_parent : bool    end the rank when the process that started this one is gone. For ranks of a launcher and
                              stages of `run`; not for a command that a user leaves running and logs out

    Notes
    -----
    Exit codes, signals, orphans and hangs: tests/unit/parallel/test_guard.py, tests/faults/test_process_faults.py.
    """
    pulse, stacks = Pulse(), _memory_file("stacks")
    parent = os.getppid() if bound_to_parent else None
    guard = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    # Some launchers leave it ignored, and then nobody could ask how the rank ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Blocked before the fork, so that none is lost in between; the guard takes them in its own time.
    usual_signals = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})
    child = os.fork()
    if child:
        _Guard(child, parent, pulse, stacks).stay()
    die_with_parent(guard)
    # Both write from C, without the interpreter's lock: a crash, and what the guard asks for when the process hangs.
    faulthandler.enable(stacks)
    faulthandler.register(signal.SIGQUIT, stacks, all_threads=True)
    heartbeat.connect(pulse)
    signal.pthread_sigmask(signal.SIG_SETMASK, usual_signals)


def _memory_file(name: str) -> int:
    """Descriptor of a file in memory; os.memfd_create is missing in Pythons that were built on older systems."""
    descriptor = _libc.memfd_create(name.encode(), 1)  # not for the programs that a stage starts
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "memfd_create")
    return descriptor


def started_by_launcher(environment: Mapping[str, str]) -> bool:
    """Whether an MPI launcher or torchrun started this process, and so outlives it.

    The variables of torchrun alone, without its agent, may have been set by a script that ends before its ranks.
    """
    agents = (*_RANK_VARIABLES[:-1], "TORCHELASTIC_RUN_ID")
    return any(name in environment for name in agents)


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when `parent`, which has just forked it, ends however it may.

    Raises
    ------
    OSError    if this is no Linux
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it ended before the kernel was asked
        os.kill(os.getpid(), number)


class Silence:
    """How long the beats of a process have stopped, in time that the observer itself was running.

    Attributes
    ----------
    seconds : float [s]    since the last beat
    longest : float [s]    longest pause between two beats so far
    """

    def __init__(self) -> None:
        self.seconds = self.longest = 0.0
        self._beats = -1

    def look(self, beats: int, passed: float) -> None:
        """Take note of the number of beats, `passed` [s] after the look before."""
        if beats != self._beats:
            self._beats, self.longest, self.seconds = beats, max(self.longest, self.seconds), 0.0
        else:
            # An observer that was stopped, with the process or without, comes back late: that time says nothing.
            self.seconds += min(passed, 2 * TICK)

    def allowed(self, limit: float) -> float:
        """Return how long silence may last [s], given the limit that the process asked for."""
        return max(limit, min(10 * self.longest, MOST_PATIENCE * limit))


class _Guard:
    """The parent's part."""

    def __init__(self, child: int, parent: int | None, pulse: Pulse, stacks: int):
        self._child, self._parent, self._pulse, self._stacks = child, parent, pulse, stacks
        self._forwarded: set[int] = set()
        self._silence = Silence()
        self._started = self._looked = self._asked = time.monotonic()
        self._watch: Watch | None = None
        self._reported: SilentRank | None = None

    def stay(self) -> NoReturn:
        """Watch, and end as the child ends. Nothing of the caller's runs here: no handler, no `finally`, no flush."""
        exit_code = RankLostError.exit_code
        try:
            exit_code = self._wait_for_end()
        except BaseException:
            traceback.print_exc()
        finally:
            if exit_code and started_by_launcher(os.environ):
                time.sleep(max(0.0, self._started + SOONEST_FAILURE - time.monotonic()))
            os._exit(exit_code)  # the child, if it lives, dies with this process

    def _wait_for_end(self) -> int:
        while True:
            self._take_signal()
            ended, status = os.waitpid(self._child, os.WNOHANG)
            if ended:
                return self._exit_code(os.waitstatus_to_exitcode(status))
            if self._parent is not None and os.getppid() != self._parent:
                return RankLostError.exit_code  # nobody is left to be told why
            if self._has_ended_hang():
                return RankLostError.exit_code

    def _take_signal(self) -> None:
        """Wait for a signal for a moment, and hand it on."""
        received = signal.sigtimedwait(FORWARDED | {signal.SIGCHLD}, TICK)
        if received is None or received.si_signo == signal.SIGCHLD:
            return
        self._forwarded.add(received.si_signo)
        if received.si_code != _FROM_THE_KERNEL:
            os.kill(self._child, received.si_signo)

    def _has_ended_hang(self) -> bool:
        """Look at the rank's beats; report silence that is too long, and end the rank if the guards find it a hang."""
        watch = self._pulse.watch
        if watch != self._watch:
            self._watch, self._silence = watch, Silence()
        self._silence.look(self._pulse.beats, self._passed())
        silent = self._silence.seconds
        if self._reported and silent < self._reported.silent:
            self._reported.withdraw()
            self._reported = None
        if watch is None:
            return False
        allowed = self._silence.allowed(watch.limit)
        if not self._should_report(watch, silent, allowed):
            return False
        self._reported = SilentRank(self._child, self._stacks, watch, self._pulse.what, silent, allowed)
        ended = self._reported.end()
        self._silence.seconds += min(self._passed(), REPORT_TIME)
        return ended

    def _should_report(self, watch: Watch, silent: float, allowed: float) -> bool:
        """Whether the rank was silent for too long, or has little to say while another guard has found its own silent.

        What was reported stays where the other guards find it, so that once in `limit` is enough.
        """
        before = self._reported
        if before is None:
            return silent >= allowed or (silent > watch.limit / 2 and self._another_is_silent(watch))
        return before.silent < allowed <= silent or silent >= before.silent + watch.limit

    def _passed(self) -> float:
        """Time since this was asked before [s]."""
        passed, self._looked = time.monotonic() - self._looked, time.monotonic()
        return passed

    def _another_is_silent(self, watch: Watch) -> bool:
        if time.monotonic() - self._asked < SECONDS_BETWEEN_QUESTIONS:
            return False
        self._asked = time.monotonic()
        return others_report(watch)

    def _exit_code(self, code: int) -> int:
        """The child's exit code; if a signal ended it, say so."""
        if code >= 0:
            return code
        if -code in self._forwarded:  # on request: whoever sent the signal sees that it did it
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        number = signal.Signals(-code)
        reason = _LIKELY_REASONS.get(number, "somebody sent it")
        rank = next((f"rank {os.environ[name]}: " for name in _RANK_VARIABLES if name in os.environ), "")
        place = f"process {self._child} on {socket.gethostname()}"
        say(f"{rank}the {place} was ended by {number.name}: {reason}{self._kept_stacks()}; the same command goes on")
        return RankLostError.exit_code

    def _kept_stacks(self) -> str:
        """Write down what a crash left as stacks, and return where they are."""
        stacks = os.pread(self._stacks, os.fstat(self._stacks).st_size, 0).decode(errors="replace")
        watch = self._pulse.watch
        if not stacks:
            return ""
        if watch is None:
            print(stacks, file=sys.stderr)
            return "; stacks above"
        path = stacks_path(watch.directory, watch.rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(stacks, encoding="utf-8")
        return f"; stacks in {path}"
