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
    ndarray, shape (num_rows, len(columns)), float64    not to be written to

    Raises
    ------
    ValueError    with two arguments: the row, which counts from 0, and what is wrong with it

    Notes
    -----
    Numbers are the nearest doubles (tests/unit/sources/test_lammps_numbers.py); -0 is 0, as JSON's is. Numbers that are
    none of JSON, such as +1, .5, 5. and 007, take many times as long.
    """
    values = _quickly(text, num_rows, num_columns, columns)
    if values is None:
        lines = text.split(b"\n")[:num_rows]
        values = np.array([_row(row, line, num_columns, columns) for row, line in enumerate(lines)])
    return values


def _quickly(text: bytes, num_rows: int, num_columns: int, columns: Sequence[int]) -> np.ndarray | None:
    """None if anything is unusual."""
    if not _is_even(text, num_rows, num_columns):
        text = _respaced(text, num_rows, num_columns)
        if not text:
            return None
    values = _read_words(text, num_rows * num_columns)
    if values is not None:
        values = values.reshape(num_rows, num_columns)
        return values if list(columns) == list(range(num_columns)) else values[:, list(columns)]
    # Columns that are not asked for may hold what is no number: on without them.
    kept = sorted(set(columns))
    values = _read_words(_cut(text, num_rows, num_columns, kept), num_rows * len(kept))
    return None if values is None else values.reshape(num_rows, len(kept))[:, np.searchsorted(kept, columns)]


def _is_even(text: bytes, num_rows: int, num_columns: int) -> bool:
    """Whether words are parted by one blank, or one end of a row, each where it should be."""
    if text.startswith((b" ", b"\n")) or b"\t" in text or b"\r" in text:
        return False
    letters = np.frombuffer(text, np.uint8)
    is_end = letters == _NEWLINE
    gaps = np.flatnonzero((letters == _BLANK) | is_end)
    if len(gaps) != num_rows * num_columns or (np.diff(gaps) == 1).any():
        return False
    return bool(is_end[gaps[num_columns - 1 :: num_columns]].all())


def _respaced(text: bytes, num_rows: int, num_columns: int) -> bytes:
    """The same words with one blank after each; none if a row has not as many as it should."""
    letters = np.frombuffer(text.replace(b"\t", b" ").replace(b"\r", b" "), np.uint8)
    is_end = letters == _NEWLINE
    is_kept = (letters != _BLANK) & ~is_end
    is_last = is_kept.copy()
    is_last[:-1] &= ~is_kept[1:]
    last, ends = np.flatnonzero(is_last), np.flatnonzero(is_end)
    if len(ends) != num_rows or len(last) != num_rows * num_columns:
        return b""
    words = last.reshape(num_rows, num_columns)
    if (words[:, -1] > ends).any() or (words[1:, 0] < ends[:-1]).any():
        return b""
    is_kept[last + 1] = True
    return letters[is_kept].tobytes().replace(b"\n", b" ")


def _cut(text: bytes, num_rows: int, num_columns: int, columns: list[int]) -> bytes:
    """The words of some columns, each with the blank or end of a row after it."""
    letters = np.frombuffer(text, np.uint8)
    gaps = np.flatnonzero((letters == _BLANK) | (letters == _NEWLINE))
    of_word = np.tile(np.isin(np.arange(num_columns), columns), num_rows)
    return letters[np.repeat(of_word, np.diff(gaps, prepend=-1))].tobytes()


def _read_words(text: bytes, count: int) -> np.ndarray | None:
    """The numbers that so many words are, with one blank or end of a row after each; None if JSON takes them not."""
    letters = np.frombuffer(text, np.uint8)
    listed = np.empty(len(letters) + 1, np.uint8)
    listed[:1], listed[-1:] = ord("["), ord("]")
    listed[1:-1] = letters[:-1]
    listed[1:-1] += (letters[:-1] == _BLANK).view(np.uint8) * np.uint8(_COMMA - _BLANK)
    listed[1:-1] += (letters[:-1] == _NEWLINE).view(np.uint8) * np.uint8(_COMMA - _NEWLINE)
    json = listed.tobytes()
    if json.rfind(b"[") > 0:
        return None  # A list in the list would be read as its numbers. Without, a word is an entry or more.
    try:
        values = np.frombuffer(_PARSER.parse(json).as_buffer(of_type="d"))
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
