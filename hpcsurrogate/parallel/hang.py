"""What a guard does when its rank hangs: have it write its stacks, hear the other guards, say who hangs.

All of it ends within `REPORT_TIME`, also when the file system hangs as well.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpcsurrogate.parallel.hang_report import HangReport, read_reports, stack_place, verdict, write_report
from hpcsurrogate.parallel.heartbeat import VERDICT, Watch

REPORT_TIME = 4.5  # [s] of which for
STACK_TIME = 0.5  # the rank to write its stacks,
GATHER_TIME = 2.5  # the other guards to notice and to report,
VERDICT_TIME = 1.0  # and the guard that speaks to do so
LAST_WORDS = 0.3  # of the others, before the end of the rank that speaks lets the launcher end them all
POLL = 0.05


@dataclass(frozen=True)
class SilentRank:
    """A rank whose beats have stopped.

    Attributes
    ----------
    process : int                its number
    stacks : int                 descriptor of the memory file to which it writes its stacks on SIGQUIT
    watch : Watch                what it asked for
    doing : str                  its last beat
    silent, allowed : float [s]  time since then, and how long it may be
    """

    process: int
    stacks: int
    watch: Watch
    doing: str
    silent: float
    allowed: float

    def end(self) -> None:
        """Report it, let the lowest rank's guard say who hangs, and kill it."""
        reporter = threading.Thread(target=self._report, daemon=True)
        reporter.start()
        reporter.join(REPORT_TIME)
        if reporter.is_alive():
            say(
                f"rank {self.watch.rank} hangs in '{self.doing}'; no sign of life for {self.silent:.0f} s, "
                f"and none from the file system of {self.watch.directory}"
            )
        os.kill(self.process, signal.SIGKILL)
        wait_until(lambda: process_state(self.process) in "Z", 1.0)

    def _report(self) -> None:
        state = process_state(self.process)
        # One that wakes to write its stacks goes on from there, and the others with it: it does so last.
        is_stopped = state in "Tt"
        stacks = "" if is_stopped else self._written_stacks()
        place, waits = stack_place(stacks, self.watch.main_thread)
        own = HangReport(
            self.watch.rank, socket.gethostname(), self.process, self.doing, self.silent, self.allowed,
            state, place, waits,
        )  # fmt: skip
        try:
            write_report(self.watch.directory, own, stacks)
            self._speak_with_others()
            if is_stopped:
                write_report(self.watch.directory, own, self._written_stacks())
        except OSError as error:
            say(f"{verdict([own], 1, self.watch.directory)} (no report there: {error})")

    def _written_stacks(self) -> str:
        """Make the process write the stacks of all its threads."""
        before = os.fstat(self.stacks).st_size
        os.kill(self.process, signal.SIGQUIT)
        os.kill(self.process, signal.SIGCONT)  # which means nothing to one that is not stopped
        wait_until(lambda: os.fstat(self.stacks).st_size > before, STACK_TIME)
        time.sleep(POLL)  # the rest of them
        return os.pread(self.stacks, os.fstat(self.stacks).st_size - before, before).decode(errors="replace")

    def _speak_with_others(self) -> None:
        """Wait for the reports of the other ranks; the lowest rank that reported speaks for all."""
        directory, size = self.watch.directory, self.watch.size
        wait_until(lambda: len(read_reports(directory, size)) == size, GATHER_TIME)
        reports = read_reports(directory, size)
        spoken = directory / VERDICT
        if reports[0].rank == self.watch.rank:
            line = verdict(reports, size, directory)
            say(line)
            spoken.write_text(f"{line}\n", encoding="utf-8")
            time.sleep(LAST_WORDS)
        else:
            wait_until(spoken.exists, VERDICT_TIME)


def others_report(watch: Watch) -> bool:
    """Whether another guard has found its rank hung."""
    try:
        return bool(read_reports(watch.directory, watch.size))
    except OSError:
        return False  # this rank's own limit counts


def say(line: str) -> None:
    """Write the one line that the user sees, in one piece."""
    print(f"hpcsurrogate: error: {line}", file=sys.stderr, flush=True)


def process_state(process: int) -> str:
    """Letter of /proc/<process>/stat: T stopped, D waiting for a device, R, S, Z ended; Z also if it is gone."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "Z"
    return stat.rpartition(")")[2].split()[0]  # the program's name before it may hold anything


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds, but not longer than so many seconds; return whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True
