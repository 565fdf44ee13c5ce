"""One number for every snapshot of some realisations: in which shard, and where in it, a snapshot lies."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.entries import ShardEntry, ShardRecord
from hpcsurrogate.data.readers import CataloguedShard
from hpcsurrogate.data.shards import ShardReader

if TYPE_CHECKING:
    from hpcsurrogate.data.catalogue import Catalogue

# What realisations must have in common for their snapshots to be samples of one kind.
ALIKE = ("snapshot_interval", "grid_shape", "domain", "layout", "fields", "dtype")


class SnapshotTable:
    """The snapshots of some realisations, numbered through: where the one with a given number lies.

    Parameters
    ----------
    catalogue : Catalogue
    realisations : sequence of int    in the order in which their snapshots are numbered

    Attributes
    ----------
    catalogue : Catalogue
    realisations : tuple of int
    lengths : ndarray, shape (realisation,), int64       snapshots of each realisation
    shard_starts : ndarray, shape (shard + 1,), int64    number of each shard's first snapshot; at the end, of all

    Raises
    ------
    DataError    if there is no such realisation, or two differ in what `ALIKE` lists

    Notes
    -----
    16 bytes a shard and 8 a realisation, nothing for a snapshot (tests/unit/data/test_catalogue.py).
    """

    def __init__(self, catalogue: "Catalogue", realisations: Sequence[int]):
        self.catalogue, self.realisations = catalogue, tuple(realisations)
        self._require_alike()
        rows_of = [catalogue.rows(realisation) for realisation in self.realisations]
        self._rows = np.fromiter(chain.from_iterable(rows_of), dtype=np.int64)
        self.shard_starts = np.concatenate([[0], np.cumsum(catalogue.columns.num_snapshots[self._rows])])
        self.lengths = np.diff(self.shard_starts[np.cumsum([0, *map(len, rows_of)])])

    @property
    def num_snapshots(self) -> int:
        """Of all realisations together."""
        return int(self.shard_starts[-1])

    @property
    def num_shards(self) -> int:
        """Of all realisations together."""
        return len(self._rows)

    @property
    def shards(self) -> "ShardsOfTable":
        """The shards in the order of their snapshots; entry and path are made when one is asked for."""
        return ShardsOfTable(self)

    def record(self, shard: int) -> ShardRecord:
        """Return all there is to know about a shard, given its place in `shards`."""
        return self.catalogue.record(int(self._rows[shard]))

    def open_shard(self, shard: int) -> ShardReader:
        """Return the reader of a shard, a context manager that checks it against the catalogue on entering."""
        record = self.record(shard)
        return CataloguedShard(self.catalogue.path(record.shard), record)

    def locate(self, snapshots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where snapshots lie.

        Parameters
        ----------
        snapshots : ndarray, shape (n,), int64    numbers from 0 to num_snapshots - 1

        Returns
        -------
        ndarray, shape (n,), int64    place of the shard in `shards`
        ndarray, shape (n,), int64    place of the snapshot in that shard

        Raises
        ------
        IndexError    if a number is not that of a snapshot
        """
        if len(snapshots) and not 0 <= snapshots.min() <= snapshots.max() < self.num_snapshots:
            raise IndexError(f"snapshots {snapshots.min()} to {snapshots.max()} of {self.num_snapshots}")
        shard = np.searchsorted(self.shard_starts, snapshots, side="right") - 1
        return shard, snapshots - self.shard_starts[shard]

    def _require_alike(self) -> None:
        one_of_each: dict[int, int] = {}
        for number in self.realisations:
            one_of_each.setdefault(self.catalogue.columns.sort(self.catalogue.place(number)), number)
        for number in one_of_each.values():
            first, other = (self.catalogue.description(which) for which in (self.realisations[0], number))
            for key in ALIKE:
                if getattr(other, key) != getattr(first, key):
                    raise DataError(
                        f"{self.catalogue.directory}: {key} is {getattr(first, key)} in realisation"
                        f" {self.realisations[0]} and {getattr(other, key)} in {number}; record and prepare them alike"
                    )


class ShardsOfTable(Sequence[tuple[ShardEntry, Path]]):
    """Entry and path of every shard of a table."""

    def __init__(self, table: SnapshotTable):
        self._table = table

    def __len__(self) -> int:
        return self._table.num_shards

    def __getitem__(self, shard: int) -> tuple[ShardEntry, Path]:
        entry = self._table.record(shard).shard
        return entry, self._table.catalogue.path(entry)
