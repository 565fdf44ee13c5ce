"""What a guard does when its rank is silent: have it write its stacks, hear the other guards, say who hangs.

All of it ends within `REPORT_TIME`, also when the file system hangs as well. Silence alone is no hang: a rank that
waits for another one, which is still at work, is left alone, and its report tells the other guards that it waits.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpcsurrogate.parallel.hang_report import (
    HangReport,
    is_hang,
    read_reports,
    reported_ranks,
    stack_place,
    stacks_path,
    verdict,
    write_report,
)
from hpcsurrogate.parallel.heartbeat import VERDICT, Watch, report_name

REPORT_TIME = 4.5  # [s] of which for
STACK_TIME = 0.5  # the rank to write its stacks,
GATHER_TIME = 2.5  # the other guards to notice and to report
LAST_WORDS = 0.3  # of the guard that speaks, before the end of a rank lets the launcher end them all
MOST_PATIENCE = 20.0  # times the limit, until a silent rank is ended whatever the others do
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

    def end(self) -> bool:
        """Report it, and decide with the other guards; if this is a hang, one of them says so, and the rank is killed.

        Returns
        -------
        bool    whether the rank was ended
        """
        goes_on = threading.Event()
        reporter = threading.Thread(target=self._report, args=(goes_on,), daemon=True)
        reporter.start()
        reporter.join(REPORT_TIME)
        if reporter.is_alive():
            say(
                f"rank {self.watch.rank} hangs in '{self.doing}'; no sign of life for {self.silent:.0f} s, "
                f"and none from the file system of {self.watch.directory}"
            )
        elif goes_on.is_set():
            return False
        os.kill(self.process, signal.SIGKILL)
        wait_until(lambda: process_state(self.process) == "Z", 1.0)
        return True

    def withdraw(self) -> None:
        """Take the report back: the rank has shown a sign of life."""
        directory, rank = self.watch.directory, self.watch.rank
        with suppress(OSError):
            (directory / report_name(rank)).unlink(missing_ok=True)
            stacks_path(directory, rank).unlink(missing_ok=True)

    def _report(self, goes_on: threading.Event) -> None:
        state = process_state(self.process)
        # One that wakes to write its stacks goes on from there, and the others with it: it does so last.
        is_stopped = state in "Tt"
        stacks = "" if is_stopped else self._written_stacks()
        if process_state(self.process) == "Z":  # it has come to its end in the meantime
            goes_on.set()
            return
        place, waits = stack_place(stacks, self.watch.main_thread)
        own = HangReport(
            self.watch.rank, socket.gethostname(), self.process, self.doing, self.silent, self.allowed,
            state, place, waits,
        )  # fmt: skip
        try:
            write_report(self.watch.directory, own, stacks)
            if not self._agrees_with_others():
                goes_on.set()
            elif is_stopped:
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

    def _agrees_with_others(self) -> bool:
        """Wait for the reports of the other ranks; if they mean a hang, the first guard to find so speaks for all."""
        directory, size = self.watch.directory, self.watch.size
        wait_until(lambda: len(reported_ranks(directory, size)) == size, GATHER_TIME)
        reports = read_reports(directory, size)
        if not is_hang(reports, size) and self.silent < MOST_PATIENCE * self.watch.limit:
            return False
        line = verdict(reports, size, directory)
        with suppress(FileExistsError), (directory / VERDICT).open("x", encoding="utf-8") as spoken:
            say(line)
            spoken.write(f"{line}\n")
        time.sleep(LAST_WORDS)
        return True


def others_report(watch: Watch) -> bool:
    """Whether another guard has found its rank silent."""
    try:
        return bool(reported_ranks(watch.directory, watch.size))
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
