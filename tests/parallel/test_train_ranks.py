"""Training on two ranks equals training on one: same joined batches, same gradients, same decisions."""

import json
import shutil

import numpy as np
import pytest

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.prepare import run_prepare
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.parallel.world import World

LIMIT = 100  # seconds for a launch that takes about 5 on two idle cores

EXPERIMENT = {
    "name": "ranks",
    "run_dir": "unused",
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
        "model": {"kind": "quadratic_stencil", "channels": 1},
        "apriori": {"epochs": 5, "batch_size": 4, "learning_rate": 0.003},
        "unrolled": {"iterations": 20, "batch_size": 4, "snapshots": [1, 2], "learning_rate": 0.001},
        "validate_every": 7,
        "checkpoint_every": 1000,
        "patience": 1000,
        "tensorboard": False,
    },
    "couple": {"duration": 1.0, "contenders": [{"name": "none", "closure": {"kind": "none"}}]},
}

# Twenty steps of each phase in double precision; every rank leaves its weights, losses and last gradient.
TWENTY_STEPS = """
import sys
from pathlib import Path
import numpy as np, torch
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.statistics import Statistics
from hpcsurrogate.models.build import build_model
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import get_world
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.train.checkpoint import CheckpointStore
from hpcsurrogate.train.loop import Trainer
from hpcsurrogate.train.phases import AprioriPhase, UnrolledPhase
from hpcsurrogate.train.stage import open_data

paths, world = RunPaths(sys.argv[1]), get_world()
experiment = Experiment.model_validate_json((paths.run_dir / "experiment.json").read_text())
statistics = Statistics.read(paths.statistics)
host = make_host(experiment.host, experiment.flow, dtype=torch.float64)
engine = make_engine("horovod" if world.size > 1 else "none", world)
flat = lambda tensors: np.concatenate([tensor.detach().numpy().ravel() for tensor in tensors])

class Record:
    def __init__(self, module):
        self.module, self.lines = module, []

    def write(self, line):
        self.lines.append([line["loss"], line.get("validation_loss", 0.0), line["gradient_norm"]])
        if line["step"] == 20:
            parameters = list(self.module.parameters())
            self.arrays = {"weights": flat(parameters), "gradient": flat(p.grad for p in parameters)}

with open_data(experiment, paths, world) as data:
    for name in ("apriori", "unrolled"):
        torch.manual_seed(world.rank)  # rank 0's weights must reach the others
        module = build_model(experiment.train.model, experiment.host, experiment.flow, statistics).double()
        arguments = (statistics.commutator_rms,) if name == "apriori" else ()
        phase = {"apriori": AprioriPhase, "unrolled": UnrolledPhase}[name](experiment, data, world, host, *arguments)
        phase.num_iterations = 20
        checkpoints = CheckpointStore(paths.run_dir / f"{name}-{world.size}", 1, "test")
        record = Record(module)
        Trainer(module, [phase], engine, world, experiment.train, checkpoints).run(record)
        np.savez(paths.run_dir / f"{name}-{world.size}-{world.rank}.npz", lines=record.lines, **record.arrays)
"""

STAGE = """
import os, signal, sys
from pathlib import Path
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.parallel.world import get_world
from hpcsurrogate.train import phases
from hpcsurrogate.train.stage import run_train

run_dir, event = sys.argv[1:3]
world = get_world()
experiment = Experiment.model_validate_json(Path(run_dir, "experiment.json").read_text())
original, calls = phases.unrolled_loss, []

def eventful(*arguments):
    calls.append(event)
    loss = original(*arguments)
    if len(calls) == 8 and world.rank == 1 and event == "nan":
        return loss * float("nan")
    if len(calls) == 8 and world.rank == 1 and event == "signal":
        os.kill(os.getpid(), signal.SIGUSR1)
    return loss

phases.unrolled_loss = eventful
try:
    run_train(experiment, RunPaths(run_dir), world)
    print(f"rank {world.rank}: done", flush=True)
except HpcsurrogateError as error:
    print(f"rank {world.rank}: code {error.exit_code}: {error}", flush=True)
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """Prepared data of a tiny real run, and its experiment as JSON."""
    paths = RunPaths(tmp_path_factory.mktemp("ranks"))
    (paths.run_dir / "experiment.json").write_text(json.dumps(EXPERIMENT))
    experiment = Experiment.model_validate_json(json.dumps(EXPERIMENT))
    run_simulate(experiment, paths, World())
    run_prepare(experiment, paths, World())
    return paths.run_dir


def test_twenty_steps_on_two_ranks_equal_one_rank_with_the_joined_batch(run_mpi, run_dir):
    for ranks in (1, 2):
        run_mpi(TWENTY_STEPS, ranks=ranks, timeout=LIMIT, arguments=(run_dir,))
    for phase in ("apriori", "unrolled"):
        one, first, second = (np.load(run_dir / f"{phase}-{rank}.npz") for rank in ("1-0", "2-0", "2-1"))
        assert np.array_equal(first["weights"], second["weights"])
        assert len(one["lines"]) == 20 and np.abs(one["gradient"]).max() > 0.0
        # Sums in another order: 1e-16 a step in double precision, amplified where Adam divides by small second moments.
        for name in ("weights", "gradient", "lines"):
            np.testing.assert_allclose(
                first[name], one[name], rtol=0, atol=1e-6 * np.abs(one[name]).max(), err_msg=phase
            )


def test_a_number_that_is_none_on_one_rank_ends_all_ranks_alike(run_mpi, run_dir):
    lines = run_mpi(STAGE, timeout=LIMIT, arguments=(run_dir, "nan")).splitlines()
    for rank in (0, 1):
        assert any(line.startswith(f"rank {rank}: code 4: ") and "on rank 1, phase unrolled" in line for line in lines)


def test_a_signal_to_one_rank_checkpoints_all_and_the_run_can_go_on(run_mpi, run_dir):
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
    lines = run_mpi(STAGE, timeout=LIMIT, arguments=(run_dir, "signal")).splitlines()
    for rank in (0, 1):
        assert any(line.startswith(f"rank {rank}: code 75: ") for line in lines)
    lines = run_mpi(STAGE, timeout=LIMIT, arguments=(run_dir, "go on")).splitlines()
    assert {"rank 0: done", "rank 1: done"} <= set(lines)
    assert (run_dir / "weights.safetensors").exists()
