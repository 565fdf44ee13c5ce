"""What guards write about ranks that hang, and whom they name.

Every guard whose rank is silent writes `hangs/rank-0003.json` for the other guards and `hangs/rank-0003.txt`, the
stacks, for people. The guards cannot ask MPI, which hangs; the folder is all that they share.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hpcsurrogate.parallel.heartbeat import report_name

_FRAME = re.compile(
    rf'  File "{re.escape(str(Path(__file__).parents[1]))}/(?P<file>[^"]+)", line (?P<line>\d+) in (?P<function>.+)'
)
# Whoever is called by the rest of the program from one of these files waits for other ranks there.
TRANSPORTS = frozenset(
    f"parallel/{name}.py"
    for name in ("world", "torch_world", "engine", "horovod_engine", "torch_engine", "shared_memory", "remote_memory")
)
_STOPPED = ("T", "t")
_ACTIVITIES = {
    "T": "is stopped",
    "t": "is stopped by a debugger: raise train.watchdog to use one",
    "D": "waits for a disk or another device",
}
MOST_NAMED = 4  # ranks in the one line


@dataclass(frozen=True)
class HangReport:
    """What a guard knows about its silent rank.

    Attributes
    ----------
    rank : int
    host, process : str, int     where it runs
    doing : str                  its last beat
    silent, limit : float [s]    time since then, and how long it may be
    state : str                  letter of /proc/<process>/stat: T stopped, t by a debugger, D waits for a device
    place : str                  file, line and function of this program that it is in; empty if its stack is not known
    waits : bool                 in a call that other ranks must make too
    """

    rank: int
    host: str
    process: int
    doing: str
    silent: float
    limit: float
    state: str
    place: str
    waits: bool

    @property
    def is_hung_by_itself(self) -> bool:
        """Whether no other rank can be the reason."""
        return self.state in _STOPPED or (not self.waits and self.silent >= self.limit)

    def __str__(self) -> str:
        otherwise = "waits for other ranks" if self.waits else "computes"
        activity = _ACTIVITIES.get(self.state, otherwise)
        place = f" at {self.place}" if self.place else ""
        return f"'{self.doing}' ({activity}{place}; process {self.process} on {self.host})"


def stack_place(stacks: str, main_thread: int) -> tuple[str, bool]:
    """Find where the main thread is in this program, given what faulthandler wrote.

    Parameters
    ----------
    stacks : str         of all threads, innermost frame first
    main_thread : int    its identifier

    Returns
    -------
    str     the innermost frame of this program that is no transport: "train/step.py:88 in forward", or ""
    bool    whether it called a transport, and so waits for other ranks
    """
    frames = _frames(stacks, main_thread)
    waits = bool(frames) and frames[0].partition(":")[0] in TRANSPORTS
    return next((frame for frame in frames if frame.partition(":")[0] not in TRANSPORTS), ""), waits


def _frames(stacks: str, main_thread: int) -> list[str]:
    """The frames of this program in the main thread's stack, innermost first."""
    frames, inside = [], False
    for line in stacks.splitlines():
        if "hread 0x" in line:  # "Thread 0x00007f..." or "Current thread 0x00007f..."
            inside = f"{main_thread:#018x}" in line
        elif inside and (frame := _FRAME.fullmatch(line)):
            frames.append(f"{frame['file']}:{frame['line']} in {frame['function']}")
    return frames


def write_report(directory: Path, report: HangReport, stacks: str) -> None:
    """Write both files; the one for the other guards last and at once, since they may read at any moment."""
    directory.mkdir(parents=True, exist_ok=True)
    stacks_path(directory, report.rank).write_text(f"rank {report.rank}: {report}\n\n{stacks}", encoding="utf-8")
    final = directory / report_name(report.rank)
    temporary = final.with_suffix(".partial")
    temporary.write_text(json.dumps(asdict(report)), encoding="utf-8")
    temporary.replace(final)


def reported_ranks(directory: Path, size: int) -> list[int]:
    """Return which of the ranks 0 to size - 1 were reported so far."""
    try:
        names = frozenset(os.listdir(directory))
    except FileNotFoundError:
        return []
    return [rank for rank in range(size) if report_name(rank) in names]


def read_reports(directory: Path, size: int) -> list[HangReport]:
    """Return what the guards of ranks 0 to size - 1 have reported so far, by rank."""
    paths = [directory / report_name(rank) for rank in reported_ranks(directory, size)]
    return [HangReport(**json.loads(path.read_text(encoding="utf-8"))) for path in paths]


def stacks_path(directory: Path, rank: int) -> Path:
    """Path of the file with a rank's stacks."""
    return directory / f"rank-{rank:04d}.txt"


def is_hang(reports: Sequence[HangReport], size: int) -> bool:
    """Whether silent ranks will stay so: one hangs by itself, or all of them wait for others.

    Ranks may wait for long while one of them is still at work, such as at the end of a validation.
    """
    return any(report.is_hung_by_itself for report in reports) or (
        len(reports) == size and all(report.waits for report in reports)
    )


def hung_ranks(reports: Sequence[HangReport]) -> list[HangReport]:
    """Choose among silent ranks those that the others wait for.

    Returns
    -------
    list    those that wait for nobody, because they are stopped or compute; else those that wait for something else
            than most of the ranks do; all, if no call is waited for by most; empty, if all wait for the same
    """
    by_themselves = [report for report in reports if report.is_hung_by_itself]
    if by_themselves:
        return by_themselves
    waits = Counter((report.doing, report.place) for report in reports)
    usual, count = waits.most_common(1)[0]
    if 2 * count <= len(reports):
        return list(reports)
    return [report for report in reports if (report.doing, report.place) != usual]


def verdict(reports: Sequence[HangReport], size: int, directory: Path) -> str:
    """Put into one line which rank hangs, in what, and what to do.

    Parameters
    ----------
    reports : sequence of HangReport    at least one
    size : int                          number of ranks
    directory : Path                    where the stacks lie
    """
    hung = hung_ranks(reports)
    reported = {report.rank for report in reports}
    missing = [rank for rank in range(size) if rank not in reported]
    silent = max(report.silent for report in hung or reports)
    if hung:
        named = "; ".join(f"rank {report.rank} hangs in {report}" for report in hung[:MOST_NAMED])
        others = [report for report in reports if report not in hung]
        if hung[0].waits and not hung[0].is_hung_by_itself:
            named += f"; the others hang in {others[0]}" if others else ""
            named += ": one left out a call that another makes"
        stacks = str(stacks_path(directory, hung[0].rank))
    else:
        named = f"{_ranks([report.rank for report in reports])} hang in {reports[0]}"
        named += (
            f"; {_ranks(missing)} did not answer: lost, or still at work there"
            if missing
            else "; all wait for the same: look at MPI or the network"
        )
        stacks = str(directory)
    return (
        f"{named}; no sign of life for {silent:.0f} s; stacks in {stacks}; all ranks end, the same command goes on "
        "(raise train.watchdog if it was only slow)"
    )


def _ranks(ranks: Sequence[int]) -> str:
    shown = ", ".join(map(str, ranks[:MOST_NAMED])) + (", ..." if len(ranks) > MOST_NAMED else "")
    return f"rank {shown}" if len(ranks) == 1 else f"ranks {shown}"
