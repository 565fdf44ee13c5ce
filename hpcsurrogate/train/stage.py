"""The train stage: put model, host, data and engine together, run the loop, write the weights."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext

import torch

from hpcsurrogate.core.atomic import atomic_path, read_json
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.snapshot_table import SnapshotTable
from hpcsurrogate.data.statistics import Statistics
from hpcsurrogate.data.stores.choose import open_store
from hpcsurrogate.data.stores.joint import JointStore
from hpcsurrogate.data.stores.store import Store
from hpcsurrogate.models.build import build_model
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.train.checkpoint import CheckpointStore, serialize
from hpcsurrogate.train.features import fit_features, mean_widths
from hpcsurrogate.train.loop import Trainer
from hpcsurrogate.train.metrics_log import MetricsLog
from hpcsurrogate.train.phases import AprioriPhase, TrainingData, UnrolledPhase

log = get_logger("train")


def run_train(experiment: Experiment, paths: RunPaths, world: World) -> None:
    """Train the closure, a priori and then through the host, and write `paths.weights`.

    Goes on from the newest checkpoint in `paths.checkpoints`, bit for bit as if it had not been stopped
    (tests/unit/train/test_stage.py). Ranks share every batch; their number does not change the result beyond
    round-off (tests/parallel/test_train_ranks.py).

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths    reads prepared/; writes checkpoints/, metrics.jsonl, tensorboard/, weights.safetensors
    world : World

    Raises
    ------
    ConfigError          engine, device, batch size, window or time step that cannot be had
    DataError            a prepared file is damaged or missing
    DivergedError        loss or gradient not finite
    ModelRefusedError    the checkpoints belong to another configuration
    RequeueRequested     SIGTERM or SIGUSR1 came; the state is in a checkpoint
    """
    settings = experiment.train
    engine = make_engine(settings.engine, world)
    device = _device(settings.device, world)
    statistics = Statistics.read(paths.statistics)
    torch.manual_seed(experiment.seed)  # every rank and every run starts from the same weights
    module = build_model(settings.model, experiment.host, experiment.flow, statistics).to(device)
    host = make_host(experiment.host, experiment.flow, dtype=torch.float32, device=device)
    config_digest = training_digest(experiment, read_json(paths.statistics))
    checkpoints = CheckpointStore(paths.checkpoints, settings.keep_checkpoints, config_digest)
    with open_data(experiment, paths, world) as data:
        fit_features(module, experiment, data, world)
        phases = [
            AprioriPhase(experiment, data, world, host, getattr(statistics, f"{settings.apriori.target}_rms")),
            UnrolledPhase(experiment, data, world, host),
        ]
        trainer = Trainer(module, phases, engine, world, settings, checkpoints)
        resumed_step = trainer.resume()
        log.info("training %d parameters on %d ranks", sum(p.numel() for p in module.parameters()), world.size)
        with _metrics_log(paths, settings.tensorboard, resumed_step) if world.rank == 0 else nullcontext() as metrics:
            trainer.run(metrics)
    if world.rank == 0:
        _write_weights(module, paths, config_digest)
    world.barrier()


@contextmanager
def open_data(experiment: Experiment, paths: RunPaths, world: World) -> Iterator[TrainingData]:
    """Open a store for each split, each once for all phases. Collective.

    Raises
    ------
    ConfigError    if `train.store` asks for a kind that does not fit into memory
    DataError      if a shard is missing or damaged, or realisations differ in grid, snapshot interval or precision
    """
    split, apriori = experiment.prepare.split, experiment.train.apriori
    catalogue = Catalogue.read(paths.prepared, world)
    SnapshotTable(catalogue, (*split.train, *split.validation))  # refuses realisations that are not alike
    snapshot_interval = catalogue.description(split.train[0]).snapshot_interval
    fields = ("velocity", apriori.target) if apriori.epochs else ("velocity",)
    catalogues = [catalogue]
    if "filter_width" in getattr(experiment.train.model, "scalars", ()):
        numbers = range(1, len(experiment.prepare.more_filters) + 1)
        catalogues += [Catalogue.read(paths.prepared_through(number), world) for number in numbers]
    with ExitStack() as stack:

        def opened(of: Catalogue, realisations: tuple[int, ...]) -> Store:
            kind, threads = experiment.train.store, experiment.threads_per_rank
            return stack.enter_context(open_store(of, realisations, fields, world, kind, threads))

        training, *others = (opened(each, split.train) for each in catalogues)
        yield TrainingData(
            training,
            opened(catalogue, split.validation),
            snapshot_interval,
            JointStore([training, *others]) if others else training,
            mean_widths(catalogues, split.train),
        )


def training_digest(experiment: Experiment, statistics: dict) -> str:
    """SHA-256 of everything that decides what is trained; a checkpoint with another digest is refused."""
    return digest(
        {
            "seed": experiment.seed,
            "flow": experiment.flow,
            "host": experiment.host,
            "prepare": experiment.prepare,
            "train": experiment.train.model_dump(mode="json", exclude=experiment.train.OPERATIONAL),
            "statistics": statistics,
        }
    )


def _device(kind: str, world: World) -> str:
    if kind == "cpu":
        return kind
    if not torch.cuda.is_available():
        raise ConfigError(
            "train.device is cuda, but torch sees no GPU here; set train.device to cpu or run `hpcsurrogate doctor`"
        )
    torch.cuda.set_device(world.local_rank % torch.cuda.device_count())
    return f"cuda:{torch.cuda.current_device()}"


def _metrics_log(paths: RunPaths, tensorboard: bool, resumed_step: int):
    return closing(MetricsLog(paths.metrics, paths.tensorboard if tensorboard else None, resumed_step))


def _write_weights(module: torch.nn.Module, paths: RunPaths, config_digest: str) -> None:
    metadata = {"statistics": json.dumps(read_json(paths.statistics), sort_keys=True), "config_digest": config_digest}
    with atomic_path(paths.weights) as temporary:
        temporary.write_bytes(serialize(module.state_dict(), metadata))
    log.info("weights written to %s", paths.weights)
