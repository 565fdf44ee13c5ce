"""Training on several ranks equals training on one: same joined batches, same gradients, same decisions."""

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
        "unrolled": {
            "iterations": 20,
            "batch_size": 4,
            "snapshots": [1, 2],
            "learning_rate": 0.001,
            "spectrum_weight": 0.1,
        },
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
from hpcsurrogate.train.stop import StopRequest

paths, kind, world = RunPaths(sys.argv[1]), sys.argv[2], get_world()
experiment = Experiment.model_validate_json((paths.run_dir / "experiment.json").read_text())
settings = experiment.train.model_copy(update={"accumulate": int(sys.argv[3])})
experiment = experiment.model_copy(update={"train": settings})
statistics = Statistics.read(paths.statistics)
host = make_host(experiment.host, experiment.flow, dtype=torch.float64)
engine = make_engine(kind, world)
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
        place = f"{name}-{kind}-{world.size}-{settings.accumulate}"
        checkpoints = CheckpointStore(paths.run_dir / place, 1, "test")
        record = Record(module)
        Trainer(module, [phase], engine, world, settings, checkpoints).run(record, StopRequest())
        np.savez(paths.run_dir / f"{place}-{world.rank}.npz", lines=record.lines, **record.arrays)
"""

# The stage with a changed train section. On rank `on`, at the calls of a loss named in `at`, something happens.
STAGE = """
import json, os, signal, sys
from pathlib import Path
import torch
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.core.log import setup_logging
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.parallel.world import get_world
from hpcsurrogate.train import phases
from hpcsurrogate.train.stage import run_train

run_dir, train, event, loss_name, on, *at = sys.argv[1:]
world = get_world()
setup_logging(world.rank, world.size)
content = json.loads(Path(run_dir, "experiment.json").read_text())
content["train"] |= json.loads(train)
original, calls = getattr(phases, loss_name), []

def eventful(*arguments):
    loss = original(*arguments)
    if not loss.requires_grad or world.rank != int(on):
        return loss
    calls.append(event)
    if str(len(calls)) not in at:
        return loss
    if event == "signal":
        os.kill(os.getpid(), signal.SIGUSR1)
    if event == "alter":
        with torch.no_grad():
            next(arguments[0].parameters()).view(torch.int32)[0] ^= 1 << 20
    return loss * float("nan") if event == "nan" else loss

setattr(phases, loss_name, eventful)
try:
    run_train(Experiment.model_validate_json(json.dumps(content)), RunPaths(run_dir), world)
    print(f"rank {world.rank}: done", flush=True)
except HpcsurrogateError as error:
    print(f"rank {world.rank}: code {error.exit_code}: {error}", flush=True)
"""

EXACT = {
    "exact": True,
    "virtual_shards": 8,
    "model": {"kind": "cnn", "channels": 4, "hidden_layers": 2, "kernel_size": 3, "dropout": 0.2},
    "apriori": {"epochs": 5, "batch_size": 8, "learning_rate": 0.003},
    "unrolled": {
        "iterations": 12,
        "batch_size": 8,
        "snapshots": [1, 2],
        "learning_rate": 0.001,
        "spectrum_weight": 0.1,
    },
    "weight_average": 0.9,
    "validate_every": 4,
    "patience": 3,
}


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory):
    """Prepared data of a tiny real run, and its experiment as JSON."""
    paths = RunPaths(tmp_path_factory.mktemp("ranks"))
    (paths.run_dir / "experiment.json").write_text(json.dumps(EXPERIMENT))
    experiment = Experiment.model_validate_json(json.dumps(EXPERIMENT))
    run_simulate(experiment, paths, World())
    run_prepare(experiment, paths, World())
    shutil.rmtree(paths.raw)
    return paths.run_dir


@pytest.fixture
def new_run(prepared_dir, tmp_path):
    """`new_run(name)` -> a run directory of its own."""
    return lambda name: shutil.copytree(prepared_dir, tmp_path / name)


@pytest.fixture
def stage(mpi_process):
    """`stage(run_dir, ranks, train, event, loss, on, at)` -> what the ranks printed, and what they logged."""

    def start(run_dir, ranks, train=None, event="nothing", loss="unrolled_loss", on=0, at=()):
        arguments = (run_dir, json.dumps(train or {}), event, loss, on, *at)
        done = mpi_process(STAGE, ranks, LIMIT, arguments)
        assert done.returncode == 0, done.stderr
        return sorted(line for line in done.stdout.splitlines() if line.startswith("rank ")), done.stderr

    return start


def done_on(ranks):
    return [f"rank {rank}: done" for rank in range(ranks)]


def records(run_dir):
    """What was recorded, but for the time that it took."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_every_engine_and_any_parts_equal_one_rank_with_the_joined_batch(run_mpi, new_run):
    run_dir = new_run("run")
    for kind, ranks, parts in (("none", 1, 1), ("none", 1, 2), ("horovod", 2, 1), ("torch", 2, 2)):
        run_mpi(TWENTY_STEPS, ranks=ranks, timeout=LIMIT, arguments=(run_dir, kind, parts))
    for phase in ("apriori", "unrolled"):
        one = np.load(run_dir / f"{phase}-none-1-1-0.npz")
        assert len(one["lines"]) == 20 and np.abs(one["gradient"]).max() > 0.0
        others = {kind: np.load(run_dir / f"{phase}-{kind}.npz") for kind in (
            "none-1-2-0", "horovod-2-1-0", "horovod-2-1-1", "torch-2-2-0", "torch-2-2-1"
        )}  # fmt: skip
        for kind in ("horovod-2-1", "torch-2-2"):
            assert np.array_equal(others[f"{kind}-0"]["weights"], others[f"{kind}-1"]["weights"])
        # Sums in another order: 1e-16 a step in double precision, amplified where Adam divides by small second moments.
        for kind, other in others.items():
            for name in ("weights", "gradient", "lines"):
                np.testing.assert_allclose(
                    other[name], one[name], rtol=0, atol=1e-6 * np.abs(one[name]).max(), err_msg=f"{phase} {kind}"
                )


def test_an_exact_training_has_the_same_bits_on_any_ranks_and_engine_interrupted_or_not(stage, new_run):
    whole = new_run("whole")
    assert stage(whole, 1, EXACT | {"engine": "none"})[0] == done_on(1)
    parts = new_run("parts")
    # In the first phase on two ranks, where a rank has four parts of each of the 10 steps; then on four in the second.
    lines, _ = stage(parts, 2, EXACT, "signal", "apriori_loss", on=1, at=(14,))
    assert [line.partition(": code ")[2][:3] for line in lines] == ["75:"] * 2
    lines, _ = stage(parts, 4, EXACT | {"engine": "torch"}, "signal", "unrolled_loss", on=3, at=(7,))
    assert [line.partition(": code ")[2][:3] for line in lines] == ["75:"] * 4
    assert stage(parts, 8, EXACT)[0] == done_on(8)
    assert (parts / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert records(parts) == records(whole)


def test_nan_on_one_rank_is_left_out_by_all_and_named(stage, new_run):
    run_dir = new_run("run")
    lines, log = stage(run_dir, 2, {"engine": "torch"}, "nan", on=1, at=(8,))
    assert lines == done_on(2)
    (left_out,) = [line for line in records(run_dir) if "left_out" in line]
    assert left_out["left_out"] == "the loss is nan on rank 1" and left_out["loss"] is None
    (warning,) = [line for line in log.splitlines() if "left out" in line]
    assert f"unrolled: step {left_out['step']} is left out, 1 of 3 in a row: the loss is nan on rank 1" in warning


def test_nan_that_stays_ends_all_ranks_alike_after_the_set_number(stage, new_run):
    rules = {"on_divergence": {"skips": 1, "rollbacks": 1}}
    lines, log = stage(new_run("run"), 2, rules, "nan", on=1, at=range(8, 99))
    assert [line.partition(": ")[2] for line in lines] == [lines[0].partition(": ")[2]] * 2
    assert "code 4: train: the loss is nan on rank 1, phase unrolled, step " in lines[0]
    assert log.count("left out") == 2 and log.count("learning rate times 0.5") == 1


def test_altered_weights_of_one_rank_are_named_and_the_training_goes_back(stage, new_run):
    undisturbed, run_dir = new_run("undisturbed"), new_run("run")
    quick = {"roll_call_every": 4, "checkpoint_every": 6, "unrolled": {"iterations": 0}}
    assert stage(undisturbed, 2, quick)[0] == done_on(2)
    lines, log = stage(run_dir, 2, quick, "alter", "apriori_loss", on=1, at=(10,))
    assert lines == done_on(2)
    (warning,) = [line for line in log.splitlines() if "differ" in line]
    assert "back from step 12 to the checkpoint of step 6, 1 of 2" in warning
    assert "the weights of rank 1 on " in warning
    assert (run_dir / "weights.safetensors").read_bytes() == (undisturbed / "weights.safetensors").read_bytes()


def test_ranks_that_run_another_experiment_are_refused(mpi_process, new_run):
    run_dir = new_run("run")
    other = STAGE.replace("json.loads(train)", 'json.loads(train) | {"warm_up": 10 + (world.rank == 2)}')
    done = mpi_process(other, 3, LIMIT, (run_dir, "{}", "nothing", "unrolled_loss", 0))
    lines = [line for line in done.stdout.splitlines() if line.startswith("rank ")]
    assert len(lines) == 3
    assert all("code 2: train: the experiment differs among the ranks: rank 2 on " in line for line in lines)


def test_a_signal_to_one_rank_checkpoints_all_and_the_run_can_go_on(stage, new_run):
    run_dir = new_run("run")
    lines, _ = stage(run_dir, 2, None, "signal", on=1, at=(8,))
    assert [line.partition(": code ")[2][:3] for line in lines] == ["75:"] * 2
    lines, _ = stage(run_dir, 2)
    assert lines == done_on(2)
    assert (run_dir / "weights.safetensors").exists()
