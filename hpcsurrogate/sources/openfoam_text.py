"""What files of OpenFOAM are written in: dictionaries, and lists of numbers in ascii or binary.

Strict where it can be: a list holds as many numbers as it says, a dictionary that is opened is closed, and whatever a
damaged file holds takes time in proportion to its length.

The format: https://doc.cfd.direct/openfoam/user-guide-v12/basic-file-format.
"""

import gzip
import re
import warnings
import zlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from hpcsurrogate.core.errors import DataError

WIDTHS = {"scalar": 1, "vector": 3, "symmTensor": 6, "tensor": 9}  # numbers in an item of List<...>
DEEPEST = 16  # dictionaries within dictionaries
_SPACE = re.compile(rb"(?:\s+|//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)*")
_TOKEN = re.compile(rb'"[^"\n]*"|[{}();]|[^\s{}();"]+')
_COUNT = re.compile(rb"\d{1,18}")
_BLANKS = bytes.maketrans(b"()", b"  ")


class FoamText:
    """The content of one file, read from its beginning to its end.

    Parameters
    ----------
    path : Path    with or without the ending .gz

    Attributes
    ----------
    header : dict    the dictionary FoamFile: "format", "class", "arch", ...

    Raises
    ------
    DataError    if the file cannot be read or has no header; all methods likewise, with the byte, if it is damaged
    """

    def __init__(self, path: Path):
        self.path, self.place = path, 0
        try:
            self.content = path.read_bytes()
            if path.suffix == ".gz":
                self.content = gzip.decompress(self.content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: cannot be read ({error}); write or copy it again") from None
        if self._token() != "FoamFile" or self._token() != "{":
            self.fail("there is no header FoamFile")
        self.header = self.dictionary("}")
        if self.header.get("format") not in ("ascii", "binary"):
            self.fail("FoamFile.format is neither ascii nor binary")
        # What a binary file says of its numbers; only little-endian machines are about.
        arch = str(self.header.get("arch", "LSB;label=32;scalar=64")).strip('"')
        found = re.fullmatch(r"LSB;label=(32|64);scalar=(32|64)", arch)
        if not found:
            self.fail(f"FoamFile.arch {arch} is not known")
        self.label, self.scalar = np.dtype(f"<i{int(found[1]) // 8}"), np.dtype(f"<f{int(found[2]) // 8}")

    def fail(self, what: str) -> NoReturn:
        """Raise DataError with the path and the place."""
        raise DataError(f"{self.path}: byte {self.place}: {what}; the file is damaged: write or copy it again")

    def dictionary(self, end: str | None = None) -> dict[str, Any]:
        """Read entries up to a closing brace, or to the end of the file (None).

        Returns
        -------
        dict    keyword -> a dictionary, a text, or a list of tokens, in which lists of numbers are arrays
        """
        return self._dictionary(end, 0)

    def numbers(self, width: int, are_labels: bool) -> np.ndarray:
        """Read a list: `count(...)`, or `count{value}` if all are equal.

        Returns
        -------
        ndarray, shape (count,) or (count, width), int64 or float64
        """
        count = self.count()
        shape = (count,) if width == 1 else (count, width)
        dtype = np.dtype(np.int64 if are_labels else np.float64)
        opening = self._token()
        if opening == "{":
            one = self._of_text(self._up_to(b"}", 1), dtype)
            if one.size != width:
                self.fail(f"expected {width} numbers between braces")
            return np.broadcast_to(one if width > 1 else one[0], shape)  # takes no memory, whatever the count
        if opening != "(":
            self.fail("expected the bracket of a list")
        if self.header["format"] == "binary":
            values = self._of_bytes(count * width, self.label if are_labels else self.scalar)
        else:
            values = self._of_text(self._up_to(b")", 1 if width == 1 else count + 1), dtype)
        if values.size != count * width:
            self.fail(f"a list of {count} holds {values.size} numbers, expected {count * width}")
        return values.reshape(shape).astype(dtype)

    def faces(self) -> np.ndarray:
        """Read a list of faces, `count(3(1 2 3) 4(1 2 3 4) ...)`: all numbers, sizes included, (m,) int64."""
        count = self.count()
        if self._token() != "(":
            self.fail("expected the bracket of a list")
        return self._of_text(self._up_to(b")", count + 1), np.dtype(np.int64))

    def count(self) -> int:
        """Read how many items follow."""
        self._skip()
        found = _COUNT.match(self.content, self.place)
        if not found:
            self.fail("expected the length of a list")
        self.place = found.end()
        return int(found[0])

    def expect(self, token: str) -> None:
        """Read one token, which must be this one."""
        if self._token() != token:
            self.fail(f"expected {token}")

    def finish(self) -> None:
        """Make sure that nothing but space and comments is left."""
        self._skip()
        if self.place < len(self.content):
            self.fail("expected the end of the file")

    def _skip(self) -> None:
        self.place = _SPACE.match(self.content, self.place).end()

    def _token(self) -> str | None:
        self._skip()
        found = _TOKEN.match(self.content, self.place)
        if not found:
            return None if self.place == len(self.content) else self.fail("expected a word")
        self.place = found.end()
        return found[0].decode("utf-8", "backslashreplace")

    def _dictionary(self, end: str | None, depth: int) -> dict[str, Any]:
        if depth > DEEPEST:
            self.fail("too many dictionaries within each other")
        entries: dict[str, Any] = {}
        while (keyword := self._token()) != end:
            if keyword is None or keyword in "{}();":
                self.fail(f"expected a keyword{' or the end of a dictionary' if end else ''}")
            if keyword.startswith("#"):  # such as #include: not followed
                line = self.content.find(b"\n", self.place)
                self.place = len(self.content) if line < 0 else line
                continue
            entries[keyword.strip('"')] = self._value(depth)
        return entries

    def _value(self, depth: int) -> Any:
        tokens: list[Any] = []
        while (token := self._token()) != ";":
            if token == "{" and not tokens:
                return self._dictionary("}", depth + 1)
            if token is None or token in "{}":
                self.fail("expected the ; of an entry")
            tokens.append(token)
            if found := re.fullmatch(r"List<(\w+)>", token):
                if found[1] not in WIDTHS:
                    self.fail(f"{token} is not known")
                tokens.append(self.numbers(WIDTHS[found[1]], False))
        return tokens[0] if len(tokens) == 1 else tokens

    def _up_to(self, bracket: bytes, number: int) -> bytes:
        """The text before the number-th bracket from here, beyond which reading goes on."""
        if number == 1:
            last = self.content.find(bracket, self.place)
        else:
            left = np.frombuffer(self.content, np.uint8, offset=self.place)
            places = np.flatnonzero(left == bracket[0])
            last = self.place + int(places[number - 1]) if number <= len(places) else -1
        if last < 0:
            self.fail("a list ends too early")
        text, self.place = self.content[self.place : last], last + 1
        return text

    def _of_text(self, text: bytes, dtype: np.dtype) -> np.ndarray:
        plain = text.translate(_BLANKS)
        if not plain.strip():
            return np.empty(0, dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # raised for what is no number
            try:
                return np.fromstring(plain.decode("ascii"), dtype=dtype, sep=" ")
            except (ValueError, DeprecationWarning, OverflowError):
                self.fail("a list holds something that is no number")

    def _of_bytes(self, number: int, dtype: np.dtype) -> np.ndarray:
        end = self.place + number * dtype.itemsize
        if self.content[end : end + 1] != b")":
            self.fail("a list ends too early or too late")
        values = np.frombuffer(self.content, dtype, number, self.place)
        self.place = end + 1
        return values
