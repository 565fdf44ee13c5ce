"""What holds for every test: the package of this tree, one thread, no launcher's variables."""

import os
from pathlib import Path

# Before torch is imported: with more threads than cores left, ranks and small tensors wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
# Processes that tests start import the package under test, installed or not.
_TREE = str(Path(__file__).resolve().parents[1])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_TREE, os.environ.get("PYTHONPATH")]))

from tests.slurm_daemons import slurm  # noqa: E402, F401  a fixture of several folders
