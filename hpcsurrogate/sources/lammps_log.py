"""The thermodynamic output in a log of LAMMPS: of one run command after the other, in style one, custom or multi.

A table begins after the line on memory and ends with the loop's time. Between its rows there may be warnings and what
fixes print; the latter is passed over if it begins with a letter, and counted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcsurrogate.sources.lammps_numbers import NUMBER
from hpcsurrogate.sources.lammps_text import CutShortError, LammpsText, split_words

BEFORE_TABLE = ("Per MPI rank memory allocation", "Memory usage per processor")
AFTER_TABLE = "Loop time of"
_BLOCK = re.compile(r"-+ Step +([^ ]+) -+ CPU = +([^ ]+) \([^ ]+\) -+ *")
# A blank must end each entry: two that touch could be told apart in many ways, and trying all of them takes for ever.
_ENTRIES = re.compile(r"(?: *[^ =]+ *= *[^ =]+(?= |$))+ *")
_ENTRY = re.compile(r"([^ =]+) *= *([^ =]+)")


@dataclass(frozen=True)
class ThermoRun:
    """What one `run` or `minimize` printed.

    Attributes
    ----------
    names : tuple of str                               Step and the others, as in the log
    values : ndarray, shape (n, columns), float64, in the units of the script
    is_finished : bool                                 false if the log ends, an error stands or another table begins
                                                       before the loop's time
    error : str                                        LAMMPS's own line, if it ended with one
    passed_over : int                                  lines between the rows that are neither rows nor warnings
    """

    names: tuple[str, ...]
    values: np.ndarray
    is_finished: bool
    error: str = ""
    passed_over: int = 0


def thermo_runs(path: str | Path) -> Iterator[ThermoRun]:
    """Read a log run by run.

    Yields
    ------
    ThermoRun    also the one that the log ends within, up to its last whole row

    Raises
    ------
    DataError    if the file is missing, a row has more or fewer columns than its table, holds anything but finite
                 numbers, steps do not rise, or a table has an end but no beginning, naming the line

    Notes
    -----
    tests/unit/sources/test_lammps_averages.py compares with what the same run wrote by `fix ave/time`.
    """
    with LammpsText(path) as text:
        line = _next(text)
        while line is not None:
            if line.startswith(AFTER_TABLE):
                text.fail("ends a table, but the line on memory that begins it is not there")
            if not line.startswith(BEFORE_TABLE):
                line = _next(text)
                continue
            table = _Table(text)
            yield table.read()
            # A run that was killed may be followed by another in the same file.
            line = table.last if (table.last or "").startswith(BEFORE_TABLE) else _next(text)


class _Table:
    """One table, while it is read."""

    def __init__(self, text: LammpsText):
        self.text, self.names, self.rows, self.passed_over = text, (), [], 0
        self.block: dict[str, float] = {}  # what there is of a row in style multi
        self.last: str | None = None  # line read last

    def read(self) -> ThermoRun:
        is_multi, error = False, ""
        while (line := _next(self.text)) is not None and not line.startswith((AFTER_TABLE, *BEFORE_TABLE)):
            if line.startswith("ERROR"):
                error = line.strip()
                break
            if not line.strip() or line.startswith("WARNING"):
                continue
            if found := _BLOCK.fullmatch(line):
                is_multi = True
                self._end_block()
                self.block = {"Step": self.text.number(found[1]), "CPU": self.text.number(found[2])}
            elif is_multi:
                self._entries(line)
            elif not self.names:
                self._header(line)
            else:
                self._row(line)
        self.last = line
        is_finished = (line or "").startswith(AFTER_TABLE)
        if is_finished or (self.names and len(self.block) == len(self.names)):
            self._end_block()
        values = np.array(self.rows).reshape(len(self.rows), len(self.names))
        return ThermoRun(self.names, values, is_finished, error, self.passed_over)

    def _header(self, line: str) -> None:
        self.names = tuple(split_words(line))
        if self.names[0] != "Step":
            self.text.fail(
                "expected the names of columns, Step first: other styles than one, custom, multi are not read"
            )

    def _row(self, line: str) -> None:
        words = split_words(line)
        if words[0][0].isalpha() and not self._is_damaged(words):
            self.passed_over += 1
            return
        if len(words) != len(self.names):
            self.text.fail(f"has {len(words)} columns, expected {len(self.names)}")
        self._append([self.text.number(word) for word in words])

    def _is_damaged(self, words: list[str]) -> bool:
        """Whether words would be a row but for the first: it is not passed over then."""
        return len(words) == len(self.names) > 2 and all(NUMBER.fullmatch(word.encode()) for word in words[1:])

    def _entries(self, line: str) -> None:
        if not _ENTRIES.fullmatch(line):
            if not line.lstrip()[0].isalpha():
                self.text.fail("expected entries `name = number`")
            self.passed_over += 1
            return
        for name, word in _ENTRY.findall(line):
            if name in self.block:
                self.text.fail(f"{name} is there twice at this step")
            self.block[name] = self.text.number(word)

    def _end_block(self) -> None:
        if not self.block:
            return
        self.names = self.names or tuple(self.block)
        if tuple(self.block) != self.names:
            self.text.fail(f"the step before has {' '.join(self.block)}, expected {' '.join(self.names)}")
        self._append(list(self.block.values()))
        self.block = {}

    def _append(self, row: list[float]) -> None:
        if row[0] != int(row[0]) or (self.rows and row[0] <= self.rows[-1][0]):
            self.text.fail("steps must be whole and rise")
        self.rows.append(row)


def _next(text: LammpsText) -> str | None:
    """The next line; that of a run that was killed may have no end, and is none."""
    try:
        return text.line()
    except CutShortError:
        return None
