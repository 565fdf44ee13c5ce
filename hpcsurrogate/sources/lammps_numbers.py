"""Rows of numbers in text, checked to be what they should.

numpy's own reader is quick and rounds to the nearest double. What it does not take, or takes more generously than it
should, is read once more word by word, which names the first fault.
"""

import io
import math
import re
from collections.abc import Sequence

import numpy as np

_PLAIN = bytes(range(ord(" "), 127)) + b"\t\r\n"
_IS_SPACE = np.zeros(256, bool)
_IS_SPACE[[ord(blank) for blank in " \t\r\n"]] = True
NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_NOT_FINITE = re.compile(rb"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)


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
    ndarray, shape (num_rows, len(columns)), float64

    Raises
    ------
    ValueError    with two arguments: the row, which counts from 0, and what is wrong with it

    Notes
    -----
    Numbers are the nearest doubles (tests/unit/sources/test_lammps_numbers.py).
    """
    values = _quickly(text, num_rows, num_columns, list(columns))
    if values is None:
        lines = text.split(b"\n")[:num_rows]
        values = np.array([_row(row, line, num_columns, columns) for row, line in enumerate(lines)])
    return values


def _quickly(text: bytes, num_rows: int, num_columns: int, columns: list[int]) -> np.ndarray | None:
    """None if anything is unusual."""
    if text.isspace() or text.translate(None, _PLAIN):
        return None
    chosen = None if columns == list(range(num_columns)) else columns
    # Of all columns numpy sees to it itself that every row has as many.
    if chosen is not None and not _has_columns(np.frombuffer(text, np.uint8), num_rows, num_columns):
        return None
    try:
        values = np.loadtxt(io.BytesIO(text), comments=None, usecols=chosen, ndmin=2, encoding="ascii")
    except ValueError:
        return None
    return values if values.shape == (num_rows, len(columns)) and np.isfinite(values).all() else None


def _has_columns(letters: np.ndarray, num_rows: int, num_columns: int) -> bool:
    """Whether every row has as many words."""
    ends = np.flatnonzero(letters <= ord(" "))
    if len(ends) == num_rows * num_columns and ends[0] > 0 and (np.diff(ends) > 1).all():
        # One blank between two words, which is the usual and quickly seen.
        return bool((letters[ends[num_columns - 1 :: num_columns]] == ord("\n")).all())
    is_space = _IS_SPACE[letters]
    starts = ~is_space
    starts[1:] &= is_space[:-1]
    ends = np.flatnonzero(letters == ord("\n"))
    words = np.add.reduceat(starts, np.concatenate([[0], ends[:-1] + 1]), dtype=np.int64)
    return bool((words == num_columns).all())


def _row(row: int, line: bytes, num_columns: int, columns: Sequence[int]) -> list[float]:
    words = line.replace(b"\t", b" ").replace(b"\r", b" ").split(b" ")
    words = [word for word in words if word]
    if len(words) != num_columns:
        raise ValueError(row, f"has {len(words)} columns, expected {num_columns}")
    try:
        return [parse_number(words[column]) for column in columns]
    except ValueError as error:
        raise ValueError(row, str(error)) from None


def parse_number(word: bytes) -> float:
    """Read a finite number.

    Raises
    ------
    ValueError    if it is none, or not finite
    """
    value = float(word) if NUMBER.fullmatch(word) else math.nan
    if math.isfinite(value):
        return value
    shown = word.decode("ascii", "backslashreplace")[:40]
    is_number = NUMBER.fullmatch(word) or _NOT_FINITE.fullmatch(word)
    raise ValueError("holds a number that is not finite" if is_number else f"{shown} is no number")
