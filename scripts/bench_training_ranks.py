"""The ranks of bench_training.py: the program's own training loop and a plain torch loop take turns in one process.

Started by bench_training.py under mpirun. Every turn does the same number of steps with the same number of samples:

    ours      Trainer.run as in the stage train: batches from the store, engine, roll call, metrics, no checkpoint
    saving    the same, and one checkpoint; the turn ends when it is on the disk
    plain     the same network, loss and AdamW, batches in memory, no word to other ranks

On several ranks the plain loops run at the same time, each alone: what the machine gives to independent processes.
"""

import copy
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.memory import keep_freed_memory
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.data.statistics import Statistics
from hpcsurrogate.models.build import build_model
from hpcsurrogate.parallel.engine import clip_gradients, make_engine
from hpcsurrogate.parallel.world import World, get_world
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.train.checkpoint import Checkpoint, CheckpointStore
from hpcsurrogate.train.loop import Trainer
from hpcsurrogate.train.metrics_log import MetricsLog
from hpcsurrogate.train.phases import AprioriPhase, Phase, UnrolledPhase
from hpcsurrogate.train.stage import open_data
from hpcsurrogate.train.stop import StopRequest

NAMES = ("ours", "saving", "plain")


class PlainLoop:
    """What a researcher would write: batches in memory, loss, backward, clip, AdamW."""

    def __init__(self, module: nn.Module, phase: Phase, steps: int, max_norm: float) -> None:
        self._module, self._phase, self._max_norm = copy.deepcopy(module), phase, max_norm
        self._optimizer = torch.optim.AdamW(self._module.parameters(), lr=phase.learning_rate, weight_decay=0.0)
        with closing(phase.batches(0)) as batches:
            self._batches = [
                {name: values.clone() for name, values in batch.items()} for _, _, batch in islice(batches, steps)
            ]

    def turn(self) -> None:
        for batch in self._batches:
            self._optimizer.zero_grad()
            self._phase.loss(self._module, batch).backward()
            clip_gradients(self._module.parameters(), self._max_norm)
            self._optimizer.step()


class SwitchedStore(CheckpointStore):
    """Saves only while it is switched on."""

    is_on = True

    def save(self, checkpoint: Checkpoint) -> None:
        if self.is_on:
            super().save(checkpoint)


class Turns:
    """Stands where the trainer's MetricsLog stands, hears of every step, and lets the contestants take turns.

    Parameters
    ----------
    world : World
    log : MetricsLog or None    on rank 0, that ours has to write as always
    store : SwitchedStore
    plain : PlainLoop
    steps : int                 of a turn; the trainer checkpoints at the beginning of every turn
    """

    def __init__(
        self, world: World, log: MetricsLog | None, store: SwitchedStore, plain: PlainLoop, steps: int
    ) -> None:
        self._world, self._log, self._store, self._plain, self._steps = world, log, store, plain, steps
        self.seconds: dict[str, list[float]] = {name: [] for name in NAMES}
        self._count, self._current, self._began = 0, "ours", time.perf_counter()

    def write(self, record: dict) -> None:
        """A step of ours was done."""
        if self._log is not None:
            self._log.write(record)
        self._count += 1
        if self._count % self._steps:
            return
        self._store.wait()
        self.seconds[self._current].append(time.perf_counter() - self._began)
        if self._current == "saving":
            self._world.barrier()
            began = time.perf_counter()
            self._plain.turn()
            self.seconds["plain"].append(time.perf_counter() - began)
        self._current = "ours" if self._current == "saving" else "saving"
        self._store.is_on = self._current == "saving"
        self._world.barrier()
        self._began = time.perf_counter()


def measure(world: World, experiment: Experiment, name: str, steps: int, rounds: int) -> dict[str, list[float]]:
    """Contestant -> seconds of its turn in every round, after one round to warm up.

    Of ours the slowest rank counts; of the plain loops, which are independent, the mean.
    """
    paths, settings = RunPaths(experiment.run_dir), experiment.train
    statistics = Statistics.read(paths.statistics)
    torch.manual_seed(experiment.seed)
    module = build_model(settings.model, experiment.host, experiment.flow, statistics)
    host = make_host(experiment.host, experiment.flow, dtype=torch.float32)
    engine = make_engine(settings.engine, world)
    with tempfile.TemporaryDirectory(dir=paths.run_dir) as folder, open_data(experiment, paths, world) as data:
        if name == "apriori":
            phase: Phase = AprioriPhase(experiment, data, world, host, statistics.commutator_rms)
        else:
            phase = UnrolledPhase(experiment, data, world, host)
            phase.prepare()  # the plain loop needs it too
        # One long phase, and no validation in between.
        phase.num_iterations = phase.validate_every = 2 * steps * (rounds + 1)
        store = SwitchedStore(Path(folder) / "checkpoints", settings.keep_checkpoints, "bench")
        trainer = Trainer(module, [phase], engine, world, settings, store, experiment.seed)
        log = MetricsLog(Path(folder) / "metrics.jsonl", None, 0) if world.rank == 0 else None
        turns = Turns(world, log, store, PlainLoop(module, phase, steps, settings.gradient_clip), steps)
        with closing(store), StopRequest() as stop:
            trainer.run(turns, stop)
        world.barrier()
    engine.close()
    of_ranks = world.allgather(turns.seconds)
    return {
        turn: [_joined(turn, values) for values in zip(*(seconds[turn] for seconds in of_ranks), strict=True)][1:]
        for turn in NAMES
    }


def _joined(turn: str, seconds: Sequence[float]) -> float:
    return sum(seconds) / len(seconds) if turn == "plain" else max(seconds)


def main(settings_file: str, result_file: str) -> None:
    """Run what the settings say; rank 0 writes the result."""
    torch.set_num_threads(1)
    keep_freed_memory()
    world = get_world()
    settings = read_json(settings_file)
    experiment = load_experiment(settings["experiment"], settings["overrides"])
    seconds = measure(world, experiment, settings["phase"], settings["steps"], settings["rounds"])
    if world.rank == 0:
        write_json_atomic(result_file, {"seconds": seconds, "steps": settings["steps"]})


if __name__ == "__main__":
    main(*sys.argv[1:])
