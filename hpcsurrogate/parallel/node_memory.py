"""How much memory this node still has for us: by the kernel, its control groups and its shared-memory directory."""

import os
import shutil
from pathlib import Path

from hpcsurrogate.core.errors import ConfigError, DataError

ROOT = Path("/")
MEBIBYTE = 2**20
REMEDY = "set `train.store: stream`, which reads from the files"
# Where Open MPI takes another directory than its default from.
_DIRECTORY_VARIABLE = "OMPI_MCA_osc_sm_backing_directory"
# Of a control group: file of the limit, file of what is taken, key in memory.stat of the cache that can be dropped.
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")


def free_memory(root: Path = ROOT) -> int:
    """Memory this process may still take [bytes]: the kernel's estimate or what its control groups leave, if less.

    Parameters
    ----------
    root : Path    where /proc and /sys lie; tests bring their own

    Raises
    ------
    DataError    if the kernel does not say how much memory is available

    Notes
    -----
    Limits of both versions of control groups count, those of enclosing groups too; the page cache within a group does
    not count as taken, it can be dropped (tests/unit/parallel/test_node_memory.py).
    """
    free = _available(root / "proc/meminfo")
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            free = min(free, _group_room(root / "sys/fs/cgroup/memory", group, _VERSION_1))
        elif number == "0":
            free = min(free, _group_room(root / "sys/fs/cgroup", group, _VERSION_2))
    return max(free, 0)


def shared_room() -> int:
    """Room in the directory where Open MPI puts memory that ranks of a node share [bytes]."""
    return shutil.disk_usage(_shared_directory()).free


def require_shared_room(num_bytes: int) -> None:
    """Raise ConfigError if there is no room for shared memory: writing beyond it would kill the process (SIGBUS)."""
    room = shared_room()
    if num_bytes > room:
        raise ConfigError(
            f"{_shared_directory()}: {num_bytes // MEBIBYTE} MiB of shared memory wanted, {room // MEBIBYTE} MiB free; "
            f"enlarge it (mount -o remount,size=..., docker --shm-size) or {REMEDY}"
        )


def _shared_directory() -> str:
    return os.environ.get(_DIRECTORY_VARIABLE, "/dev/shm")


def _available(path: Path) -> int:
    for line in _read(path).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise DataError(f"{path}: no MemAvailable, so free memory is unknown; {REMEDY}")


def _group_room(mount: Path, group: str, names: tuple[str, str, str]) -> int:
    """The least room that a control group and those around it leave; in a container the path may not exist."""
    limit_name, usage_name, cache_name = names
    room = 2**63
    directory = mount / group.strip("/")
    for place in (directory, *directory.parents):
        limit = _read(place / limit_name).strip()
        if limit.isdecimal():
            statistics = dict(line.split() for line in _read(place / "memory.stat").splitlines())
            taken = int(_read(place / usage_name) or 0) - int(statistics.get(cache_name, 0))
            room = min(room, int(limit) - taken)
        if place == mount:
            break
    return room


def _read(path: Path) -> str:
    """Text of a file of the kernel's, empty if this kernel or container has none."""
    try:
        return path.read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""
