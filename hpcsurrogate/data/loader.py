"""Batches of windows of consecutive snapshots, in an order that does not depend on the number of ranks.

Every rank holds the split in memory: prepared fields are small (64^2: 33 kB a snapshot and vector field), and the
order of samples may then be any permutation without a rank ever waiting for a disk.

Legend: window = number of snapshot intervals in a sample, so that a sample has window + 1 snapshots.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.parallel.world import World

log = get_logger("loader")

Batch = dict[str, Tensor]


class WindowLoader:
    """Windows of the prepared realisations of one split.

    Parameters
    ----------
    directory : str or Path              holds the prepared shards and their catalogue
    realisations : sequence of int
    window : int                         snapshot intervals in a sample; 0 for single snapshots
    batch_size : int                     windows per step, over all ranks
    world : World
    seed : int
    device : str                         where the split is held and the batches are
    fields : sequence of str             fields of a batch

    Attributes
    ----------
    window : int
    snapshot_interval : float    [s]

    Raises
    ------
    ConfigError    if the ranks do not divide batch_size, or a realisation is shorter than a window
    DataError      if a shard is missing, damaged, or differs from its catalogue

    Notes
    -----
    The batches of all ranks, joined in rank order, are the same for any number of ranks; in a validation pass each
    snapshot is the target of one window (tests/unit/data/test_loader.py).
    """

    def __init__(
        self,
        directory: str | Path,
        realisations: Sequence[int],
        window: int,
        batch_size: int,
        world: World,
        seed: int,
        device: str | torch.device = "cpu",
        fields: Sequence[str] = ("velocity", "commutator"),
    ):
        if batch_size % world.size:
            raise ConfigError(
                f"batch_size {batch_size} is no multiple of the {world.size} ranks; change train.*.batch_size or ranks"
            )
        self.window, self.batch_size, self.world, self.seed = window, batch_size, world, seed
        lengths, self.snapshot_interval, arrays = _read_split(Catalogue.read(directory), realisations, fields)
        self._fields = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        self._training_starts = _window_starts(lengths, realisations, window, stride=1)
        # Windows that only touch: what one ends with, the next starts from, and no snapshot is predicted twice.
        self._validation_starts = _window_starts(lengths, realisations, window, stride=max(window, 1))

    def __len__(self) -> int:
        """Number of steps of an epoch: full batches only.

        Raises
        ------
        ConfigError    if there is not one full batch
        """
        num_windows = len(self._training_starts)
        if num_windows < self.batch_size:
            raise ConfigError(
                f"batch_size {self.batch_size} exceeds the {num_windows} windows of {self.window + 1} snapshots;"
                " lower train.*.batch_size or record longer"
            )
        return num_windows // self.batch_size

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield this rank's share of every batch of an epoch, from step `start` on.

        Parameters
        ----------
        number : int    the epoch; with the seed it determines the order
        start : int     steps to leave out: where a resumed run goes on

        Yields
        ------
        dict    field -> Tensor, shape (batch_size / ranks, window + 1, component, nx, ny), float32

        Notes
        -----
        Every rank takes len(self) - start steps. The windows that fill no batch are left out, other ones each epoch.
        """
        num_windows, num_steps = len(self._training_starts), len(self)
        if number == 0 and start == 0 and num_windows % self.batch_size:
            log.info(
                "%d of %d windows fill no batch and are left out, others each epoch",
                num_windows % self.batch_size,
                num_windows,
            )
        order = np.random.default_rng([self.seed % 2**63, number]).permutation(num_windows)
        share = self.batch_size // self.world.size
        for step in range(start, num_steps):
            first = step * self.batch_size + self.world.rank * share
            yield self._gather(self._training_starts[order[first : first + share]])

    def validation(self) -> Iterator[Batch]:
        """Yield this rank's part of the validation windows, in batches of at most batch_size / ranks.

        Over all ranks every window comes once, and every snapshot after the first of its realisation is the target of
        at most one window (those at the end that fill no window are left out). Ranks may yield unequal numbers of
        batches, even none: add up sum and count, and reduce once after the loop.
        """
        share = self.batch_size // self.world.size
        starts = self._validation_starts[self.world.rank :: self.world.size]
        for first in range(0, len(starts), share):
            yield self._gather(starts[first : first + share])

    def _gather(self, starts: np.ndarray) -> Batch:
        index = torch.from_numpy(starts[:, None] + np.arange(self.window + 1))
        return {name: array[index.to(array.device)] for name, array in self._fields.items()}


def _read_split(
    catalogue: Catalogue, realisations: Sequence[int], fields: Sequence[str]
) -> tuple[list[int], float, dict[str, np.ndarray]]:
    """Lengths of the realisations, interval [s], and fields (time of all realisations, component, nx, ny)."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in fields}
    lengths, intervals = [], set()
    for realisation in realisations:
        with catalogue.open(realisation, verify=True) as shard:
            lengths.append(shard.header.num_snapshots)
            intervals.add(shard.header.snapshot_interval)
            for name in fields:
                parts[name].append(shard.read(name).astype(np.float32, copy=False))
    if len(intervals) != 1:
        raise DataError(
            f"{catalogue.directory}: snapshot intervals differ between realisations: {sorted(intervals)};"
            " record them alike"
        )
    return lengths, intervals.pop(), {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _window_starts(lengths: list[int], realisations: Sequence[int], window: int, stride: int) -> np.ndarray:
    """Index, in the joined realisations, of the first snapshot of every window; none reaches over a border."""
    starts, offset = [], 0
    for realisation, length in zip(realisations, lengths, strict=True):
        if length <= window:
            raise ConfigError(
                f"realisation {realisation} has {length} snapshots, a window needs {window + 1};"
                " shorten train.unrolled.snapshots or record longer"
            )
        starts.append(offset + np.arange(0, length - window, stride))
        offset += length
    return np.concatenate(starts)
