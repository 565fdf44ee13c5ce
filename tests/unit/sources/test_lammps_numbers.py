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
    assert parse_numbers(b'1 [1,2] 2.5\n2 "," 3\n', 2, 3, [2, 0, 2]).tolist() == [[2.5, 1, 2.5], [3, 2, 3]]
    assert parse_numbers(b"Ar\nKr\n", 2, 1, []).shape == (2, 0)
    with pytest.raises(ValueError, match="has 2 columns, expected 1"):
        parse_numbers(b"Ar\nKr Xe\n", 2, 1, [])


NUMBERS = """
0 -0 -0.0 7 -7 1.5 -1.5e-3 1E5 1e+06 1e0005 +1 .5 5. 007 00.5 -.5e-3 0.1 1e23 9007199254740993 9007199254740993.0
0.1000000000000000055511151231257827 3.14159265358979311 1.7976931348623157e308 2.2250738585072011e-308 4.9e-324
2.4703282292062327e-324 2.4703282292062328e-324 1e-400 18446744073709551615 18446744073709551616
-9223372036854775809 9223372036854775807 123456789012345678901234567890 123456789012345678901234567890.5
"""
WORDS = [*NUMBERS.split(), "0." + 400 * "0" + "1e401", "1" + 300 * "0"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("beside", ["1", "0.25", "+1"])
def test_every_way_of_writing_a_number_is_the_nearest_double(word, beside):
    values = parse_numbers(f"{beside} {word}\n{word} {beside}\n".encode(), 2, 2, [0, 1])
    assert values.tolist() == [[float(beside), float(word)], [float(word), float(beside)]]


def test_blanks_of_every_kind_part_words():
    for text in (b" 1 2\n 3 4\n", b"1 \t2\r\n3\t4 \t\r\n", b"1  2 \n  3 4\n", b"\t1 2\n3   4\n"):
        assert parse_numbers(text, 2, 2, [0, 1]).tolist() == [[1, 2], [3, 4]]
        assert parse_numbers(text, 2, 2, [1]).tolist() == [[2], [4]]


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
        # What JSON would take, and a count of words that comes right by accident.
        (b"1 2\n3 [4]\n4 5\n", 1, "[4] is no number"),
        (b"1 2\n[3 4]\n4 5\n", 1, "[3 is no number"),
        (b"1 2\n[] 3,4\n4 5\n", 1, "[] is no number"),
        (b"1 2\n3,4 5\n6 7\n", 1, "3,4 is no number"),
        (b"1 2\n3 true\n4 5\n", 1, "true is no number"),
        (b'1 2\n{"a":3} 4\n4 5\n', 1, "is no number"),
        (b"1 2\n3\n4 5 6\n", 1, "has 1 columns"),
        (b"1 2\n 3\n 4 5 6\n", 1, "has 1 columns"),
        (b"1 2\n3 \x0b4\n4 5\n", 1, "is no number"),
        (b"1 2\n3 4\n\x1f 5\n", 2, "is no number"),
    ],
)
def test_faults_are_named_with_their_row(text, row, what):
    with pytest.raises(ValueError) as caught:
        parse_numbers(text, 3, 2, range(2))
    assert caught.value.args[0] == row
    assert what in caught.value.args[1]
