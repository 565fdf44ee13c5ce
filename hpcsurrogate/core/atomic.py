"""Files that are either the old state or the new one: written under a temporary name, synced, then renamed."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpcsurrogate.core.errors import DataError

HASH_BLOCK = 1 << 20


@contextmanager
def atomic_path(final: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `final`; on success sync it and rename it to `final`, on error remove it.

    The temporary name is `.partial-<name>`: it keeps the suffix, which some writers look at, and it is always the
    same, so that what a killed process leaves behind is overwritten by the next attempt and never piles up.
    One file has one writer at a time.

    Parameters
    ----------
    final : str or Path    the file to write; its folder is created when missing

    Yields
    ------
    Path    write here; the file must exist when the block ends

    Raises
    ------
    OSError    if the disk is full or the folder cannot be written; nothing is then left under either name

    Notes
    -----
    `final` is never half-written (tests/unit/core/test_atomic.py).
    """
    final = Path(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".partial-{final.name}")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        sync_path(temporary)
        os.replace(temporary, final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_path(final.parent)


def sync_path(path: Path) -> None:
    """Bring a file, or a directory with the renames in it, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8. Raises OSError like `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json_atomic(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON.

    Raises
    ------
    ValueError    if a number is NaN or infinite: JSON has no such numbers, write None and say what it means
    TypeError     if something in `content` is no JSON type
    OSError       like `atomic_path`
    """
    write_text_atomic(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file of ours.

    Raises
    ------
    DataError    if the file is missing, is not UTF-8 or is not JSON
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing; run the stage that writes it") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); run the stage that writes it again") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, read block by block.

    Raises
    ------
    DataError    if the file is missing
    """
    checksum = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(HASH_BLOCK):
                checksum.update(block)
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing; run the stage that writes it") from None
    return checksum.hexdigest()
