"""Rows of numbers in text, checked to be what they should.

With a comma for every gap between words a table is a list of numbers in JSON, which simdjson reads quickly, strictly
and to the nearest double. What it does not take is read once more word by word, which names the first fault.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
import simdjson

_BLANK, _NEWLINE, _COMMA = b" \n,"
# Kept, since fresh memory would cost as much as parsing. A thread that meets another here goes the slower way.
_PARSER = simdjson.Parser()
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
    Numbers are the nearest doubles, and zero has no sign (tests/unit/sources/test_lammps_numbers.py). Numbers that are
    none of JSON, such as +1, .5, 5. and 007, take some ten times as long.
    """
    values = _quickly(text, num_rows, num_columns, columns)
    if values is None:
        lines = text.split(b"\n")[:num_rows]
        values = np.array([_row(row, line, num_columns, columns) for row, line in enumerate(lines)])
    return values + 0.0  # since JSON's -0 has no sign


def _quickly(text: bytes, num_rows: int, num_columns: int, columns: Sequence[int]) -> np.ndarray | None:
    """None if anything is unusual."""
    # Costs next to nothing where there are none.
    letters = np.frombuffer(text.replace(b"\t", b" ").replace(b"\r", b" "), np.uint8)
    is_first = (letters != _BLANK) & (letters != _NEWLINE)
    is_first[1:] &= ~is_first[:-1]
    first = np.flatnonzero(is_first)
    if not _are_rows(letters, first, num_rows, num_columns):
        return None
    letters, is_first = letters[first[0] :], is_first[first[0] :]
    values = _read_list(letters, is_first, len(first))
    if values is not None:
        values = values.reshape(num_rows, num_columns)
        return values if list(columns) == list(range(num_columns)) else values[:, list(columns)]
    # There may be words in columns that are not asked for: on without these.
    kept = sorted(set(columns))
    of_word = np.tile(np.isin(np.arange(num_columns), kept), num_rows)
    is_kept = np.repeat(of_word, np.diff(first, append=len(text)))
    values = _read_list(letters[is_kept], is_first[is_kept], num_rows * len(kept))
    return None if values is None else values.reshape(num_rows, len(kept))[:, np.searchsorted(kept, columns)]


def _are_rows(letters: np.ndarray, first: np.ndarray, num_rows: int, num_columns: int) -> bool:
    """Whether every row has as many words, whose first letters are given."""
    is_end = letters == _NEWLINE
    if np.count_nonzero(is_end) != num_rows or len(first) != num_rows * num_columns:
        return False
    words = first.reshape(num_rows, num_columns)
    if is_end[words[1:, 0] - 1].all():
        return True  # Rows that do not begin with blanks are seen more quickly.
    ends = np.flatnonzero(is_end)
    return bool((words[:, -1] < ends).all() and (words[1:, 0] > ends[:-1]).all())


def _read_list(letters: np.ndarray, is_first: np.ndarray, count: int) -> np.ndarray | None:
    """The numbers that so many words are, which begin where it says; None if JSON knows them not."""
    text = np.empty(len(letters) + 2, np.uint8)
    text[0], text[-1] = b"[]"
    np.add(letters, (letters == _NEWLINE) * np.uint8(_BLANK - _NEWLINE), out=text[1:-1])
    text[1:-2] += is_first[1:] * np.uint8(_COMMA - _BLANK)  # before every word but the first
    listed = text.tobytes()
    if listed.rfind(b"[") > 0:
        return None  # Would be read as the numbers in it. Without, a word is an entry or more, and the count tells.
    try:
        values = np.frombuffer(_PARSER.parse(listed).as_buffer(of_type="d"))
    except (ValueError, TypeError, RuntimeError):  # no JSON; no number; whole and beyond 64 bits
        return None
    return values if len(values) == count else None


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
