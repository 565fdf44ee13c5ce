"""Build the native library and programs against it, as a user would: CMake and find_package(hpcsurrogate).

Shared by tests/hosts, tests/faults and scripts/bench_embed.py. What was built stays in the user's cache folder, where
the next call finds it; make knows what a change of the sources makes stale. Removing the folder is safe.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

TREE = Path(__file__).resolve().parents[1]
LIBRARY_PROJECT = TREE / "tests/hosts/library"

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
    """Return the folder that holds libhpcsurrogate.so, built now if it is not there or stale.

    Parameters
    ----------
    sanitizer : str, optional    a key of `SANITIZERS`

    Raises
    ------
    RuntimeError    if it does not configure or compile; the message holds what CMake or the compiler said
    """
    return _build(LIBRARY_PROJECT, "hpcsurrogate", sanitizer, _flags(sanitizer, "CXX"))


def build_host(source_dir: Path, target: str, *options: str, sanitizer: str | None = None) -> Path:
    """Build a CMake project that calls find_package(hpcsurrogate) against the library of `native_build`.

    Parameters
    ----------
    source_dir : Path            holds CMakeLists.txt
    target : str                 the program to build
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
    return _build(source_dir, target, sanitizer, options) / target


def cmake_prefix_path() -> str:
    """Return what `hpcsurrogate cmake-dir` prints."""
    command = [sys.executable, "-m", "hpcsurrogate", "cmake-dir"]
    return _output(command, TREE).strip()


def _flags(sanitizer: str | None, *languages: str) -> tuple[str, ...]:
    if sanitizer is None:
        return ()
    return (*(f"-DCMAKE_{language}_FLAGS={SANITIZERS[sanitizer]}" for language in languages), "-DCMAKE_BUILD_TYPE=None")


def _build(source_dir: Path, target: str, sanitizer: str | None, options: tuple[str, ...]) -> Path:
    """Configure and build; a session beside this one waits for the same folder."""
    source_dir = source_dir.resolve()
    name = hashlib.sha256(" ".join([str(source_dir), *options]).encode()).hexdigest()[:12]
    build_dir = cache_folder() / f"{source_dir.name}-{sanitizer or 'release'}-{name}"
    build_dir.mkdir(parents=True, exist_ok=True)
    with _locked(build_dir.with_suffix(".lock")):
        if not (build_dir / "Makefile").is_file():
            prefix = f"-DCMAKE_PREFIX_PATH={cmake_prefix_path()}"
            defaults = ("-G", "Unix Makefiles", "-DCMAKE_BUILD_TYPE=Release", prefix)
            _output(["cmake", "-S", str(source_dir), "-B", str(build_dir), *defaults, *options], source_dir)
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", "2")
        _output(["cmake", "--build", str(build_dir), "--target", target, "--parallel", jobs], source_dir)
    return build_dir


@contextmanager
def _locked(path: Path) -> Iterator[None]:
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
