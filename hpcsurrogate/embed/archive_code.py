"""The code of an archive, held against the list of what an exported closure may do.

The rule stands in words at the head of native/operators.txt; native/src/archive_code.cpp applies the same one.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, NoReturn

from hpcsurrogate.core.errors import ModelRefusedError

RULES = Path(__file__).parent / "native" / "operators.txt"

_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\\n]|\\[^\n])*"(?!"))'
    r"|(?P<number>[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?(?![A-Za-z0-9_.]))"
    rf"|(?P<name>{_IDENTIFIER}(?:\.{_IDENTIFIER})*)"
    r"|(?P<mark>->|[()\[\],:=\-])"
)
_SPACE = re.compile(r"[ \n]*")
_FOREIGN = re.compile(rb"[^\n\x20-\x7e]")
_CONSTANT = re.compile(r"CONSTANTS\.c[0-9]+")
_HOOK = re.compile(rb"\bdef +(__[A-Za-z0-9_]*)")
_MANGLED = re.compile(r"___torch_mangle_[0-9]+")
_ROOTS = frozenset({"torch", "ops", "CONSTANTS", "__torch__"})
_LISTS = frozenset({"__parameters__", "__buffers__"})  # names of the parameters and buffers of a class
_CLASS_HEADER = ["(", "Module", ")", ":"]
_NUMBERS = frozenset({"inf", "nan"})  # beside digits, what may follow a minus


class Rules(NamedTuple):
    """The words of native/operators.txt."""

    operators: frozenset[str]
    callables: frozenset[str]  # what may stand before "(" without a dot: builtins and keywords
    forbidden: frozenset[str]
    arguments: frozenset[str]  # those that are given by name
    limits: dict[str, int]
    opcodes: dict[int, str]  # of pickles, and what follows each
    globals: frozenset[str]  # module.name
    storages: dict[str, int]  # bytes of an element


class Token(NamedTuple):
    """A piece of code."""

    kind: str
    text: str
    line: int


@cache
def rules() -> Rules:
    """Return the list that is installed with the package."""
    words: dict[str, list[list[str]]] = {}
    for line in RULES.read_text(encoding="ascii").splitlines():
        if line and not line.startswith("#"):
            kind, *rest = line.split()
            words.setdefault(kind, []).append(rest)
    return Rules(
        operators=frozenset(name for (name,) in words["operator"]),
        callables=frozenset(name for (name,) in words["builtin"] + words["keyword"]),
        forbidden=frozenset(name for (name,) in words["forbidden"]),
        arguments=frozenset(name for (name,) in words["argument"]),
        limits={name: int(limit) for name, limit in words["limit"]},
        opcodes={int(code, 16): follows for code, follows in words["opcode"]},
        globals=frozenset(f"{module}.{name}" for module, name in words["global"]),
        storages={f"torch.{name}": int(size) for name, size in words["storage"]},
    )


def check_code(source: bytes, entry: str, origin: object) -> set[str]:
    """Refuse code that does anything but call listed operators on values.

    Parameters
    ----------
    source : bytes     TorchScript's code as it lies in the archive
    entry : str        its name there
    origin : object    how messages name the file

    Returns
    -------
    set of str    the classes that it defines, such as `__torch__.closure.Closure`

    Raises
    ------
    ModelRefusedError    naming entry, line and what is not allowed (tests/unit/embed/test_archive.py)
    """
    _check_text(source, entry, origin)
    tokens = list(_tokens(source.decode("ascii"), entry, origin))
    module = entry.removeprefix("code/").removesuffix(".py").replace("/", ".")
    classes, depth = set(), 0
    for number, token in enumerate(tokens):
        before, behind = tokens[max(0, number - 2) : number], tokens[number + 1 : number + 5]
        if token.kind == "name":
            _check_name(token, entry, origin)
            _check_place(token, before, behind, depth, entry, origin)
            if before and before[-1].text == "class":
                _check_class(behind, token, entry, origin)
                classes.add(f"{module}.{token.text}")
        elif token.kind == "mark":
            depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
            if not 0 <= depth <= rules().limits["depth"]:
                _refuse(f"{entry} line {token.line}: brackets are nested too deep or not opened", origin)
            _check_mark(token, before, behind, entry, origin)
    return classes


def _check_text(source: bytes, entry: str, origin: object) -> None:
    foreign = _FOREIGN.search(source)
    if foreign:
        line = source.count(b"\n", 0, foreign.start()) + 1
        _refuse(f"{entry} line {line}: byte {foreign.group()[0]:#04x} is no printable ASCII", origin)
    if b" " * (rules().limits["spaces"] + 1) in source:
        _refuse(f"{entry}: holds more spaces in a row than an export writes", origin)
    hook = _HOOK.search(source)
    if hook:  # the rule below would do; this says more
        name = hook.group(1).decode("ascii")
        _refuse(f"{entry}: defines {name}, which torch may run while it loads the file", origin)


def _tokens(text: str, entry: str, origin: object) -> Iterator[Token]:
    position, line = 0, 1
    while True:
        space = _SPACE.match(text, position)
        line += space.group().count("\n")
        position = space.end()
        if position == len(text):
            return
        token = _TOKEN.match(text, position)
        if token is None:
            _refuse(
                f"{entry} line {line}: '{text[position : position + 20].splitlines()[0]}' is not understood", origin
            )
        yield Token(token.lastgroup, token.group(), line)
        position = token.end()


def _check_name(token: Token, entry: str, origin: object) -> None:
    root, *parts = token.text.split(".")
    if not parts:
        allowed = root not in _ROOTS | rules().forbidden and (not root.startswith("__") or root in _LISTS)
    elif root == "__torch__":
        hidden = [part for part in parts if part.startswith("__") and not _MANGLED.fullmatch(part)]
        allowed = parts[0] != "torch" and not hidden
    else:
        allowed = token.text in rules().operators or _CONSTANT.fullmatch(token.text) is not None
    if not allowed or len(token.text) > rules().limits["name"]:
        _refuse(f"{entry} line {token.line}: '{token.text[:60]}' is none of the operators of a closure", origin)


def _check_place(
    token: Token, before: list[Token], behind: list[Token], depth: int, entry: str, origin: object
) -> None:
    """Refuse a condition within an expression, and an argument by a name that torch might write to."""
    if token.text in ("if", "else"):
        allowed = depth == 0 and not (before and before[-1].line == token.line)
    else:
        is_argument = depth and before[-1].text in ("(", ",") and behind and behind[0].text == "="
        allowed = not is_argument or token.text in rules().arguments
    if not allowed:
        _refuse(f"{entry} line {token.line}: '{token.text[:60]}' may not stand here", origin)


def _check_mark(token: Token, before: list[Token], behind: list[Token], entry: str, origin: object) -> None:
    previous = before[-1] if before else Token("mark", ",", 0)
    if token.text == "(":
        if not _may_be_called(before):
            _refuse(f"{entry} line {token.line}: '{previous.text[:60]}' may not be called", origin)
        return
    if token.text == "-":
        is_number = bool(behind) and (behind[0].kind == "number" or behind[0].text in _NUMBERS)
        allowed = is_number and previous.text in ("(", "[", ",", ":", "=")
    else:
        allowed = (previous.text, token.text) not in (("]", "["), ("=", "="))
    if not allowed:
        _refuse(f"{entry} line {token.line}: '{token.text}' may not stand here", origin)


def _check_class(header: list[Token], name: Token, entry: str, origin: object) -> None:
    if "." in name.text or [token.text for token in header] != _CLASS_HEADER:
        _refuse(f"{entry} line {name.line}: class '{name.text[:60]}' is no module", origin)


def _may_be_called(before: list[Token]) -> bool:
    """Whether a parenthesis may follow these two tokens."""
    if not before or before[-1].kind == "mark":
        return not before or before[-1].text not in ")]"
    if before[-1].kind == "name" and before[-1].text in rules().operators | rules().callables:
        return True
    return len(before) == 2 and before[0].text in ("def", "class") and before[-1].kind == "name"


def _refuse(what: str, origin: object) -> NoReturn:
    raise ModelRefusedError(f"{origin}: {what}; do not use this file")
