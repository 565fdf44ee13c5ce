"""Rows of numbers in text, checked to be what they should."""

import warnings
from collections.abc import Sequence

import numpy as np

_IS_SPACE = np.zeros(256, bool)
_IS_SPACE[[ord(blank) for blank in " \t\r\n"]] = True
_OF_NUMBERS = b"0123456789+-.eEnaifNAIF \t\r\n"


def parse_numbers(text: bytes, num_rows: int, num_columns: int, columns: Sequence[int]) -> np.ndarray:
    """Read a table of finite numbers.

    Parameters
    ----------
    text : bytes              so many whole lines
    num_rows : int
    num_columns : int         separated by blanks, in every row
    columns : list of int     to return; the others may hold anything but blanks

    Returns
    -------
    ndarray, shape (num_rows, len(columns)), float64, columns one after the other in memory

    Raises
    ------
    ValueError    with two arguments: the row, which counts from 0, and what is wrong with it

    Notes
    -----
    Numbers are the nearest doubles (tests/unit/sources/test_lammps_numbers.py).
    """
    values = _table(text, num_rows, num_columns, columns)
    if not np.isfinite(values).all():
        raise ValueError(int((~np.isfinite(values)).any(axis=1).argmax()), "holds a number that is not finite")
    return values


def _table(text: bytes, num_rows: int, num_columns: int, columns: Sequence[int]) -> np.ndarray:
    letters = np.frombuffer(text, np.uint8)
    if not _has_single_blanks(letters, num_rows, num_columns):
        counts = _words_in_lines(letters)
        if (counts != num_columns).any():
            row = int((counts != num_columns).argmax())
            raise ValueError(row, f"has {counts[row]} columns, expected {num_columns}")
    if len(columns) < num_columns:
        words = np.array(text.split()).reshape(num_rows, num_columns)[:, columns]
        text = b"\n".join(b" ".join(row) for row in words.tolist())
    values = _numbers(text)
    if values is None or len(values) != num_rows * len(columns):
        raise ValueError(*_first_fault(text))
    return np.asfortranarray(values.reshape(num_rows, len(columns)))


def _has_single_blanks(letters: np.ndarray, num_rows: int, num_columns: int) -> bool:
    """Whether every row has as many words, one blank between two: the usual, quickly seen."""
    ends = np.flatnonzero(letters <= ord(" "))
    if len(ends) != num_rows * num_columns or ends[0] == 0 or (np.diff(ends) == 1).any():
        return False
    return bool((letters[ends[num_columns - 1 :: num_columns]] == ord("\n")).all())


def _words_in_lines(letters: np.ndarray) -> np.ndarray:
    is_space = _IS_SPACE[letters]
    starts = ~is_space
    starts[1:] &= is_space[:-1]
    ends = np.flatnonzero(letters == ord("\n"))
    return np.add.reduceat(starts, np.concatenate([[0], ends[:-1] + 1]), dtype=np.int64)


def _numbers(text: bytes) -> np.ndarray | None:
    if text.translate(None, _OF_NUMBERS):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # raised for what is no number
        try:
            return np.fromstring(text.decode("ascii"), sep=" ")
        except (ValueError, DeprecationWarning):
            return None


def _first_fault(text: bytes) -> tuple[int, str]:
    for row, line in enumerate(text.split(b"\n")):
        for word in line.split():
            if _numbers(word) is None:
                return row, f"{word.decode('ascii', 'backslashreplace')[:40]} is no number"
    raise AssertionError("no fault in a table that has one")
