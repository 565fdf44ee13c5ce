"""Batches of windows of consecutive snapshots, in an order that does not depend on the number of ranks.

Legend
    window     number of snapshot intervals in a sample, so that a sample has window + 1 snapshots
    N, B       windows of the split, windows in a batch over all ranks
    position   place in the endless sequence of epochs (data/order.py); batch k takes positions k B to (k + 1) B - 1
"""

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import count, pairwise
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.augment import Augmenter
from hpcsurrogate.data.order import SampleOrder
from hpcsurrogate.data.prefetch import prefetched
from hpcsurrogate.data.stores.store import Store
from hpcsurrogate.parallel.world import World

Batch = dict[str, Tensor]
Item = TypeVar("Item")

# Small batches are made several at a time: what is done once for each call would else cost as much as the reading.
STRETCH_BYTES = 2**21
POSITIONS_AT_ONCE = 1024  # of the order: a call of numpy on them costs little more than on those of one batch


class _Stretch(NamedTuple):
    """This rank's windows of successive batches: epoch in which each batch begins; position, first snapshot of each."""

    epochs: list[int]
    positions: np.ndarray
    starts: np.ndarray


class WindowLoader:
    """Windows of the realisations in a store; none reaches from one realisation into another.

    Parameters
    ----------
    store : Store                        read by one loader at a time: an iterator has it until it is closed
    window : int                         snapshot intervals in a sample; 0 for single snapshots
    batch_size : int                     windows per step, over all ranks
    world : World
    seed : int
    device : str                         where the batches are; on a GPU they get there through pinned memory
    fields : sequence of str             fields of a batch
    memory_format : str                  "contiguous", or "channels_last": the component varies fastest, as in the file
    augment : Augmenter or None          applied to training batches of single snapshots
    background : bool or None            whether a thread of its own makes batches ahead of the consumer; None: if they
                                         go to a GPU. A thread that reads takes time from one that computes on the same
                                         core; there the store is told what comes next, and has it under way
    filter_widths : ndarray or None      (realisations of the store,): width that goes with the fields of each [m]

    Attributes
    ----------
    window : int
    num_windows : int        N
    steps_per_epoch : int    N / B, rounded up

    Raises
    ------
    ConfigError    if the ranks do not divide batch_size, or a realisation is shorter than a window

    Notes
    -----
    The batches of all ranks, joined in rank order, are the same for any number of ranks and for any store; every window
    comes once an epoch; in a validation pass each snapshot is the target of one window
    (tests/unit/data/test_loader.py, tests/parallel/test_partition.py).
    """

    def __init__(
        self,
        store: Store,
        window: int,
        batch_size: int,
        world: World,
        seed: int,
        device: str | torch.device = "cpu",
        fields: Sequence[str] = ("velocity", "commutator"),
        memory_format: Literal["contiguous", "channels_last"] = "contiguous",
        augment: Augmenter | None = None,
        background: bool | None = None,
        filter_widths: np.ndarray | None = None,
    ):
        if batch_size % world.size:
            raise ConfigError(
                f"batch_size {batch_size} is no multiple of the {world.size} ranks; change train.*.batch_size or ranks"
            )
        if augment is not None and window > 0:
            raise ConfigError("train.apriori.augmentation: only single snapshots can be turned, not windows in time")
        self.store, self.window, self.batch_size, self.world = store, window, batch_size, world
        self.device, self.fields, self.memory_format = torch.device(device), tuple(fields), memory_format
        self._augment, self._filter_widths = augment, filter_widths
        self._background = self.device.type == "cuda" if background is None else background
        self._share = batch_size // world.size
        self._training = _Windows(store, window, stride=1)
        # Windows that only touch: what one ends with, the next starts from, and no snapshot is predicted twice.
        self._validation = _Windows(store, window, stride=max(window, 1))
        self.num_windows = self._training.number
        self.steps_per_epoch = -(-self.num_windows // batch_size)
        self._order = SampleOrder(self.num_windows, seed)

    def batches(self, first: int = 0) -> Generator[tuple[int, Batch], None, None]:
        """Yield this rank's share of every batch from batch `first` on, without end; close it when done.

        Parameters
        ----------
        first : int    where a resumed run goes on: what follows does not depend on what came before

        Yields
        ------
        int     epoch of the batch's first sample; epochs run on through batches, so that each batch is full
        dict    field -> Tensor, shape (batch_size / ranks, window + 1, component, nx, ny[, nz]), float32; memory is
                never used again while a batch is held, but small batches share theirs with the ones beside them;
                "filter_width" -> (batch_size / ranks,), if the loader was given widths

        Raises
        ------
        DataError    if the store meets a damaged shard; on this rank alone
        """
        stretches = self._ahead(self._load_stretches(self._stretches(first)))
        with closing(stretches):
            for epochs, stretch in stretches:
                for begin, epoch in zip(count(0, self._share), epochs):
                    yield epoch, {name: values[begin : begin + self._share] for name, values in stretch.items()}
                del stretch

    def validation(self, shard: int, num_shards: int) -> Generator[Batch, None, None]:
        """Yield one shard of the validation windows, in batches of at most batch_size / num_shards, at least one.

        Over all shards every window comes once, and every snapshot after the first of its realisation is the target of
        at most one window (those at the end that fill no window are left out). Shards may have unequal numbers of
        batches, even none: add up sum and count of each, and reduce once after the loop.

        Parameters
        ----------
        shard, num_shards : int [-]    0 <= shard < num_shards; what a shard holds depends on nothing else
        """
        own = np.arange(shard, self._validation.number, num_shards)
        starts, length = self._validation.first_snapshots(own), max(1, self.batch_size // num_shards)
        return self._ahead(
            self._tensors(self._read(starts[first : first + length])) for first in range(0, len(own), length)
        )

    def _ahead(self, items: Generator[Item, None, None]) -> Generator[Item, None, None]:
        return prefetched(items) if self._background else items

    def _stretches(self, first: int) -> Iterator[_Stretch]:
        sample_bytes = sum(math.prod(self.store.shape(name)) * self.store.dtype(name).itemsize for name in self.fields)
        length = max(1, STRETCH_BYTES // (self._share * (self.window + 1) * sample_bytes))
        num_batches = length * max(1, POSITIONS_AT_ONCE // (length * self._share))
        own = self.world.rank * self._share + np.arange(self._share)
        epoch = None
        while True:
            begins = self.batch_size * np.arange(first, first + num_batches)
            positions = begins[:, None] + own
            starts = self._training.first_snapshots(self._order.at(positions.ravel())).reshape(positions.shape)
            epochs = (begins // self.num_windows).tolist()
            for part in (slice(begin, begin + length) for begin in range(0, num_batches, length)):
                if epochs[part][-1] != epoch:
                    self.store.new_epoch()
                    epoch = epochs[part][-1]
                yield _Stretch(epochs[part], positions[part].ravel(), starts[part].ravel())
            first += num_batches

    def _load_stretches(self, stretches: Iterator[_Stretch]) -> Generator[tuple[list[int], Batch], None, None]:
        for stretch, following in pairwise(stretches):
            batch = self._load_stretch(stretch)
            for name in self.fields:
                self.store.expect(name, self._snapshots(following.starts))
            yield stretch.epochs, batch
            del batch  # so that its memory, still in the cache, can take the next one

    def _load_stretch(self, stretch: _Stretch) -> Batch:
        samples = self._read(stretch.starts)
        if self._augment is not None:
            samples = self._augment.apply(self._augment.draw(stretch.positions), samples)
        batch = self._tensors(samples)
        if self._filter_widths is not None:
            widths = self._filter_widths[self._training.realisations(stretch.starts)]
            batch["filter_width"] = torch.from_numpy(widths.astype(np.float32)).to(self.device)
        return batch

    def _read(self, starts: np.ndarray) -> dict[str, np.ndarray]:
        """Windows that begin at these snapshots: field -> (windows x snapshots, *grid, c), float32."""
        snapshots, samples = self._snapshots(starts), {}
        for name in self.fields:
            stored = self._empty((len(snapshots), *self.store.shape(name)), self.store.dtype(name))
            self.store.read(name, snapshots, stored)
            samples[name] = _components_last(stored, FIELDS[name].rank)
        return samples

    def _snapshots(self, starts: np.ndarray) -> np.ndarray:
        return (starts[:, None] + np.arange(self.window + 1)).ravel()

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        # Pinned memory is slow to get, so torch keeps what batches have left.
        if self.device.type == "cuda":
            return torch.empty(shape, dtype=getattr(torch, dtype.name), pin_memory=True).numpy()
        return np.empty(shape, dtype)

    def _tensors(self, samples: dict[str, np.ndarray]) -> Batch:
        """The same as tensors on the device: field -> (windows, snapshots, c, *grid)."""
        batch = {}
        for name, values in samples.items():
            tensor = torch.from_numpy(values).unflatten(0, (-1, self.window + 1)).movedim(-1, 2)
            if self.memory_format == "contiguous":
                # Copied by numpy: torch would start a pool of threads of its own for this one.
                contiguous = self._empty(tuple(tensor.shape), values.dtype)
                np.copyto(contiguous, tensor.numpy())
                tensor = torch.from_numpy(contiguous)
            batch[name] = tensor if self.device.type == "cpu" else tensor.to(self.device, non_blocking=True)
        return batch


class _Windows:
    """The windows of all realisations, one after the other; nothing is stored for each window."""

    def __init__(self, store: Store, window: int, stride: int):
        lengths = store.table.lengths
        for short in np.flatnonzero(lengths <= window)[:1]:
            raise ConfigError(
                f"realisation {store.table.realisations[short]} has {lengths[short]} snapshots, a window needs"
                f" {window + 1}; shorten train.unrolled.snapshots or record longer"
            )
        self._stride = stride
        self._begins = np.cumsum(lengths) - lengths
        numbers = -(-(lengths - window) // stride)
        self._ends = np.cumsum(numbers)
        self._before = self._ends - numbers
        self.number = int(self._ends[-1])

    def first_snapshots(self, windows: np.ndarray) -> np.ndarray:
        """Number, in the store, of the first snapshot of each window; shape (n,), int64 in and out."""
        index = np.searchsorted(self._ends, windows, side="right")
        return self._begins[index] + self._stride * (windows - self._before[index])

    def realisations(self, snapshots: np.ndarray) -> np.ndarray:
        """Place, among the store's realisations, of each snapshot's; shape (n,), int64 in and out."""
        return np.searchsorted(self._begins, snapshots, side="right") - 1


def _components_last(stored: np.ndarray, rank: int) -> np.ndarray:
    """(n, *grid, component...) as in the file to (n, *grid, c), float32, a symmetric tensor without its lower half."""
    if rank == 0:
        stored = stored[..., None]
    elif rank == 2:
        num_dims = stored.shape[-1]
        upper = np.flatnonzero(np.triu(np.ones((num_dims, num_dims))))
        stored = np.take(stored.reshape(*stored.shape[:-2], -1), upper, axis=-1)
    return stored.astype(np.float32, copy=False)
