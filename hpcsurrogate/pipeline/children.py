"""Programs of others that a stage runs: LAMMPS, OpenFOAM. They must not take themselves for ranks of ours."""

import functools
import os
import signal
import subprocess
from typing import Any

from hpcsurrogate.parallel.guard import die_with_parent

# What a launcher tells its ranks; a program that is linked with MPI would take itself for one of them.
LAUNCHER_VARIABLES = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "SLURM_")
KEPT = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")  # the user's, for an mpirun of the program's own


def child_settings(number: signal.Signals) -> dict[str, Any]:
    """Return arguments of `subprocess` for a program that gets the signal `number` when this process ends."""
    environment = {
        name: value for name, value in os.environ.items() if name in KEPT or not name.startswith(LAUNCHER_VARIABLES)
    }
    return {
        "env": environment,
        "stdin": subprocess.DEVNULL,
        "text": True,
        "errors": "replace",
        "preexec_fn": functools.partial(die_with_parent, os.getpid(), number),
    }
