"""What every store is: snapshots of some realisations and fields, by number."""

from typing import Protocol, Self

import numpy as np

from hpcsurrogate.data.snapshot_table import SnapshotTable


class Store(Protocol):
    """Serves snapshots as they lie in the files, components last; a context manager.

    Attributes
    ----------
    table : SnapshotTable    its numbers are those of the snapshots
    fields : tuple of str

    Notes
    -----
    All stores give the same numbers (tests/parallel/test_stores.py).
    """

    table: SnapshotTable
    fields: tuple[str, ...]

    def shape(self, field: str) -> tuple[int, ...]:
        """Return the shape of a snapshot, (nx, ny[, nz][, component][, component])."""

    def dtype(self, field: str) -> np.dtype:
        """Return the precision of a field."""

    def read(self, field: str, snapshots: np.ndarray, out: np.ndarray) -> None:
        """Copy snapshots of a field; for one thread at a time.

        Parameters
        ----------
        field : str
        snapshots : ndarray, shape (n,), int64    numbers in `table`, in any order, repeats allowed
        out : ndarray, shape (n, *shape(field))   of dtype(field), C-contiguous; written

        Raises
        ------
        DataError     if what is stored is damaged or was replaced
        IndexError    if there is no such snapshot
        ShapeError    if `out` has another shape, precision or memory order
        """

    def expect(self, field: str, snapshots: np.ndarray) -> None:
        """Take note of the snapshots that will be read next: a store that waits for a disk has them under way."""

    def new_epoch(self) -> None:
        """Look again whether the data are still those of the catalogue, where they can change under the store."""

    def close(self) -> None:
        """Give back files and memory; collective where memory is shared."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...
