"""Text that LAMMPS writes, line by line and in tables of numbers, in constant memory.

Strict: a table has as many rows as its header says, every row as many columns, every entry is a finite number, and the
last line is whole. What is wrong is named with its line, which counts from 1.
"""

import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.lammps_numbers import parse_number, parse_numbers

BLOCK = 1 << 17  # bytes that are read and parsed at once: more would leave the processor's cache
MOST_ROWS = 10**9
EXACT = 2**53
LONGEST_LINE = 1 << 20  # bytes; more is no file of LAMMPS
USUAL_ROW = 128  # bytes; a block may hold many small tables, each of which looks no further than it needs


class CutShortError(DataError):
    """A file ends where it should go on, as that of a run that was killed does."""


def split_words(line: str) -> list[str]:
    """Return what stands between blanks and tabs; other white space, which Python would split at, is damage."""
    return re.findall(r"[^ \t]+", line)


class LammpsText:
    """A file, read from its beginning to its end. A context manager, which closes it.

    Parameters
    ----------
    path : Path    compressed if it ends in .gz

    Attributes
    ----------
    line_number : int    of the line read last; 0 before the first

    Raises
    ------
    DataError    if the file cannot be read; all methods likewise, with the line, if it is damaged
    """

    def __init__(self, path: str | Path):
        self.path, self.line_number = Path(path), 0
        self._buffer, self._place = b"", 0
        try:
            # Closed by the context that this object is.
            self._file = (gzip.open if self.path.suffix == ".gz" else open)(self.path, "rb")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error}); run what writes it") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def fail(self, what: str, line: int | None = None) -> NoReturn:
        """Raise DataError that names the file and a line, the one read last if none is given."""
        raise DataError(f"{self.path}: line {line or self.line_number}: {what}; write or copy the file again")

    def cut_short(self, what: str) -> NoReturn:
        """Raise CutShortError at the line after the one read last."""
        raise CutShortError(
            f"{self.path}: line {self.line_number + 1}: the file ends {what}; the run was cut short, or the copy"
        )

    def line(self) -> str | None:
        """Read a line.

        Returns
        -------
        str    without its end; None where the file ends

        Raises
        ------
        CutShortError    if the last line has no end
        """
        end = self._buffer.find(b"\n", self._place)
        while end < 0:
            if not self._fill():
                if self._place < len(self._buffer):
                    self.cut_short("in the middle of a line")
                return None
            end = self._buffer.find(b"\n", self._place)
        text = self._buffer[self._place : end]
        self._place, self.line_number = end + 1, self.line_number + 1
        if text.endswith(b"\r"):
            text = text[:-1]
        try:
            return text.decode("ascii")
        except UnicodeDecodeError:
            # Comments and quoted commands may hold any text; no number does.
            return text.decode("utf-8", "replace")

    def table(self, num_rows: int, num_columns: int, columns: Sequence[int] | None = None) -> np.ndarray:
        """Read rows of numbers.

        Parameters
        ----------
        num_rows, num_columns : int
        columns : list of int, optional    to return, not all; the others may hold anything but blanks

        Returns
        -------
        ndarray, shape (num_rows, num_columns or len(columns)), float64

        Raises
        ------
        CutShortError    if the file ends before
        """
        columns = range(num_columns) if columns is None else columns
        parts = []
        while num_rows > 0:
            text, found = self._lines(num_rows)
            if not found:
                self.cut_short(f"{num_rows} rows too early")
            parts.append(self._parsed(text, found, num_columns, columns))
            num_rows -= found
        return np.concatenate(parts) if parts else np.empty((0, len(columns)))

    def rest(self, num_columns: int) -> np.ndarray:
        """Read rows of numbers up to the end of the file.

        Returns
        -------
        ndarray, shape (rows, num_columns), float64
        """
        parts = []
        while self.next_is(""):
            text, found = self._lines(MOST_ROWS)
            if not found:
                self.cut_short("in the middle of a line")
            parts.append(self._parsed(text, found, num_columns, range(num_columns)))
        return np.concatenate(parts) if parts else np.empty((0, num_columns))

    def next_is(self, beginning: str) -> bool:
        """Whether there is another line, and it begins so."""
        while len(self._buffer) - self._place < max(len(beginning), 1):
            if not self._fill():
                return False
        return self._buffer.startswith(beginning.encode(), self._place)

    def whole(self, word: str) -> int:
        """Return the number, zero or above, that a word of the line read last is."""
        if not (word.isascii() and word.isdigit() and len(word) < 19):
            self.fail(f"{word[:40]!r} is no whole number")
        return int(word)

    def whole_column(self, values: np.ndarray, name: str, first: int) -> np.ndarray:
        """Return a column of a table, whose first line is given, as int64; doubles hold whole numbers up to 2^53."""
        with np.errstate(invalid="ignore"):  # beyond 64 bits, which then differ
            whole = values.astype(np.int64)
        wrong = (whole != values) | (whole >= EXACT) | (whole <= -EXACT)
        if wrong.any():
            self.fail(f"{name} is not whole, or not below 2^53", first + int(wrong.argmax()))
        return whole

    def number(self, word: str) -> float:
        """Return the finite number that a word of the line read last is."""
        try:
            return parse_number(word.encode())
        except ValueError as error:
            self.fail(str(error))

    def _parsed(self, text: bytes, num_rows: int, num_columns: int, columns: Sequence[int]) -> np.ndarray:
        try:
            values = parse_numbers(text, num_rows, num_columns, columns)
        except ValueError as error:
            row, what = error.args
            self.fail(what, self.line_number + row + 1)
        self.line_number += num_rows
        return values

    def _lines(self, most: int) -> tuple[bytes, int]:
        """Take up to so many whole lines, as many as are in memory; at least one unless the file ends."""
        while self._buffer.find(b"\n", self._place) < 0 and self._fill():
            pass
        window, found = USUAL_ROW * most, 0
        while found < most:
            last = self._buffer.rfind(b"\n", self._place, self._place + window)
            text = self._buffer[self._place : last + 1]
            is_end = np.frombuffer(text, np.uint8) == ord("\n")
            found = np.count_nonzero(is_end)  # more quickly than text.count
            if self._place + window >= len(self._buffer):
                break
            window *= 4
        if found > most:
            text, found = text[: np.flatnonzero(is_end)[most - 1] + 1], most
        self._place += len(text)
        return text, found

    def _fill(self) -> bool:
        """Bring the next block into memory, after what is left of a line; return whether there was one."""
        if len(self._buffer) - self._place > LONGEST_LINE:
            self.fail(f"is longer than {LONGEST_LINE} bytes", self.line_number + 1)
        try:
            block = self._file.read(BLOCK)
        except EOFError:
            self.cut_short("in the middle of what gzip compressed")
        except (OSError, zlib.error) as error:
            self.fail(f"cannot be read on ({error})", self.line_number + 1)
        self._buffer, self._place = self._buffer[self._place :] + block, 0
        return bool(block)
