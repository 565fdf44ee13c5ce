"""The real LAMMPS, for tests of what it writes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FLUID = """
units lj
atom_style atomic
lattice fcc 0.8442
region box prism 0 4 0 4 0 4 {tilt}
create_box 1 box
create_atoms 1 box
mass 1 1.0
velocity all create 1.44 12345
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0
timestep 0.005
fix move all nve
"""


def require_lammps() -> None:
    """Skip if there is no LAMMPS here; where CI is set that is a failure."""
    if shutil.which("lmp"):
        return
    reason = "no LAMMPS here; apt-get install lammps"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def run_lammps(folder: Path, deck: str) -> Path:
    """Run a deck in a folder and return the log."""
    require_lammps()
    (folder / "in.deck").write_text(deck)
    command = ["lmp", "-in", "in.deck", "-log", "log.lammps", "-screen", "none"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (folder / "log.lammps").read_text()[-500:]
    return folder / "log.lammps"
