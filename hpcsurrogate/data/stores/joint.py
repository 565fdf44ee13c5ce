"""Several stores as one: realisations seen through several filters, for a network that sees the filter width."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from hpcsurrogate.core.errors import ShapeError
from hpcsurrogate.data.stores.store import Store


class JointTable(NamedTuple):
    """The realisations of all stores, one store after the other; see SnapshotTable."""

    realisations: tuple[int, ...]
    lengths: np.ndarray

    @property
    def num_snapshots(self) -> int:
        """Of all realisations together."""
        return int(self.lengths.sum())


class JointStore:
    """A store (data.stores.store.Store) whose snapshots are those of several stores, in their order.

    Parameters
    ----------
    stores : sequence of Store    with the same fields and shapes; closed by whoever opened them

    Notes
    -----
    Every snapshot is that of its own store (tests/unit/data/stores/test_joint.py).
    """

    def __init__(self, stores: Sequence[Store]):
        self._stores = tuple(stores)
        self.fields = stores[0].fields
        realisations = tuple(number for store in stores for number in store.table.realisations)
        self.table = JointTable(realisations, np.concatenate([store.table.lengths for store in stores]))
        self._starts = np.cumsum([0, *(store.table.num_snapshots for store in stores)])

    def shape(self, field: str) -> tuple[int, ...]:
        """Shape of one snapshot in file layout."""
        return self._stores[0].shape(field)

    def dtype(self, field: str) -> np.dtype:
        """Number format of a field."""
        return self._stores[0].dtype(field)

    def read(self, field: str, snapshots: np.ndarray, out: np.ndarray) -> None:
        """Copy snapshots of a field, numbered through all stores; see Store.read."""
        shape, dtype = (len(snapshots), *self.shape(field)), self.dtype(field)
        if out.shape != shape or out.dtype != dtype:
            raise ShapeError(
                f"{field}: samples go into an array of {dtype} of shape {shape}, not {out.dtype} of {out.shape}"
            )
        owners = np.searchsorted(self._starts, snapshots, side="right") - 1
        if len(owners) and (owners.min() < 0 or owners.max() >= len(self._stores)):
            raise IndexError(f"snapshots {snapshots.min()} to {snapshots.max()} of {self.table.num_snapshots}")
        for index in np.unique(owners).tolist():
            mine = np.flatnonzero(owners == index)
            part = np.empty((len(mine), *out.shape[1:]), out.dtype)
            self._stores[index].read(field, snapshots[mine] - self._starts[index], part)
            out[mine] = part

    def expect(self, field: str, snapshots: np.ndarray) -> None:
        """Tell every store what will be read next of its snapshots."""
        owners = np.searchsorted(self._starts, snapshots, side="right") - 1
        for index in np.unique(owners).tolist():
            self._stores[index].expect(field, snapshots[owners == index] - self._starts[index])

    def new_epoch(self) -> None:
        """Look again whether the data are still those of their catalogues."""
        for store in self._stores:
            store.new_epoch()

    def close(self) -> None:
        """Nothing to do: the stores belong to whoever opened them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
