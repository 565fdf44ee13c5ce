"""Compile and run programs under the MPI that this package uses: that of its environment, else the one on PATH."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpcsurrogate.parallel.launch import find_mpirun, launcher_command, launcher_environment

TIME_LIMIT = 60  # seconds


def cmake_options(language: str) -> tuple[str, ...]:
    """Return what makes CMake's FindMPI take the MPI of our mpirun; `language` is C or CXX.

    An MPI from a wheel is named by its files, since its compiler wrappers print paths that a space would break.
    """
    prefix = Path(find_mpirun()).parent.parent
    header, library = prefix / "include/mpi.h", prefix / "lib/libmpi.so"
    if header.exists() and library.exists():
        names = {f"{language}_LIB_NAMES": "mpi", "mpi_LIBRARY": library, f"{language}_HEADER_DIR": header.parent}
        # Nor is a wrapper on PATH asked: another MPI may be installed to run programs, without its headers.
        return ("-DMPI_SKIP_COMPILER_WRAPPER=ON", *(f"-DMPI_{name}={value}" for name, value in names.items()))
    wrapper = prefix / "bin" / {"C": "mpicc", "CXX": "mpicxx"}[language]
    return (f"-DMPI_{language}_COMPILER={wrapper}",)


def run(program: Sequence[object], ranks: int) -> subprocess.CompletedProcess:
    """Run a program and its arguments on MPI ranks; past the time limit all of them end and the test fails."""
    command = [*launcher_command(ranks), *map(str, program)]
    # Ranks that wait let the others run: there may be fewer cores than ranks, or other work on them.
    environment = launcher_environment(ranks) | {"OMPI_MCA_mpi_yield_when_idle": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        stdout, stderr = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        _end(process)
        stdout, stderr = process.communicate()
        pytest.fail(f"{ranks} ranks still ran after {TIME_LIMIT} s\n{stdout}\n{stderr}", pytrace=False)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _end(process: subprocess.Popen) -> None:
    """End the launcher, which ends its ranks; ranks have process groups of their own, but all are of one session."""
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == process.pid:
                os.kill(int(entry.name), signal.SIGKILL)
        except ProcessLookupError:  # ended in the meantime
            continue
