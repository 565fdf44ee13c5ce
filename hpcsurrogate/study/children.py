"""A child process that works: a batch system's request to stop is handed on to it, and what it said is looked up."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Self

ERROR_PREFIX = "hpcsurrogate: error: "


class StopSignals:
    """Context manager: SIGTERM and SIGUSR1 set `received`, and the child of the moment gets SIGUSR1.

    A training that gets SIGUSR1 checkpoints at the end of its step and ends; SIGTERM to a launcher would end its ranks
    at once.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received = False
        self._child: subprocess.Popen | None = None

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._hand_on) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def handed_to(self, child: subprocess.Popen) -> Iterator[None]:
        """Name the child while the block runs. One that an exception leaves behind is ended and waited for."""
        self._child = child
        try:
            if self.received:  # just before the child was there
                child.send_signal(signal.SIGUSR1)
            yield
        finally:
            self._child = None
            if child.poll() is None:
                child.terminate()
                child.wait()

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        if self._child is not None:
            self._child.send_signal(signal.SIGUSR1)


def first_error(log: Path, start: int = 0) -> str | None:
    """The first error line of a log from byte `start` on: what comes after it only follows from it. None if none."""
    text = log.read_bytes()[start:].decode(errors="replace").replace("\0", "")
    lines = [line for line in text.splitlines() if line.startswith(ERROR_PREFIX)]
    return lines[0].removeprefix(ERROR_PREFIX) if lines else None
