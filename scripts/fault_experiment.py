"""A small training that faults can be done to. Shared by tests/faults and scripts/fault_campaign.py."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.paths import RunPaths

# 12 short steps of the first phase and 16 of 50 to 100 ms of the second, with all that a checkpoint must hold: dropout,
# an average, early stopping, a rate that changes. Exact, so that ranks and interruptions do not change a bit.
NUM_STEPS = 28
EXPERIMENT = {
    "name": "faults",
    "ranks": 2,
    "flow": {"viscosity": 0.01, "drag": 0.1, "forcing": {"kind": "kolmogorov", "wavenumber": 2, "amplitude": 1.0}},
    "host": {"kind": "finite_volume", "grid": [16, 16], "time_step": 0.05},
    "simulate": {
        "kind": "dns",
        "grid": [32, 32],
        "realisations": 3,
        "duration": 1.6,
        "snapshot_interval": 0.1,
        "spin_up": 1.0,
        "initial_wavenumber": 3,
    },
    "prepare": {"split": {"train": [0], "validation": [1], "test": [2]}},
    "train": {
        "engine": "horovod",
        "exact": True,
        "virtual_shards": 4,
        "model": {"kind": "cnn", "channels": 8, "hidden_layers": 2, "kernel_size": 3, "dropout": 0.1},
        "apriori": {"epochs": 4, "batch_size": 8, "learning_rate": 0.003},
        "unrolled": {"iterations": 16, "batch_size": 8, "snapshots": [2, 4], "learning_rate": 0.001},
        "weight_average": 0.9,
        "warm_up": 4,
        "validate_every": 6,
        "checkpoint_every": 4,
        "roll_call_every": 4,
        "tensorboard": False,
    },
    "couple": {"duration": 0.5, "contenders": [{"name": "none", "closure": {"kind": "none"}}]},
}


@dataclass(frozen=True)
class Reference:
    """The training that nothing disturbed."""

    weights: dict[str, bytes]
    files: set[str]
    seconds: float  # to its first step


def write_experiment(directory: Path) -> Path:
    """Write the experiment file, whose run directory is `directory`/run; JSON is YAML too."""
    path = directory / "experiment.yaml"
    write_json_atomic(path, EXPERIMENT | {"run_dir": str(directory / "run")})
    return path


def prepare_run(experiment_file: Path) -> None:
    """Do the stages simulate and prepare.

    Raises
    ------
    AssertionError    if they fail
    """
    command = [sys.executable, "-m", "hpcsurrogate", "run", str(experiment_file), "--until", "prepare", "ranks=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def weights_of(run_dir: Path) -> dict[str, bytes]:
    """The bytes of every final weight of a run."""
    return {name: array.tobytes() for name, array in load_file(RunPaths(run_dir).weights).items()}


def relative_files(directory: Path) -> set[str]:
    """Names of all files of a run, folders that hold none included."""
    leaves = (path for path in directory.rglob("*") if path.is_file() or not any(path.iterdir()))
    return {path.relative_to(directory).as_posix() for path in leaves}


def is_done(run_dir: Path) -> bool:
    """Whether training has its record: started once more, it would begin anew."""
    record = RunPaths(run_dir).stages / "train.json"
    return record.exists() and read_json(record)["finished"]


def faults_of_the_end(run_dir: Path, reference: Reference) -> list[str]:
    """Say what a finished training has that differs from the undisturbed one."""
    weights, files = weights_of(run_dir), relative_files(run_dir)
    different = [name for name in reference.weights if weights.get(name) != reference.weights[name]]
    found = [f"weights differ in {', '.join(different)}"] if different else []
    found += [f"{name} was left behind" for name in sorted(files - reference.files)]
    return found + [f"{name} is missing" for name in sorted(reference.files - files)]
