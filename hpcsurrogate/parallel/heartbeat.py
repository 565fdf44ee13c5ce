"""Signs of life of this process, in a page of memory that its guard reads (parallel/guard.py).

A process without a guard, such as a test or a notebook, has nobody to tell: the functions of this module then do
nothing. With one, `beat` costs about a microsecond.
"""

import mmap
import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

# The page: number of beats | what is being done | limit, thread, rank and size | directory. Texts end with a zero byte.
_PAGE = 8192
_BEATS = struct.Struct("=Q")
_WHAT = slice(8, 512)
_WATCH = struct.Struct("=dQII")
_WATCH_AT = 512
_DIRECTORY = slice(1024, _PAGE)  # more than any path may be long
UNKNOWN_YET = "starting"


@dataclass(frozen=True)
class Watch:
    """What a process asked of its guard.

    Attributes
    ----------
    limit : float [s]      pause between two beats from which on the process counts as hung
    directory : Path       where what is known of a hang is written
    rank, size : int [-]   of the process
    main_thread : int      its identifier, by which the main thread is found among stacks
    """

    limit: float
    directory: Path
    rank: int
    size: int
    main_thread: int


class Pulse:
    """The page that a process and its guard share; made before the one starts the other.

    Notes
    -----
    What one side wrote, the other reads (tests/unit/parallel/test_heartbeat.py). A text that is read while it is
    written can be mixed of two; the guard reads it only when the process has been silent for long.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _PAGE)
        self._beats = 0

    def beat(self, what: str) -> None:
        """Called by the process: it lives, and does this now."""
        self._write(_WHAT, what.encode())
        self._beats += 1
        _BEATS.pack_into(self._memory, 0, self._beats)

    def arm(self, watch: Watch) -> None:
        """Called by the process: from now on silence counts."""
        self._write(_DIRECTORY, os.fsencode(watch.directory))
        # The limit comes first in memory and is copied with the rest; the guard takes 0 for not armed.
        _WATCH.pack_into(self._memory, _WATCH_AT, watch.limit, watch.main_thread, watch.rank, watch.size)

    def disarm(self) -> None:
        """Called by the process: silence no longer counts."""
        _WATCH.pack_into(self._memory, _WATCH_AT, 0.0, 0, 0, 0)

    @property
    def beats(self) -> int:
        """How many beats there were."""
        return _BEATS.unpack_from(self._memory, 0)[0]

    @property
    def what(self) -> str:
        """What the process said with its last beat."""
        return self._read(_WHAT).decode(errors="replace") or UNKNOWN_YET

    @property
    def watch(self) -> Watch | None:
        """What the process asked for; None while it is not armed."""
        limit, main_thread, rank, size = _WATCH.unpack_from(self._memory, _WATCH_AT)
        if limit == 0.0:
            return None
        return Watch(limit, Path(os.fsdecode(self._read(_DIRECTORY))), rank, size, main_thread)

    def _write(self, place: slice, text: bytes) -> None:
        length = place.stop - place.start
        self._memory[place] = text[: length - 1].ljust(length, b"\0")

    def _read(self, place: slice) -> bytes:
        return self._memory[place].partition(b"\0")[0]


_pulse: Pulse | None = None


def connect(pulse: Pulse | None) -> None:
    """Let the functions of this module write to a page; called by the guard in the process that it watches."""
    global _pulse
    _pulse = pulse


def beat(what: str) -> None:
    """Tell the guard that this process lives, and what it does from now on until the next beat.

    Parameters
    ----------
    what : str    as in "step 12: loss of part 2"; the same on every rank where ranks do the same. When ranks hang, the
                  one that waits for something else than the others is found by it
    """
    if _pulse is not None:
        _pulse.beat(what)


def arm(limit: float, directory: str | Path, rank: int, size: int) -> None:
    """Ask the guard to end this process if no beat comes for too long.

    Parameters
    ----------
    limit : float [s]           longest pause between two beats; parallel/guard.py says when it is stretched
    directory : str or Path     run directory; reports go to hangs/ in it. What this rank reported of an earlier hang is
                                removed, so that nobody takes it for a new one
    rank, size : int [-]
    """
    if _pulse is None:
        return
    hangs = Path(directory).absolute() / "hangs"
    for name in (report_name(rank), VERDICT if rank == 0 else None):
        if name:
            (hangs / name).unlink(missing_ok=True)
    beat("first step")
    _pulse.arm(Watch(limit, hangs, rank, size, threading.main_thread().ident or 0))


def disarm() -> None:
    """Tell the guard that silence no longer means anything, such as in the stage's last lines."""
    if _pulse is not None:
        _pulse.disarm()


VERDICT = "hang.txt"


def report_name(rank: int) -> str:
    """Name of the file in hangs/ in which a guard tells those of the other ranks about its own."""
    return f"rank-{rank:04d}.json"
