"""Versions and coherence of what the program stands on; each line is ok, a warning, or an error with its remedy.

MPI and Horovod are probed in processes of their own: loading a broken one may end the process, and only the room
`parallel` imports them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.provenance import library_version
from hpcsurrogate.parallel.launch import find_mpirun, launcher_command, launcher_environment

PROBE_SECONDS = 120

MPI_PROBE = """
import json
from mpi4py import MPI
print(json.dumps({"library": MPI.Get_library_version().split(chr(0))[0], "size": MPI.COMM_WORLD.size}))
"""

HOROVOD_PROBE = """
import json
import torch
import horovod.torch as hvd
hvd.init()
built = {"mpi_built": bool(hvd.mpi_built()), "nccl_built": bool(hvd.nccl_built())}
print(json.dumps({**built, "torch": torch.__version__}))
"""


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis: `error` keeps some stage from working, `warning` does not."""

    status: Literal["ok", "warning", "error"]
    part: str
    message: str


def diagnose() -> Iterator[Finding]:
    """Look at every part in turn; the slow probes take a few seconds each."""
    yield _python()
    yield from _mpi()
    yield _horovod()
    yield from _torch_and_gpu()
    yield _hdf5()
    yield _compiler()
    yield _slurm()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("ok", "Python", f"{version} at {sys.executable}")


def _probe(command: list[str], environment: dict[str, str] | None = None) -> tuple[Any, str]:
    """Run a command that prints one JSON object; return it, or None and the last line of what went wrong."""
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        return None, f"no answer in {PROBE_SECONDS} s"
    lines = [line for line in finished.stdout.splitlines() if line.startswith("{")]
    if finished.returncode or not lines:
        complaints = [line for line in (finished.stderr + finished.stdout).splitlines() if line.strip(" -")]
        return None, complaints[-1].strip() if complaints else f"exit code {finished.returncode}"
    return json.loads(lines[-1]), ""


def _mpi() -> Iterator[Finding]:
    try:
        mpirun = find_mpirun()
    except ConfigError as error:
        yield Finding("error", "MPI", str(error))
        return
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False).stdout
    first_line = version.splitlines()[0] if version else "version unknown"
    yield Finding("ok", "MPI", f"{first_line} at {mpirun}")
    installed = library_version("mpi4py")
    if installed is None:
        yield Finding(
            "error", "mpi4py", "not installed; `make install`, or `pip install mpi4py` with your mpicc on PATH"
        )
        return
    probe, problem = _probe([*launcher_command(2), sys.executable, "-c", MPI_PROBE], launcher_environment(2))
    yield _mpi4py(installed, first_line, probe, problem)


def _mpi4py(installed: str, mpirun_version: str, probe: Any, problem: str) -> Finding:
    remedy = "rebuild it with the mpicc beside this mpirun: pip install --force-reinstall --no-binary mpi4py mpi4py"
    if probe is None:
        return Finding("error", "mpi4py", f"{installed} does not run under mpirun ({problem}); {remedy}")
    library = probe["library"].split(",")[0].strip()
    if probe["size"] != 2:
        return Finding("error", "mpi4py", f"{installed} loads {library}, and 2 ranks see {probe['size']}; {remedy}")
    numbers = [re.search(r"\d+\.\d+", text) for text in (library, mpirun_version)]
    if all(numbers) and numbers[0].group() != numbers[1].group():
        return Finding("warning", "mpi4py", f"{installed} loads {library}, mpirun is {mpirun_version}; {remedy}")
    return Finding("ok", "mpi4py", f"{installed} loads {library}; 2 ranks see each other")


def _horovod() -> Finding:
    installed = library_version("horovod")
    alone = "`make install` builds it; without it set `ranks: 1` and `train.engine: none`"
    if installed is None:
        return Finding("warning", "Horovod", f"not installed; {alone}")
    probe, problem = _probe([sys.executable, "-c", HOROVOD_PROBE], launcher_environment(1))
    if probe is None:
        return Finding(
            "error", "Horovod", f"{installed} cannot be loaded ({problem}); build it for this torch: {alone}"
        )
    if not probe["mpi_built"]:
        return Finding("error", "Horovod", f"{installed} has no MPI; build it with HOROVOD_WITH_MPI=1: {alone}")
    nccl = ", NCCL" if probe["nccl_built"] else ""
    return Finding("ok", "Horovod", f"{installed} for torch {probe['torch']}, with MPI{nccl}")


def _torch_and_gpu() -> Iterator[Finding]:
    installed = library_version("torch")
    if installed is None:
        yield Finding("error", "torch", "not installed; `make install`, or `pip install torch`")
        return
    import torch

    yield Finding("ok", "torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        yield Finding("ok", "GPU", "none that torch can use; keep `device: cpu`")
        return
    names = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    yield Finding("ok", "GPU", f"{torch.cuda.device_count()} x {', '.join(sorted(names))}, CUDA {torch.version.cuda}")
    if re.search(r"USE_NCCL=(1|ON)", torch.__config__.show()):
        yield Finding("ok", "NCCL", ".".join(map(str, torch.cuda.nccl.version())))
    else:
        yield Finding("warning", "NCCL", "not in this torch; several GPUs will exchange through host memory")


def _hdf5() -> Finding:
    if library_version("h5py") is None:
        return Finding("error", "HDF5", "h5py is not installed; `make install`, or `pip install h5py`")
    import h5py

    return Finding("ok", "HDF5", f"{h5py.version.hdf5_version} in h5py {h5py.__version__}")


def _compiler() -> Finding:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler or not shutil.which(compiler):
        return Finding("warning", "compiler", "no C++ compiler; Horovod and the C++ host need one: apt-get install g++")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    return Finding("ok", "compiler", version.splitlines()[0] if version else compiler)


def _slurm() -> Finding:
    srun = shutil.which("srun")
    if srun is None:
        return Finding("ok", "SLURM", "not here; `hpcsurrogate run` starts ranks with mpirun")
    version = subprocess.run([srun, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    kinds = subprocess.run([srun, "--mpi=list"], capture_output=True, text=True, check=False)
    if "pmix" not in kinds.stdout + kinds.stderr:
        return Finding("warning", "SLURM", f"{version} without PMIx; srun --mpi=pmix will fail: ask for the plugin")
    inside = ", inside an allocation" if "SLURM_JOB_ID" in os.environ else ""
    return Finding("ok", "SLURM", f"{version} with PMIx{inside}")
