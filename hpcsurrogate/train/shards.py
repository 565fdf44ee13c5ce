"""How a batch is shared: every rank has its share, and does it in one or more parts, one after the other.

The parts of a batch are numbered over all ranks, rank by rank. In exact mode their number is fixed (virtual shards), so
that the arithmetic of a part does not depend on the rank that does it nor on how many ranks there are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from torch import Tensor

from hpcsurrogate.core.config import Train
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel import heartbeat
from hpcsurrogate.parallel.world import World

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Shards:
    """The parts of every batch, and which of them are this rank's.

    Attributes
    ----------
    world : World
    num_own : int [-]    parts of each rank's share
    exact : bool         whether their number is that of `train.virtual_shards`, whatever the number of ranks
    """

    world: World
    num_own: int
    exact: bool

    @classmethod
    def of(cls, settings: Train, world: World) -> Self:
        """The parts that the train section asks for.

        Raises
        ------
        ConfigError    if the ranks do not divide `virtual_shards`, or exact mode meets what has no exact form
        """
        if not settings.exact:
            return cls(world, settings.accumulate, False)
        for key, plain in (("precision", "float32"), ("accumulate", 1), ("gradient_compression", "none")):
            value = getattr(settings, key)
            if value != plain:
                raise ConfigError(f"train.{key}: {value} cannot be had with train.exact; set it to {plain}")
        if settings.virtual_shards % world.size:
            raise ConfigError(
                f"train.virtual_shards: {settings.virtual_shards} is no multiple of the {world.size} ranks; "
                "change it or the number of ranks"
            )
        return cls(world, settings.virtual_shards // world.size, True)

    @property
    def total(self) -> int:
        """Parts of a batch over all ranks."""
        return self.num_own * self.world.size

    @property
    def own(self) -> range:
        """Numbers of this rank's parts."""
        return range(self.world.rank * self.num_own, (self.world.rank + 1) * self.num_own)

    def require_divides(self, key: str, batch_size: int) -> None:
        """Raise ConfigError, naming the key, if batches of this size do not fall into parts of equal size."""
        if batch_size % self.total:
            kind = "train.virtual_shards" if self.exact else "ranks times train.accumulate"
            raise ConfigError(f"{key}: {batch_size} is no multiple of {self.total}, {kind}; change one of them")

    def split(self, batch: Batch) -> Iterator[tuple[int, Batch]]:
        """Yield number and samples of this rank's parts.

        Parameters
        ----------
        batch : dict of Tensor, shape (n, ...)    this rank's share of a batch; `num_own` divides n

        Yields
        ------
        int, dict of Tensor, shape (n / num_own, ...)    in exact mode copies, see `aligned`
        """
        pieces = {name: values.chunk(self.num_own) for name, values in batch.items()}
        for index, number in enumerate(self.own):
            part = {name: chunks[index] for name, chunks in pieces.items()}
            yield number, aligned(part) if self.exact else part

    def sum_in_order(self, num_values: int, of_part: Callable[[int], np.ndarray]) -> np.ndarray:
        """Sum what `of_part(number)` returns for every part, in the order of their numbers; collective.

        Parameters
        ----------
        num_values : int [-]
        of_part : callable    number of a part -> ndarray, shape (num_values,), float64; called for this rank's parts

        Returns
        -------
        ndarray, shape (num_values,), float64    the same bits on every rank and, for a given number of parts, on any
                                                 number of ranks (tests/unit/train/test_training_shards.py): each
                                                 number is sent beside zeros only, so that MPI adds nothing up
        """
        values = np.zeros((self.total, num_values))
        for number in self.own:
            values[number] = of_part(number)
        heartbeat.beat("sums over the ranks")
        return self.world.sum(values).sum(axis=0)

    def describe(self, number: int) -> str:
        """`rank 1`, or `rank 1, part 5 of 8` where a rank has several."""
        rank = f"rank {number // self.num_own}"
        return rank if self.num_own == 1 else f"{rank}, part {number} of {self.total}"


def aligned(batch: Batch) -> Batch:
    """Copy a batch to memory of its own.

    Slices of a larger array begin anywhere, and vector instructions may sum in another order from there.
    """
    return {name: values.clone() for name, values in batch.items()}
