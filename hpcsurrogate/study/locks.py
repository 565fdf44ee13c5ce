"""Locks of files, which the operating system frees when the last process that has them open ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcsurrogate.core.errors import ConfigError


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold `path` while the block runs; waits until the others have freed it.

    Raises
    ------
    ConfigError    if the file system gives no locks
    """
    descriptor = _open_and_lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def try_lock(path: Path) -> int | None:
    """Lock `path` if it is free.

    Returns
    -------
    int or None    the descriptor, whose closing frees the lock once no child process has it any more; None if another
                   process holds the lock

    Raises
    ------
    ConfigError    if the file system gives no locks
    """
    try:
        return _open_and_lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _open_and_lock(path: Path, operation: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError as error:
        os.close(descriptor)
        raise ConfigError(f"{path}: cannot be locked ({error.strerror}); put run_dir on another file system") from None
    return descriptor
