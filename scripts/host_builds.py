"""Build the native library and programs against it, as a user would: CMake and find_package(hpcsurrogate).

Shared by tests/hosts, tests/faults and scripts/bench_embed.py. What was built stays in the user's cache folder under a
digest of its sources, where the next call finds it: a session that runs it is not disturbed by one that has changed the
sources. Removing the folder is safe.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

TREE = Path(__file__).resolve().parents[1]
LIBRARY_PROJECT = TREE / "tests/hosts/library"
NATIVE = TREE / "hpcsurrogate/embed/native"
UNUSED = 7 * 24 * 3600  # [s] after which a build of sources that have changed since is removed

# Flags of a build under a sanitizer. An error ends the program, so that no test can overlook it.
SANITIZERS = {
    "address": "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g1",
    "thread": "-fsanitize=thread -fno-omit-frame-pointer -O1 -g1",
}


def cache_folder() -> Path:
    """Return where builds of this tree against this torch are kept."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    versions = f"{TREE} {torch.__version__} {Path(torch.__file__).parent} {sys.version_info[:2]}"
    return root / "hpcsurrogate" / f"hosts-{hashlib.sha256(versions.encode()).hexdigest()[:12]}"


def native_build(sanitizer: str | None = None) -> Path:
    """Return the folder that holds libhpcsurrogate.so, built now if it is not there.

    Parameters
    ----------
    sanitizer : str, optional    a key of `SANITIZERS`

    Raises
    ------
    RuntimeError    if it does not configure or compile; the message holds what CMake or the compiler said
    """
    return _build(LIBRARY_PROJECT, sanitizer, _flags(sanitizer, "CXX"))


def build_host(source_dir: Path, target: str, *options: str, sanitizer: str | None = None) -> Path:
    """Build a CMake project that calls find_package(hpcsurrogate) against the library of `native_build`.

    Parameters
    ----------
    source_dir : Path            holds CMakeLists.txt
    target : str                 the program of it to return; all are built
    *options : str               for CMake, such as -DNAME=VALUE
    sanitizer : str, optional    a key of `SANITIZERS`

    Returns
    -------
    Path    the program

    Raises
    ------
    RuntimeError    if it does not configure or compile; the message holds what CMake or the compiler said
    """
    library = native_build(sanitizer) / "libhpcsurrogate.so"
    options += (f"-Dhpcsurrogate_LIBRARY={library}", *_flags(sanitizer, "CXX", "C"))
    return _build(source_dir, sanitizer, options) / target


def cmake_prefix_path() -> str:
    """Return what `hpcsurrogate cmake-dir` prints."""
    command = [sys.executable, "-m", "hpcsurrogate", "cmake-dir"]
    return _output(command, TREE).strip()


def _flags(sanitizer: str | None, *languages: str) -> tuple[str, ...]:
    if sanitizer is None:
        return ()
    return (*(f"-DCMAKE_{language}_FLAGS={SANITIZERS[sanitizer]}" for language in languages), "-DCMAKE_BUILD_TYPE=None")


def _build(source_dir: Path, sanitizer: str | None, options: tuple[str, ...]) -> Path:
    """Configure and build, in a folder that gets its name when it is whole; a session beside this one waits for it."""
    source_dir = source_dir.resolve()
    project = f"{source_dir.name}-{sanitizer or 'release'}"
    digest = _digest(source_dir, *options)
    build_dir = cache_folder() / f"{project}-{digest}"
    build_dir.parent.mkdir(parents=True, exist_ok=True)
    with locked(build_dir.with_name(f"{project}.lock")):
        if build_dir.is_dir():
            os.utime(build_dir)
            return build_dir
        part = build_dir.with_name(f"{project}.part")
        shutil.rmtree(part, ignore_errors=True)  # of a session that was killed
        prefix = f"-DCMAKE_PREFIX_PATH={cmake_prefix_path()}"
        defaults = ("-G", "Unix Makefiles", "-DCMAKE_BUILD_TYPE=Release", prefix)
        _output(["cmake", "-S", str(source_dir), "-B", str(part), *defaults, *options], source_dir)
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", "2")
        _output(["cmake", "--build", str(part), "--parallel", jobs], source_dir)
        if _digest(source_dir, *options) != digest:
            raise RuntimeError(f"{source_dir}: sources were changed while they were compiled; run again")
        part.rename(build_dir)
        for old in build_dir.parent.glob(f"{project}-*"):
            if time.time() - old.stat().st_mtime > UNUSED:
                shutil.rmtree(old, ignore_errors=True)
    return build_dir


def _digest(source_dir: Path, *words: str) -> str:
    """Of all that a build is made from: the project's files, the native sources and the options."""
    content = hashlib.sha256("\0".join([str(source_dir), *words]).encode())
    # The model for OpenFOAM is no part of the library, but a project that is built against it.
    library = [path for path in NATIVE.rglob("*") if NATIVE / "openfoam" not in path.parents]
    for files in (source_dir.rglob("*"), library):
        for file in sorted(path for path in files if path.is_file()):
            content.update(f"\0{file}\0".encode() + file.read_bytes())
    return content.hexdigest()[:12]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes that come with the same path waiting."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _output(command: list[str], directory: Path) -> str:
    """What a command printed; on failure all of it is in the message."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TREE), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}")
    return done.stdout
