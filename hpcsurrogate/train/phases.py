"""The two phases of training: which batches, which loss, which validation. The loop treats them alike.

AprioriPhase     regression of the closure on its target, snapshot by snapshot
UnrolledPhase    the closure inside the host, against filtered DNS over windows of growing length
"""

import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.config import Augmentation, Experiment
from hpcsurrogate.core.errors import ConfigError, DivergedError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.data.augment import Augmenter
from hpcsurrogate.data.loader import WindowLoader
from hpcsurrogate.data.stores.store import Store
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import AnyHost, make_host
from hpcsurrogate.train.losses import Closure, apriori_loss, snapshot_errors, unrolled_loss
from hpcsurrogate.train.schedule import curriculum

log = get_logger("train")
Batches = Generator[tuple[int, int | None, dict[str, Tensor]], None, None]  # epoch, window length, batch


@dataclass(frozen=True)
class TrainingData:
    """The stores of the two splits, shared by the phases, which use them one after the other.

    Attributes
    ----------
    training, validation : Store    with the velocity and the target of the first phase
    snapshot_interval : float       [s]
    pairs : Store                   what the first phase trains on: `training`, or that and more filters' of it
    filter_widths : ndarray         (realisations of `pairs`,): mean over the axes [m]
    """

    training: Store
    validation: Store
    snapshot_interval: float
    pairs: Store
    filter_widths: np.ndarray


class AprioriPhase:
    """Regression on `train.apriori.target`. An epoch is one pass over the training split, validated after each."""

    name = "apriori"

    def __init__(
        self, experiment: Experiment, data: TrainingData, world: World, host: AnyHost, target_rms: float
    ) -> None:
        settings = experiment.train.apriori
        self._host, self._world, self._target, self._target_rms = host, world, settings.target, target_rms
        several_widths = None if data.pairs is data.training else data.filter_widths
        self._training, self._validation = (
            WindowLoader(
                store,
                window=0,
                batch_size=settings.batch_size,
                world=world,
                seed=experiment.seed,
                device=host.grid.device,
                fields=("velocity", settings.target),
                augment=augment,
                filter_widths=widths,
            )
            for store, augment, widths in (
                (data.pairs, make_augmenter(experiment, host), several_widths),
                # Validated as it will be used: with the host's own filter, whose width the network knows.
                (data.validation, None, None),
            )
        )
        self.validate_every = self._training.steps_per_epoch
        self.num_iterations = settings.epochs * self._training.steps_per_epoch
        self.learning_rate = settings.learning_rate

    def prepare(self) -> None:
        """Nothing to do before the first iteration."""

    def batches(self, first: int) -> Batches:
        """The batches from iteration `first` on."""
        with closing(self._training.batches(first)) as batches:
            for epoch, batch in batches:
                yield epoch, None, batch

    def loss(self, closure: Closure, batch: dict[str, Tensor]) -> Tensor:
        """losses.apriori_loss of this rank's samples."""
        velocity, target = (batch[name][:, 0].to(self._host.grid.dtype) for name in ("velocity", self._target))
        if "filter_width" in batch:
            closure = partial(closure, filter_width=batch["filter_width"])
        return apriori_loss(closure, self._host, velocity, target, self._target_rms)

    def validation_loss(self, closure: Closure) -> float:
        """losses.apriori_loss over the whole validation split, each sample once, all ranks together."""
        total = np.zeros(2)
        for batch in self._validation.validation():
            count = len(batch["velocity"])
            total += np.array([self.loss(closure, batch).item() * count, count])
        error, count = self._world.sum(total)
        return float(error / count)


class UnrolledPhase:
    """Windows through the host. Validated on the longest length throughout, so that the numbers can be compared."""

    name = "unrolled"

    def __init__(self, experiment: Experiment, data: TrainingData, world: World, host: AnyHost) -> None:
        settings = experiment.train.unrolled
        self._experiment, self._data, self._world, self._host = experiment, data, world, host
        self.num_iterations, self.learning_rate = settings.iterations, settings.learning_rate
        self.validate_every = experiment.train.validate_every
        self._shares = curriculum(settings.iterations, settings.snapshots)
        if self._shares:
            self._validation = self._loader(max(settings.snapshots), data.validation)
            self._steps_per_snapshot = steps_per_snapshot(data.snapshot_interval, host.time_step)

    def prepare(self) -> None:
        """Measure the bare host's error, by which the loss is divided.

        Raises
        ------
        DivergedError    if the host blows up without a closure
        """
        with torch.no_grad():
            bare_errors = self._validation_errors(None)
        if not np.all(np.isfinite(bare_errors)):
            raise DivergedError(
                f"train: the host without closure blows up within {len(bare_errors)} snapshots; lower host.time_step"
            )
        self._bare_errors = torch.as_tensor(bare_errors, dtype=self._host.grid.dtype, device=self._host.grid.device)
        rms = ", ".join(f"{math.sqrt(error):.3g}" for error in bare_errors)
        log.info("unrolled: rms velocity error of the host without closure after each snapshot interval: %s m/s", rms)

    def batches(self, first: int) -> Batches:
        """The batches from iteration `first` on, through the shares of the curriculum."""
        for start, end, window in self._shares:
            if first < end:
                skip = max(0, first - start)
                with closing(self._loader(window, self._data.training).batches(skip)) as batches:
                    for epoch, batch in islice(batches, end - start - skip):
                        yield epoch, window, batch

    def loss(self, closure: Closure, batch: dict[str, Tensor]) -> Tensor:
        """losses.unrolled_loss of this rank's windows."""
        return unrolled_loss(self._errors(closure, batch), self._bare_errors)

    def validation_loss(self, closure: Closure) -> float:
        """losses.unrolled_loss over windows that cover the validation split without overlap, all ranks together."""
        return float(np.mean(self._validation_errors(closure) / self._bare_errors.double().cpu().numpy()))

    def _validation_errors(self, closure: Closure | None) -> np.ndarray:
        total = np.zeros(self._validation.window + 1)  # squared errors of each snapshot, and the number of windows
        for batch in self._validation.validation():
            count = len(batch["velocity"])
            total += count * np.append(self._errors(closure, batch).double().cpu().numpy(), 1.0)
        total = self._world.sum(total)
        return total[:-1] / total[-1]

    def _errors(self, closure: Closure | None, batch: dict[str, Tensor]) -> Tensor:
        velocity = batch["velocity"].to(self._host.grid.dtype)
        return snapshot_errors(self._host, velocity, self._steps_per_snapshot, closure)

    def _loader(self, window: int, store: Store) -> WindowLoader:
        return WindowLoader(
            store,
            window=window,
            batch_size=self._experiment.train.unrolled.batch_size,
            world=self._world,
            seed=self._experiment.seed,
            device=self._host.grid.device,
            fields=("velocity",),
        )


Phase = AprioriPhase | UnrolledPhase


def make_augmenter(experiment: Experiment, host: AnyHost) -> Augmenter | None:
    """The symmetries of `train.apriori.augmentation`, or None if none is asked for.

    What a steady body force adds to the commutator (its filtered value less the host's own) does not turn with the
    flow: it is the commutator of a fluid at rest (tests/unit/data/test_augment.py).
    """
    settings, flow = experiment.train.apriori, experiment.flow
    if settings.augmentation == Augmentation():
        return None
    steady = {}
    if settings.target == "commutator":
        exact_host = make_host(experiment.host, flow, torch.float64)
        fine_grid = Grid(tuple(2 * n for n in host.grid.shape), flow.domain)
        at_rest = torch.zeros(1, 2, *fine_grid.shape, dtype=torch.float64)
        commutator = CoarseGraining(flow, fine_grid, exact_host, experiment.prepare.filter).commutator(at_rest)
        steady["commutator"] = commutator[0].movedim(0, -1).numpy()
    fields = ("velocity", settings.target)
    return Augmenter(settings.augmentation, fields, host.grid.shape, flow.domain, host.layout, experiment.seed, steady)


def steps_per_snapshot(snapshot_interval: float, time_step: float) -> int:
    """Host steps in one snapshot interval [s].

    Raises
    ------
    ConfigError    if the interval is not a multiple of the step to one part in a million
    """
    ratio = snapshot_interval / time_step
    steps = round(ratio)
    if steps < 1 or abs(ratio - steps) > 1e-6 * ratio:
        fitting = snapshot_interval / math.ceil(ratio)
        raise ConfigError(
            f"host.time_step: {time_step:g} s does not divide the snapshot interval of {snapshot_interval:g} s; "
            f"{fitting:.17g} does"
        )
    return steps
