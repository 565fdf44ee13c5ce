"""What `fix ave/time` and `fix ave/chunk` write: averages, every so many steps. One frame is kept in memory at a time.

Three comments stand at the beginning (two, where a row is a whole frame); the last names the columns. A frame of
vectors or chunks begins with a line of its step and the number of its rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.lammps_text import MOST_ROWS, LammpsText, split_words

PREFIXES = ("v_", "c_", "f_")  # of a variable, compute or fix, in the name of a column


@dataclass(frozen=True)
class Averages:
    """Rows of `fix ave/time` with scalars.

    Attributes
    ----------
    path : Path
    names : tuple of str                   of the columns after the step, as in the file
    steps : ndarray, shape (n,), int64     rising
    values : ndarray, shape (n, columns), float64, in the units of the script
    """

    path: Path
    names: tuple[str, ...]
    steps: np.ndarray
    values: np.ndarray

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return find_column(self.names, name) is not None

    def column(self, name: str) -> np.ndarray:
        """Return a column; `pxx` stands for `v_pxx`, `c_pxx` or `f_pxx` too.

        Returns
        -------
        ndarray, shape (n,), float64

        Raises
        ------
        DataError    if there is none
        """
        found = find_column(self.names, name)
        if found is None:
            raise DataError(
                f"{self.path}: has no column {name} but {' '.join(self.names)}; correct the name or the script"
            )
        return self.values[:, found]


@dataclass(frozen=True)
class AverageFrame:
    """The rows of one step: of vectors, or of chunks.

    Attributes
    ----------
    place : str              path and line at which the frame begins, for messages
    step : int
    names : tuple of str     of the columns, as in the file: Row ..., or Chunk Coord1 Ncount ...
    values : ndarray, shape (rows, columns), float64, in the units of the script
    count : float or None    of atoms in all chunks, where the file says it
    """

    place: str
    step: int
    names: tuple[str, ...]
    values: np.ndarray
    count: float | None = None


def find_column(names: tuple[str, ...], name: str) -> int | None:
    """Return the place of a column, of the very name or with a prefix v_, c_ or f_; None if there is none."""
    for candidate in (name, *(prefix + name for prefix in PREFIXES)):
        if candidate in names:
            return names.index(candidate)
    return None


def read_averages(path: str | Path) -> Averages:
    """Read what `fix ave/time` wrote of scalars.

    Raises
    ------
    DataError    if the file is missing, cut short or damaged, or steps do not rise, naming the line
    """
    with LammpsText(path) as text:
        title, names = _header(text)
        if title is not None:
            text.fail("holds frames of vectors or chunks, expected a row for each step", 2)
        first = text.line_number + 1
        rows = text.rest(len(names))
    steps = text.whole_column(rows[:, 0], "the step", first)
    if (wrong := np.diff(steps, prepend=-1) <= 0).any():
        text.fail("steps must rise", first + int(wrong.argmax()))
    if not len(rows):
        text.fail("no row follows", first)
    return Averages(Path(path), names[1:], steps, rows[:, 1:])


def average_frames(path: str | Path) -> Iterator[AverageFrame]:
    """Read what `fix ave/chunk`, or `fix ave/time` with mode vector, wrote, frame by frame.

    Yields
    ------
    AverageFrame    in the order of the file

    Raises
    ------
    DataError    if the file is missing, cut short or damaged, or steps do not rise, naming the line
    """
    with LammpsText(path) as text:
        title, names = _header(text)
        if title is None:
            text.fail("holds a row for each step, expected frames of vectors or chunks", 2)
        last = -1
        while (line := text.line()) is not None:
            words = split_words(line)
            if len(words) != len(title):
                text.fail(f"expected {len(title)} numbers: {' '.join(title)}")
            step, rows = text.whole(words[0]), text.whole(words[1])
            if step <= last or rows > MOST_ROWS:
                text.fail(f"step {step} does not rise" if step <= last else f"{rows} rows cannot be")
            count = text.number(words[2]) if len(words) > 2 else None
            begin = text.line_number
            values = text.table(rows, len(names))
            if not np.array_equal(values[:, 0], np.arange(1, rows + 1)):
                text.fail("rows of a frame must be numbered 1, 2, 3, ...", begin + 1)
            yield AverageFrame(f"{text.path}: line {begin}", step, names, values, count)
            last = step


def _header(text: LammpsText) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Words of the line that begins a frame, None if a row is one, and names of the columns."""
    comments = []
    while len(comments) < 3 and text.next_is("#"):
        comments.append(tuple(split_words(text.line().lstrip("#"))))
    if len(comments) < 2 or not all(comments[1:]):
        text.fail("expected the comments at the beginning that name the columns", text.line_number + 1)
    return (comments[1], comments[2]) if len(comments) == 3 else (None, comments[1])
