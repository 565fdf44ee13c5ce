"""What all runs of one comparison share: experiment, files, ranks, the recorded DNS, and when runs are observed."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.parallel.world import World


@dataclass(frozen=True)
class Plan:
    """One comparison. Coarse runs start from the realisations `run_from`; without it from those of the test split.

    The ranks of `world` share the runs.
    """

    experiment: Experiment
    paths: RunPaths
    run_from: tuple[int, ...] | None = None
    world: World = World()

    @property
    def realisations(self) -> tuple[int, ...]:
        """Realisations that the coarse runs start from."""
        return self.experiment.prepare.split.test if self.run_from is None else self.run_from

    @property
    def searched(self) -> tuple[int, ...]:
        """Realisations on which constants and time steps are found; none where nothing is to be found."""
        couple, split = self.experiment.couple, self.experiment.prepare.split
        if couple.lengthen_steps:
            return split.validation + split.train
        is_tuned = any("tuned" in contender.closure.model_dump().values() for contender in couple.contenders)
        return split.validation if is_tuned else ()

    @cached_property
    def catalogue(self) -> Catalogue:
        """The recorded DNS."""
        return Catalogue.read(self.paths.raw)

    @cached_property
    def interval(self) -> float:
        """Time between snapshots [s], the same in all realisations that are run from.

        Raises
        ------
        ConfigError    if it differs between them
        """
        realisations = self.searched + self.realisations
        intervals = {self.catalogue.entry(number).snapshot_interval for number in realisations}
        if len(intervals) > 1:
            raise ConfigError(
                f"prepare.split: realisations {list(realisations)} have snapshots every {sorted(intervals)} s; "
                "coarse runs are compared at common times: choose realisations with one interval"
            )
        return intervals.pop()

    @cached_property
    def num_intervals(self) -> int:
        """Whole snapshot intervals in couple.duration.

        Raises
        ------
        ConfigError    if there is none
        """
        # The slack forgives a duration such as 0.3 in intervals of 0.1.
        number = math.floor(self.experiment.couple.duration / self.interval * (1 + 1e-6))
        if number < 1:
            raise ConfigError(
                f"couple.duration: {self.experiment.couple.duration:g} s is shorter than the interval of the recorded "
                f"snapshots, {self.interval:g} s: run longer"
            )
        return number

    @property
    def duration(self) -> float:
        """Length of each run [s]."""
        return self.num_intervals * self.interval

    @property
    def times(self) -> Tensor:
        """Times of observation from the start, shape (num_intervals + 1,), float64 [s]."""
        return self.interval * torch.arange(self.num_intervals + 1, dtype=torch.float64)
