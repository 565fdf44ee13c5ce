"""Both phases of training in three dimensions, on data that the stages themselves made."""

import json

import pytest
import torch

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.prepare import run_prepare
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.models.build import load_weights
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.stage import run_train

EXPERIMENT = {
    "name": "tiny-3d",
    "run_dir": "unused",
    "flow": {"domain": [6.283185307179586] * 3, "viscosity": 0.005},
    "host": {"kind": "spectral", "grid": [8, 8, 8], "dealias": "shift", "time_step": 0.05},
    "simulate": {
        "kind": "dns",
        "grid": [24, 24, 24],
        "realisations": 3,
        "duration": 1.0,
        "snapshot_interval": 0.1,
        "spin_up": 1.0,
        "initial_wavenumber": 2,
    },
    "prepare": {"filter": {"kind": "sharp"}, "split": {"train": [0], "validation": [1], "test": [2]}},
    "train": {
        "engine": "none",
        "model": {"kind": "damping", "knots": 6},
        "apriori": {
            "target": "sgs_force",
            "epochs": 8,
            "batch_size": 4,
            "learning_rate": 0.05,
            "augmentation": {"rotations": True, "reflections": True, "translations": True},
        },
        "unrolled": {"iterations": 20, "batch_size": 2, "snapshots": [2, 4], "learning_rate": 0.02},
        "validate_every": 5,
        "tensorboard": False,
    },
    "couple": {"duration": 1.0, "contenders": [{"name": "none", "closure": {"kind": "none"}}]},
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    paths = RunPaths(tmp_path_factory.mktemp("tiny-3d"))
    experiment = Experiment.model_validate_json(json.dumps(EXPERIMENT))
    run_simulate(experiment, paths, World())
    run_prepare(experiment, paths, World())
    return paths


@pytest.mark.parametrize(
    "unrolled", [{}, {"recompute": True, "back_propagation": 2}], ids=["kept", "recomputed and truncated"]
)
def test_a_damping_is_trained_in_three_dimensions(paths, tmp_path, unrolled):
    sections = EXPERIMENT | {"train": EXPERIMENT["train"] | {"unrolled": EXPERIMENT["train"]["unrolled"] | unrolled}}
    experiment = Experiment.model_validate_json(json.dumps(sections))
    run = RunPaths(tmp_path)
    run.run_dir.mkdir(exist_ok=True)
    run.prepared.symlink_to(paths.prepared)
    run_train(experiment, run, World())
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    losses = {
        phase: [r["validation_loss"] for r in records if r["phase"] == phase and "validation_loss" in r]
        for phase in ("apriori", "unrolled")
    }
    # 1 is the host without a closure, which piles up what viscosity takes away on the fine grid.
    assert losses["apriori"][-1] < losses["apriori"][0] and losses["unrolled"][-1] < 0.9
    along_x = torch.tensor([0.0, 1.0])
    rates = load_weights(experiment, run).rates([along_x, 0 * along_x, 0 * along_x])
    assert rates[0] == 0 and rates[1] > 0
