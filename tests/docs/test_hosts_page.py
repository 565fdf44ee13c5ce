"""docs/hosts.md shows pieces of docs/examples as they stand there; tests/hosts builds and runs those programs."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SUFFIXES = {"c": ".c", "cpp": ".cpp", "fortran": ".f90", "python": ".py", "cmake": ".txt"}


def code_blocks() -> list[tuple[str, str]]:
    page = (DOCS / "hosts.md").read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.M | re.S)
    return [(language, text) for language, text in found if language != "bash"]


def lines(text: str) -> str:
    """The text without indentation, since a piece of a program stands at the margin of the page."""
    return "\n".join(line.strip() for line in text.strip().splitlines())


@pytest.mark.parametrize(("language", "text"), code_blocks())
def test_every_block_is_a_piece_of_an_example(language, text):
    examples = [path for path in (DOCS / "examples").iterdir() if path.suffix == SUFFIXES[language]]
    assert any(f"\n{lines(text)}\n" in f"\n{lines(path.read_text(encoding='utf-8'))}\n" for path in examples), text


def test_every_language_is_shown():
    assert {language for language, _ in code_blocks()} == set(SUFFIXES)
