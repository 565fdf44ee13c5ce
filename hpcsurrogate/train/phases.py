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
from hpcsurrogate.evaluate.cells import stress_function
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import AnyHost, make_host
from hpcsurrogate.train.losses import (
    Closure,
    apriori_loss,
    snapshot_errors,
    spectrum_error,
    squared_error,
    stress_loss,
    unrolled_loss,
)
from hpcsurrogate.train.schedule import curriculum, scaled_rate
from hpcsurrogate.train.shards import Batch, Shards
from hpcsurrogate.train.validation import validation_means

log = get_logger("train")
Batches = Generator[tuple[int, int | None, Batch], None, None]  # epoch, window length, batch


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
        self._host, self._target, self._target_rms = host, settings.target, target_rms
        self._shards = Shards.of(experiment.train, world)
        scaling = experiment.train.learning_rate_scaling
        self.learning_rate = scaled_rate(settings.learning_rate, settings.batch_size, scaling)
        self.num_iterations = 0
        if not settings.epochs:
            return
        self._shards.require_divides("train.apriori.batch_size", settings.batch_size)
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

    def prepare(self) -> None:
        """Nothing to do before the first iteration."""

    def batches(self, first: int) -> Batches:
        """The batches from iteration `first` on."""
        with closing(self._training.batches(first)) as batches:
            for epoch, batch in batches:
                yield epoch, None, batch

    def loss(self, closure: Closure, batch: Batch) -> Tensor:
        """losses.apriori_loss of these samples, or stress_loss."""
        velocity, target = (batch[name][:, 0].to(self._host.grid.dtype) for name in ("velocity", self._target))
        if "filter_width" in batch:
            closure = partial(closure, filter_width=batch["filter_width"])
        if self._target == "sgs_stress":
            stress = stress_function(closure, self._host)
            return stress_loss(stress, self._host, velocity, target, self._target_rms)
        return apriori_loss(closure, self._host, velocity, target, self._target_rms)

    def validation_loss(self, closure: Closure) -> float:
        """losses.apriori_loss over the whole validation split, each sample once, all ranks together."""

        def values(batch: Batch) -> np.ndarray:
            return np.array([self.loss(closure, batch).item()])

        return float(validation_means(self._validation, self._shards, 1, values)[0])


class UnrolledPhase:
    """Windows through the host. Validated on the longest length throughout, so that the numbers can be compared."""

    name = "unrolled"

    def __init__(self, experiment: Experiment, data: TrainingData, world: World, host: AnyHost) -> None:
        settings = experiment.train.unrolled
        self._experiment, self._data, self._world, self._host = experiment, data, world, host
        self.num_iterations = settings.iterations
        self._spectrum_weight = settings.spectrum_weight
        scaling = experiment.train.learning_rate_scaling
        self.learning_rate = scaled_rate(settings.learning_rate, settings.batch_size, scaling)
        self.validate_every = experiment.train.validate_every
        self._curriculum = curriculum(settings.iterations, settings.snapshots)
        self._shards = Shards.of(experiment.train, world)
        if self._curriculum:
            self._shards.require_divides("train.unrolled.batch_size", settings.batch_size)
            self._validation = self._loader(max(settings.snapshots), data.validation)
            self._steps_per_snapshot = steps_per_snapshot(data.snapshot_interval, host.time_step)

    def prepare(self) -> None:
        """Measure the bare host's error, by which the loss is divided.

        Raises
        ------
        DivergedError    if the host blows up without a closure
        """
        with torch.no_grad():
            bare_errors, _ = self._validation_errors(None)
        if not np.all(np.isfinite(bare_errors)):
            raise DivergedError(
                f"train: the host without closure blows up within {len(bare_errors)} snapshots; lower host.time_step"
            )
        self._bare_errors = torch.as_tensor(bare_errors, dtype=self._host.grid.dtype, device=self._host.grid.device)
        rms = ", ".join(f"{math.sqrt(error):.3g}" for error in bare_errors)
        log.info("unrolled: rms velocity error of the host without closure after each snapshot interval: %s m/s", rms)

    def batches(self, first: int) -> Batches:
        """The batches from iteration `first` on, through the shares of the curriculum."""
        for start, end, window in self._curriculum:
            if first < end:
                skip = max(0, first - start)
                with closing(self._loader(window, self._data.training).batches(skip)) as batches:
                    for epoch, batch in islice(batches, end - start - skip):
                        yield epoch, window, batch

    def loss(self, closure: Closure, batch: Batch) -> Tensor:
        """losses.unrolled_loss of these windows, and the weighted mean of losses.spectrum_error over snapshots."""
        errors, spectrum_errors = self._errors(closure, batch).unbind(1)
        return unrolled_loss(errors, self._bare_errors) + self._spectrum_weight * spectrum_errors.mean()

    def validation_loss(self, closure: Closure) -> float:
        """The same over windows that cover the validation split without overlap, all ranks together."""
        errors, spectrum_errors = self._validation_errors(closure)
        loss = np.mean(errors / self._bare_errors.double().cpu().numpy())
        return float(loss + self._spectrum_weight * np.mean(spectrum_errors))

    def _validation_errors(self, closure: Closure | None) -> np.ndarray:
        """Both errors at each snapshot, (2, L); those of the spectrum are zero where they have no weight."""

        def values(batch: Batch) -> np.ndarray:
            return self._errors(closure, batch).T.flatten().double().cpu().numpy()

        window = self._validation.window
        return validation_means(self._validation, self._shards, 2 * window, values).reshape(2, window)

    def _errors(self, closure: Closure | None, batch: Batch) -> Tensor:
        velocity = batch["velocity"].to(self._host.grid.dtype)
        settings = self._experiment.train.unrolled
        return snapshot_errors(
            self._host, velocity, self._steps_per_snapshot, closure, settings.back_propagation, settings.recompute,
            self._measure,
        )  # fmt: skip

    def _measure(self, velocity: Tensor, target: Tensor) -> Tensor:
        error = squared_error(velocity, target)
        if not self._spectrum_weight:
            return torch.stack((error, torch.zeros_like(error)))
        return torch.stack((error, spectrum_error(velocity, target, self._host.grid)))

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
        at_rest = torch.zeros(1, fine_grid.num_dims, *fine_grid.shape, dtype=torch.float64)
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
