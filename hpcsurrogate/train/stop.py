"""A batch system's request to stop, remembered until the training loop has finished its step."""

import signal
from types import FrameType
from typing import Self


class StopRequest:
    """Context manager that turns SIGTERM and SIGUSR1 into a flag, and gives the old handlers back when it ends."""

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received = False

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._remember) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = True
