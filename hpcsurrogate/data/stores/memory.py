"""What the two stores in memory have in common: which snapshots, what they look like, and how memory is filled."""

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from hpcsurrogate.core.errors import HpcsurrogateError, ShapeError
from hpcsurrogate.data.catalogue import Catalogue, SnapshotTable
from hpcsurrogate.data.stores.filling import load_shard
from hpcsurrogate.data.stores.samples import find_samples
from hpcsurrogate.parallel import heartbeat
from hpcsurrogate.parallel.remote_memory import DistributedBlock
from hpcsurrogate.parallel.shared_memory import SharedBlock
from hpcsurrogate.parallel.world import World


class MemoryStore:
    """The part of a store (data.stores.store.Store) that does not depend on where the memory is; subclasses take it.

    Parameters
    ----------
    catalogue : Catalogue
    realisations : sequence of int
    fields : sequence of str
    world : World

    Attributes
    ----------
    table : SnapshotTable
    fields : tuple of str
    """

    _block: SharedBlock | DistributedBlock
    _arrays: dict[str, np.ndarray]  # what of the block this process fills, by field: (snapshot, *shape)

    def __init__(self, catalogue: Catalogue, realisations: Sequence[int], fields: Sequence[str], world: World):
        self.table = SnapshotTable(catalogue, realisations)
        self.fields = tuple(fields)
        self._samples = find_samples(self.table, fields)
        self._world = world

    def shape(self, field: str) -> tuple[int, ...]:
        """Shape of one snapshot in file layout: (nx, ny[, nz][, component][, component])."""
        return self._samples[field].shape

    def dtype(self, field: str) -> np.dtype:
        """Number format of a field."""
        return self._samples[field].dtype

    def expect(self, field: str, snapshots: np.ndarray) -> None:
        """Nothing to do: all are in memory."""

    def new_epoch(self) -> None:
        """Nothing to do: files are not read again."""

    def close(self) -> None:
        """Give the memory back. Collective."""
        self._arrays.clear()  # views of the block
        self._block.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        # A rank that leaves by an error leaves alone: a collective call would wait for the others for ever.
        if kind is None:
            self.close()

    def _fill(self, shards: Iterable[int], start: int, stop: int) -> None:
        """Read those snapshots of some shards that lie in [start, stop) of the table; collective, fails together."""
        try:
            with self._world.failing_together():
                for shard in shards:
                    heartbeat.beat("start-up: filling the store")
                    first, end = self.table.shard_starts[shard : shard + 2].tolist()
                    low, high = max(first, start), min(end, stop)
                    parts = {name: array[low - start : high - start] for name, array in self._arrays.items()}
                    load_shard(self.table, shard, low - first, high - first, parts)
        except (HpcsurrogateError, OSError):
            self.close()
            raise

    def _require_valid(self, field: str, snapshots: np.ndarray, out: np.ndarray) -> None:
        """Raise ShapeError or IndexError if a request would read or write somewhere else."""
        expected = (len(snapshots), *self._samples[field].shape)
        if out.shape != expected or out.dtype != self._samples[field].dtype or not out.flags.c_contiguous:
            raise ShapeError(
                f"{field}: samples go into a C-ordered array of {self._samples[field].dtype} of shape {expected}, "
                f"not {out.dtype} of {out.shape}"
            )
        # As unsigned numbers negative ones are the largest: one pass over a batch instead of two.
        if len(snapshots) and snapshots.view(np.uint64).max() >= self.table.num_snapshots:
            raise IndexError(f"snapshots {snapshots.min()} to {snapshots.max()} of {self.table.num_snapshots}")
