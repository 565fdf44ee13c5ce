"""Tables of numbers are read to the nearest double, and whatever is wrong is named with its row."""

import numpy as np
import pytest

from hpcsurrogate.sources.lammps_numbers import parse_numbers

FORMATS = ("%d", "%g", "%.17g", "%20.15g", "%-12.4e", "%+f")


def table(seed: int, number_format: str, end: str = "\n") -> tuple[bytes, np.ndarray]:
    random = np.random.default_rng(seed)
    values = random.standard_normal((50, 7)) * 10.0 ** random.integers(-30, 30, (50, 7))
    values = np.round(random.standard_normal((50, 7)) * 1e6) if number_format == "%d" else values
    words = [[number_format % value for value in row] for row in values]
    # Python's own conversion is the exact one.
    expected = np.array([[float(word) for word in row] for row in words])
    return "".join(" ".join(row) + end for row in words).encode(), expected


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_numbers_are_the_nearest_doubles(number_format, end):
    for seed in range(5):
        text, expected = table(seed, number_format, end)
        assert np.array_equal(parse_numbers(text, 50, 7, range(7)), expected)
        assert np.array_equal(parse_numbers(text, 50, 7, [5, 0]), expected[:, [5, 0]])


def test_other_columns_may_hold_words():
    assert parse_numbers(b"1 Ar 2.5\n2 C\xc3\xa9 3\n", 2, 3, [0, 2]).tolist() == [[1, 2.5], [2, 3]]


@pytest.mark.parametrize(
    ("text", "row", "what"),
    [
        (b"1 2\n3\n4 5\n", 1, "has 1 columns, expected 2"),
        (b"1 2\n\n4 5\n", 1, "has 0 columns"),
        (b"1 2\n3 4\n4 5 6\n", 2, "has 3 columns"),
        (b"1 2\n3 4\n4 x5\n", 2, "x5 is no number"),
        (b"1 2\n3 4.5.6\n4 5\n", 1, "4.5.6 is no number"),
        (b"1 2\n3 1-2\n4 5\n", 1, "1-2 is no number"),
        (b"1 2\n3 1e\n4 5\n", 1, "1e is no number"),
        (b"1 2\n3 0x10\n4 5\n", 1, "0x10 is no number"),
        (b"1 2\n3 1_0\n4 5\n", 1, "1_0 is no number"),
        (b"1 2\n3 4\x00\n4 5\n", 1, "is no number"),
        (b"1 2\n-nan 4\n4 5\n", 1, "not finite"),
        (b"1 2\n4 5\n3 1e999\n", 2, "not finite"),
        (b'1 2\n"3" 4\n4 5\n', 1, "is no number"),
        (b"1 2\nNA 4\n4 5\n", 1, "NA is no number"),
    ],
)
def test_faults_are_named_with_their_row(text, row, what):
    with pytest.raises(ValueError) as caught:
        parse_numbers(text, 3, 2, range(2))
    assert caught.value.args[0] == row
    assert what in caught.value.args[1]
