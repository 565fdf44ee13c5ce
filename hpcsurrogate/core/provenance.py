"""Who made a file: version, git commit, library versions, machine and time; and digests of what it was made from."""

import functools
import hashlib
import importlib.metadata
import json
import platform
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import hpcsurrogate

LIBRARIES = ("torch", "numpy", "h5py", "mpi4py", "horovod", "safetensors", "pydantic")
PACKAGE_DIR = Path(hpcsurrogate.__file__).parent


def provenance() -> dict[str, Any]:
    """Describe the program and the machine that write a file now.

    Returns
    -------
    dict    JSON types only: version, git_commit (None outside a checkout; ends in "+changes" if the package differs
            from the commit), libraries (name -> version, None if not installed), python, host, time (UTC, ISO 8601)
    """
    return {
        "version": hpcsurrogate.__version__,
        "git_commit": git_commit(),
        "libraries": {name: library_version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def library_version(name: str) -> str | None:
    """Return the version of an installed distribution without importing it; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def git_commit() -> str | None:
    """Return the commit of the checkout this package is part of; None for an installed wheel or without git."""
    # A wheel inside the virtual environment of somebody's repository is no part of that repository: ask for our file.
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git("rev-parse", "HEAD")
    return commit + "+changes" if commit and _git("status", "--porcelain", "--", ".") else commit


@functools.cache
def source_digest() -> str:
    """SHA-256 over names and contents of the package's Python files.

    Returns
    -------
    str    64 hexadecimal digits; equal on two machines if they run the same program, whatever the version says
    """
    found = hashlib.sha256()
    for path in sorted(PACKAGE_DIR.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(PACKAGE_DIR).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(PACKAGE_DIR), *arguments]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip()


def digest(content: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `content`: sorted keys, no spaces, no NaN.

    Parameters
    ----------
    content : JSON types, or a pydantic model, or containers of both

    Returns
    -------
    str    64 hexadecimal digits; equal for equal contents on every machine (tests/unit/core/test_provenance.py)

    Raises
    ------
    TypeError, ValueError    if something is no JSON type, or a number is not finite
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_model_content)
    return hashlib.sha256(text.encode()).hexdigest()


def _model_content(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")
