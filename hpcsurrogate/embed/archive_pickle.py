"""The pickles of an archive, gone through as unpickling would, without making anything.

torch's own reader trusts them: a tensor may claim more bytes than its entry has, and a list may hold itself. The rule
stands in words at the head of native/operators.txt; native/src/archive_pickle.cpp applies the same one.
"""

from dataclasses import dataclass
from typing import Any, NoReturn

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.embed.archive_code import rules

_STOP = 0x2E
_LENGTHS = {"\x85": 1, "\x86": 2, "\x87": 3}  # of tuples
_REPEATED = ("type", "text", "storage", "tensor")
_MALFORMED = "is not what torch writes for a closure"


@dataclass
class _Value:
    """What would lie on the stack."""

    kind: str  # mark, type, text, number, flag, other, tuple, container, object, storage or tensor
    content: Any = None  # name of a type, bytes of a text, values of a tuple, number of elements of a storage
    depth: int = 0


class _OddError(Exception):
    """Why an opcode is refused."""


def check_pickle(entries: dict[str, bytes], name: str, classes: set[str], origin: object) -> None:
    """Refuse a pickle that makes anything but tensors, numbers, texts, containers and objects of `classes`.

    Parameters
    ----------
    entries : dict of str to bytes    of the whole archive: the storages of the tensors are among them
    name : str                        of the pickle, data.pkl or constants.pkl
    classes : set of str              that the archive's code defines
    origin : object                   how messages name the file

    Raises
    ------
    ModelRefusedError    naming the entry and what is not allowed, such as a tensor that reaches beyond its storage or
                         a list that holds itself (tests/unit/embed/test_archive_pickle.py)
    """
    content, position = entries[name], 0
    machine = _Machine(name.removesuffix(".pkl"), entries, classes)
    while position < len(content):
        opcode, start = content[position], position + 1
        follows = rules().opcodes.get(opcode)
        if follows is None:
            _refuse(f"{name} byte {position}: opcode {opcode:#04x} is none of those a closure needs", origin)
        end = _end_of_argument(content, start, follows)
        if end > len(content):
            break
        try:
            machine.do(chr(opcode), content[start:end])
        except _OddError as reason:
            _refuse(f"{name} byte {position}: {reason}", origin)
        if opcode == _STOP and end == len(content):
            return
        if opcode == _STOP:
            break
        position = end
    _refuse(f"{name}: is cut off or goes on behind its end", origin)


def _end_of_argument(content: bytes, start: int, follows: str) -> int:
    """Position behind the argument of an opcode; beyond the end of `content` if that is cut off."""
    if follows == "lines2":
        first = content.find(b"\n", start)
        second = content.find(b"\n", first + 1) if first >= 0 else -1
        return second + 1 if second >= 0 else len(content) + 1
    if follows.startswith("size"):
        width = int(follows.removeprefix("size"))
        return start + width + int.from_bytes(content[start : start + width], "little")
    return start + int(follows)


class _Machine:
    """Stack and memory of unpickling."""

    def __init__(self, folder: str, entries: dict[str, bytes], classes: set[str]):
        self.folder = folder  # of the entries that hold the storages
        self.entries, self.classes = entries, classes
        self.stack: list[_Value] = []
        self.memory: dict[int, _Value] = {}

    def do(self, opcode: str, argument: bytes) -> None:
        """Do one step."""
        match opcode:
            case "\x80":  # the version of the format
                pass
            case "c":
                self.push("type", self.known_type(argument))
            case "q" | "r":
                number = int.from_bytes(argument, "little")
                _require(bool(self.stack) and number <= len(self.memory))  # torch makes room for all numbers up to it
                self.memory[number] = self.stack[-1]
            case "h" | "j":
                value = self.memory.get(int.from_bytes(argument, "little"))
                _require(value is not None and value.kind in _REPEATED)
                self.stack.append(value)
            case "(":
                self.push("mark")
            case ")":
                self.push("tuple", [])
            case "t":
                self.push_tuple(self.take_to_mark())
            case "\x85" | "\x86" | "\x87":
                self.push_tuple(self.take(_LENGTHS[opcode]))
            case "}" | "]":
                self.push("container")
            case "a" | "s":
                self.fill(self.take(1 if opcode == "a" else 2))
            case "e" | "u":
                self.fill(self.take_to_mark())
            case "X":
                self.push("text", argument[4:])
            case "K" | "M":
                self.push("number", int.from_bytes(argument, "little"))
            case "J":
                self.push("number", int.from_bytes(argument, "little", signed=True))
            case "\x8a":
                _require(argument[0] == 8)
                self.push("number", int.from_bytes(argument[1:], "little", signed=True))
            case "\x88" | "\x89":
                self.push("flag")
            case "G" | "N":  # a number with a point, None
                self.push("other")
            case "Q":
                self.push("storage", self.size_of_storage(self.take_one("tuple").content))
            case "R":
                self.call()
            case "\x81":
                (name, arguments) = self.take(2)
                _require(name.kind == "type" and name.content in self.classes and arguments.kind == "tuple")
                self.push("object")
            case "b":
                (made, state) = self.take(2)
                _require(made.kind == "object" and made.depth == 0)
                self.push("object", depth=_deeper(state))
            case ".":
                self.take(1)
                _require(not self.stack)

    def push(self, kind: str, content: Any = None, depth: int = 0) -> None:
        """Lay a value on the stack."""
        self.stack.append(_Value(kind, content, depth))

    def push_tuple(self, values: list[_Value]) -> None:
        """Lay a tuple of these on the stack."""
        self.push("tuple", values, _deeper(*values))

    def take(self, number: int) -> list[_Value]:
        """The values on top of the stack, the topmost last."""
        taken = self.stack[-number:]
        _require(len(taken) == number and all(value.kind != "mark" for value in taken))
        del self.stack[-number:]
        return taken

    def take_one(self, kind: str) -> _Value:
        """The topmost value, which is of this kind."""
        (value,) = self.take(1)
        _require(value.kind == kind)
        return value

    def take_to_mark(self) -> list[_Value]:
        """All that was laid there since the last mark."""
        taken = []
        while self.stack and self.stack[-1].kind != "mark":
            taken.append(self.stack.pop())
        _require(bool(self.stack))
        self.stack.pop()
        return taken[::-1]

    def fill(self, values: list[_Value]) -> None:
        """Put values into the container on top of the stack."""
        _require(bool(self.stack) and self.stack[-1].kind == "container")
        self.stack[-1].depth = max(self.stack[-1].depth, _deeper(*values))

    def known_type(self, argument: bytes) -> str:
        """The name of a type that a closure has."""
        name = ".".join(argument[:-1].decode("ascii", errors="replace").split("\n"))
        if name not in rules().globals and name not in rules().storages and name not in self.classes:
            shown = name.encode("unicode_escape").decode("ascii")[:100]
            raise _OddError(f"'{shown}' is none of the types of a closure")
        return name

    def size_of_storage(self, words: list[_Value]) -> int:
        """Number of elements of a storage, which lies in an entry of just that size."""
        _require([word.kind for word in words] == ["text", "type", "text", "text", "number"])
        (what, of_type, key, device, elements) = (word.content for word in words)
        size = rules().storages.get(of_type)
        _require(what == b"storage" and device == b"cpu" and size is not None and elements >= 0)
        entry = self.entries.get(f"{self.folder}/{key.decode('ascii', errors='replace')}", b"")
        if len(entry) != size * elements:
            raise _OddError("a storage is not as large as its entry")
        return elements

    def call(self) -> None:
        """Replace a function and its arguments by the result."""
        (function, arguments) = self.take(2)
        _require(function.kind == "type" and function.content in rules().globals and arguments.kind == "tuple")
        if function.content == "torch._utils._rebuild_tensor_v2":
            _check_tensor(arguments.content)
            self.push("tensor")
            return
        if function.content == "torch.jit._pickle.restore_type_tag":
            _require(len(arguments.content) == 2 and arguments.content[1].kind == "text")
            _require(len(arguments.content[1].content) <= rules().limits["name"])
        self.push("container", depth=_deeper(*arguments.content))


def _check_tensor(words: list[_Value]) -> None:
    kinds = [word.kind for word in words]
    _require(kinds == ["storage", "number", "tuple", "tuple", "flag", "container"])
    room, last, sizes, strides = (word.content for word in words[:4])
    _require(len(sizes) == len(strides) and all(word.kind == "number" for word in (*sizes, *strides)))
    number, inside = 1, 0 <= last < room
    for size, stride in zip(sizes, strides, strict=True):
        number *= size.content
        last += (size.content - 1) * stride.content
        inside = inside and size.content > 0 and stride.content >= 0 and number <= room and last < room
        if not inside:
            break
    if not inside:
        raise _OddError("a tensor is empty or reaches beyond its storage")


def _deeper(*values: _Value) -> int:
    """Depth of what holds these."""
    depth = 1 + max((value.depth for value in values), default=0)
    if depth > rules().limits["depth"]:
        raise _OddError("nests deeper than what a closure holds")
    return depth


def _require(is_so: bool) -> None:
    if not is_so:
        raise _OddError(_MALFORMED)


def _refuse(what: str, origin: object) -> NoReturn:
    raise ModelRefusedError(f"{origin}: {what}; do not use this file")
