"""The train stage: put model, host, data and engine together, run the loop, write the weights."""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext

import torch

from hpcsurrogate.core.atomic import atomic_path, read_json
from hpcsurrogate.core.config import Experiment, Train
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest, source_digest
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.snapshot_table import SnapshotTable
from hpcsurrogate.data.statistics import Statistics
from hpcsurrogate.data.stores.choose import open_store
from hpcsurrogate.data.stores.joint import JointStore
from hpcsurrogate.data.stores.store import Store
from hpcsurrogate.models.build import build_model
from hpcsurrogate.parallel import heartbeat
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.train.attempts import record_attempt
from hpcsurrogate.train.checkpoint import CheckpointStore, serialize
from hpcsurrogate.train.features import fit_features, mean_widths
from hpcsurrogate.train.loop import Trainer
from hpcsurrogate.train.metrics_log import MetricsLog
from hpcsurrogate.train.phases import AprioriPhase, TrainingData, UnrolledPhase
from hpcsurrogate.train.roll_call import compare_setups, parameter_digest
from hpcsurrogate.train.state import STATE_KEYS
from hpcsurrogate.train.stop import StopRequest
from hpcsurrogate.train.transfer import initialise, transfer_digest

log = get_logger("train")

START_UP = 20.0  # times train.watchdog: before the first step there is much to read and little to tell


def run_train(experiment: Experiment, paths: RunPaths, world: World) -> None:
    """Train the closure, a priori and then through the host, and write `paths.weights`.

    Goes on from the newest checkpoint in `paths.checkpoints`, bit for bit as if it had not been stopped
    (tests/unit/train/test_stage.py). Ranks share every batch; their number does not change the result beyond
    round-off, in exact mode not at all (tests/parallel/test_train_ranks.py).

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths    reads prepared/; writes checkpoints/, metrics.jsonl, tensorboard/, weights.safetensors
    world : World

    Raises
    ------
    ConfigError          engine, device, batch size, window, time step or start that cannot be had; ranks that do not
                         run the same; a job that was queued again too often without progress
    DataError            a prepared file is damaged or missing
    DivergedError        loss or gradient not finite, more often than train.on_divergence allows
    ModelRefusedError    the checkpoints belong to another configuration, or none is whole
    RequeueRequested     SIGTERM or SIGUSR1 came, or the wall time ends; the state is in a checkpoint
    """
    settings = experiment.train
    stop = StopRequest(settings.time_limit, watch_job=world.rank == 0)
    # From here to the end the guard of this process ends it if it shows no sign of life for too long.
    heartbeat.arm(START_UP * settings.watchdog, paths.run_dir, world.rank, world.size)
    heartbeat.beat("start-up: comparing the ranks")
    compare_setups(
        world, {"experiment": digest(experiment), "program": source_digest(), "version of torch": torch.__version__}
    )
    device = _device(settings, world)
    statistics = Statistics.read(paths.statistics)
    torch.manual_seed(experiment.seed)  # every rank and every run starts from the same weights
    module = build_model(settings.model, experiment.host, experiment.flow, statistics).to(device)
    compare_setups(world, {"network": parameter_digest(module)})
    heartbeat.beat("start-up: engine")
    engine = make_engine(settings.engine, world, device)
    host = make_host(experiment.host, experiment.flow, dtype=torch.float32, device=device)
    config_digest = training_digest(experiment, read_json(paths.statistics))
    store = CheckpointStore(paths.checkpoints, settings.keep_checkpoints, config_digest, STATE_KEYS)
    heartbeat.beat("start-up: opening the data")
    with closing(store), open_data(experiment, paths, world) as data:
        heartbeat.beat("start-up: features")
        fit_features(module, experiment, data, world)
        if settings.initialise_from:
            with world.failing_together():
                initialise(module, settings.initialise_from)
        phases = [
            AprioriPhase(experiment, data, world, host, getattr(statistics, f"{settings.apriori.target}_rms")),
            UnrolledPhase(experiment, data, world, host),
        ]
        trainer = Trainer(module, phases, engine, world, settings, store, experiment.seed)
        resumed_step = trainer.resume()
        with world.failing_together():
            if world.rank == 0:
                record_attempt(paths, resumed_step, experiment.slurm.max_requeues)
        log.info("training %d parameters on %d ranks", sum(p.numel() for p in module.parameters()), world.size)
        heartbeat.arm(settings.watchdog, paths.run_dir, world.rank, world.size)
        with stop, _metrics_log(paths, settings, resumed_step, world) as metrics:
            trainer.run(metrics, stop)
    heartbeat.beat("weights")
    with world.failing_together():
        if world.rank == 0:
            _write_weights(module, paths, config_digest)
    engine.close()
    heartbeat.disarm()


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
    train = experiment.train
    decisive = {
        "seed": experiment.seed,
        "flow": experiment.flow,
        "host": experiment.host,
        "prepare": experiment.prepare,
        "train": train.model_dump(mode="json", exclude=train.OPERATIONAL),
        "statistics": statistics,
    }
    if train.initialise_from:
        decisive["initialise_from"] = transfer_digest(train.initialise_from)
    if train.exact:  # threads share sums among them
        decisive["threads_per_rank"] = experiment.threads_per_rank
    return digest(decisive)


def _device(settings: Train, world: World) -> str:
    if settings.device == "cpu":
        return settings.device
    if not torch.cuda.is_available():
        raise ConfigError(
            "train.device is cuda, but torch sees no GPU here; set train.device to cpu or run `hpcsurrogate doctor`"
        )
    if settings.exact:
        # Else sums on a GPU take another order every time. cuBLAS wants this before its first call.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.cuda.set_device(world.local_rank % torch.cuda.device_count())
    return f"cuda:{torch.cuda.current_device()}"


def _metrics_log(
    paths: RunPaths, settings: Train, resumed_step: int, world: World
) -> AbstractContextManager[MetricsLog | None]:
    if world.rank:
        return nullcontext()
    return closing(MetricsLog(paths.metrics, paths.tensorboard if settings.tensorboard else None, resumed_step))


def _write_weights(module: torch.nn.Module, paths: RunPaths, config_digest: str) -> None:
    metadata = {"statistics": json.dumps(read_json(paths.statistics), sort_keys=True), "config_digest": config_digest}
    with atomic_path(paths.weights) as temporary:
        temporary.write_bytes(serialize(module.state_dict(), metadata))
    log.info("weights written to %s", paths.weights)
