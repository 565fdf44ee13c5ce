"""A real, tiny run: DNS at 32 x 32, prepared for a 16 x 16 finite-volume host, ready to be trained on."""

import json
import shutil

import pytest

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.prepare import run_prepare
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.parallel.world import World

EXPERIMENT = {
    "name": "tiny",
    "run_dir": "unused",
    "flow": {"viscosity": 0.01, "drag": 0.1, "forcing": {"kind": "kolmogorov", "wavenumber": 2, "amplitude": 1.0}},
    "host": {"kind": "finite_volume", "grid": [16, 16], "time_step": 0.05},
    "simulate": {
        "kind": "dns",
        "grid": [32, 32],
        "realisations": 3,
        "duration": 1.5,
        "snapshot_interval": 0.1,
        "spin_up": 1.0,
        "initial_wavenumber": 3,
    },
    "prepare": {"split": {"train": [0], "validation": [1], "test": [2]}},
    "train": {
        "engine": "none",
        "model": {"kind": "cnn", "channels": 4, "hidden_layers": 1, "kernel_size": 3},
        "apriori": {"epochs": 5, "batch_size": 4, "learning_rate": 0.01},
        "unrolled": {"iterations": 12, "batch_size": 4, "snapshots": [1, 2], "learning_rate": 0.003},
        "validate_every": 5,
        "checkpoint_every": 6,
        "tensorboard": False,
    },
    "couple": {"duration": 1.0, "contenders": [{"name": "none", "closure": {"kind": "none"}}]},
}


def read_experiment(train=None) -> Experiment:
    """The experiment with some keys of its train section replaced."""
    return Experiment.model_validate_json(json.dumps(EXPERIMENT | {"train": EXPERIMENT["train"] | (train or {})}))


@pytest.fixture(scope="session")
def prepared_dir(tmp_path_factory):
    """The prepared folder, made once by the stages themselves."""
    paths = RunPaths(tmp_path_factory.mktemp("tiny"))
    run_simulate(read_experiment(), paths, World())
    run_prepare(read_experiment(), paths, World())
    return paths.prepared


@pytest.fixture
def make_run(prepared_dir, tmp_path):
    """`make_run(name, **train)` -> (experiment, paths) of a new run directory that holds the prepared data."""

    def make(name="run", **train):
        paths = RunPaths(tmp_path / name)
        shutil.copytree(prepared_dir, paths.prepared, dirs_exist_ok=True)
        return read_experiment(train), paths

    return make
