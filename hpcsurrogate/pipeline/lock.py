"""One command at a time in a run directory."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.paths import RunPaths


@contextmanager
def run_lock(paths: RunPaths) -> Iterator[None]:
    """Hold the run directory while the block runs.

    The operating system frees the lock when the process ends, however it ends, so a killed run blocks nobody.

    Raises
    ------
    ConfigError    if another process holds it (its number and host are named), or if the file system gives no locks
    """
    paths.run_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, paths)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, paths: RunPaths) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 200).decode(errors="replace") or "another process"
        raise ConfigError(f"{paths.run_dir}: {holder} is working here; wait for it, or set another run_dir") from None
    except OSError as error:
        raise ConfigError(
            f"{paths.lock}: cannot be locked ({error.strerror}); put run_dir on another file system"
        ) from None
