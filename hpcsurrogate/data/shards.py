"""Shards: a block of consecutive snapshots of a realisation in one HDF5 file, written and read snapshot by snapshot.

Chunk = one snapshot, with Fletcher-32. HDF5 1.10's file format, whose metadata carries checksums and which 1.10 reads.
"""

import errno
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import h5py
import numpy as np

from hpcsurrogate.core.config import Compression
from hpcsurrogate.core.errors import DataError, ShapeError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.field_arrays import LOST, create_field, find_fields, read_zeros, write_zeros
from hpcsurrogate.data.layout import ShardHeader, from_file, read_header, snapshot_shape, to_file, write_layout
from hpcsurrogate.data.new_file import new_hdf5
from hpcsurrogate.sources.hdf5 import open_hdf5, translated_faults

__all__ = ["ShardHeader", "ShardReader", "ShardWriter"]


class ShardWriter:
    """Writes one shard, snapshot by snapshot; a context manager.

    The file appears under its name when the block ends without an error and all snapshots were appended.

    Parameters
    ----------
    path : str or Path
    header : ShardHeader
    fields : sequence of str    names in core.fields.FIELDS
    dtype : str                 "float32" or "float64"
    compression : str           "none", "gzip", "zstd" or "blosc"

    Raises
    ------
    OSError       (ENOSPC) if the disk has no room for the file, before the first snapshot where that can be known
    ConfigError   if the codec needs the extra `compression`, which is not installed
    DataError     if fewer or more snapshots were appended than the header promises
    ShapeError    if a field has another shape than the header promises

    Notes
    -----
    A failure leaves nothing under the final name (tests/unit/data/test_shards.py).
    """

    def __init__(
        self,
        path: str | Path,
        header: ShardHeader,
        fields: Sequence[str],
        dtype: str = "float32",
        compression: Compression = "none",
    ):
        self.path, self.header, self.fields = Path(path), header, tuple(fields)
        self.dtype, self.compression = np.dtype(dtype), compression
        self._stack = ExitStack()
        self._arrays: dict[str, h5py.Dataset] = {}
        self._is_zero = {name: np.zeros(header.num_snapshots, dtype=bool) for name in self.fields}
        self._count = 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._require_room()
        with self._stack as stack:
            file = stack.enter_context(new_hdf5(self.path))
            write_layout(file, self.header)
            for name in self.fields:
                self._arrays[name] = create_field(file, self.header, name, self.dtype, self.compression)
            self._stack = stack.pop_all()
        return self

    def append(self, values: Mapping[str, np.ndarray]) -> None:
        """Add one snapshot: for every field an array of shape (component, nx, ny[, nz]), cast to its precision."""
        for name in self.fields:
            expected = (FIELDS[name].num_components_in(self.header.num_dims), *self.header.grid_shape)
            if values[name].shape != expected:
                raise ShapeError(f"{self.path}: {name} has shape {values[name].shape}, expected {expected}")
        if self._count == self.header.num_snapshots:
            raise DataError(f"{self.path}: more snapshots than the {self._count} the header promises")
        for name, array in self._arrays.items():
            stored = values[name].astype(self.dtype, copy=False)
            array[0, self._count] = to_file(stored, FIELDS[name].rank)
            self._is_zero[name][self._count] = not stored.any()
        self._count += 1

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None:
            self._stack.__exit__(kind, *exception)
            return
        # An error inside the block that renames the file removes it instead.
        with self._stack:
            if self._count == self.header.num_snapshots:
                for name, array in self._arrays.items():
                    write_zeros(array, self._is_zero[name])
                return
            raise DataError(f"{self.path}: {self._count} of {self.header.num_snapshots} snapshots were written")

    def _require_room(self) -> None:
        # Asked before the work and not after hours of it; the file system has the last word all the same.
        # What compression will leave is not known.
        if self.compression != "none":
            return
        numbers = sum(math.prod(snapshot_shape(name, self.header)) for name in self.fields)
        needed = numbers * self.dtype.itemsize * self.header.num_snapshots
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            remedy = f"needs {needed / 1e6:.3g} MB, {free / 1e6:.3g} MB are free; free space or change run_dir"
            raise OSError(errno.ENOSPC, f"disk full: {remedy}", str(self.path))


class ShardReader:
    """Reads one shard; a context manager.

    Parameters
    ----------
    path : str or Path

    Attributes
    ----------
    header : ShardHeader
    field_names : tuple of str
    times : ndarray, shape (num_snapshots,), float64 [s], from the beginning of the realisation

    Raises
    ------
    DataError      if the file is damaged, lacks a key, leads outside itself, or an array contradicts the header
    ConfigError    if it is compressed by a codec of the extra `compression`, which is not installed

    Notes
    -----
    Missing keys, links, unwritten chunks: tests/unit/data/test_shards.py.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            file = stack.enter_context(open_hdf5(self.path))
            self.header = read_header(self.path, file)
            self._arrays = find_fields(self.path, file, self.header)
            self.field_names = tuple(self._arrays)
            self._is_zero = {name: read_zeros(self.path, array) for name, array in self._arrays.items()}
            self.times = self.header.times
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.__exit__(*exception)

    def snapshot(self, name: str, index: int) -> np.ndarray:
        """Return one snapshot of a field, shape (component, nx, ny[, nz]); a negative index counts from the end."""
        if not -self.header.num_snapshots <= index < self.header.num_snapshots:
            raise DataError(f"{self.path}: there is no snapshot {index}; the shard holds {self.header.num_snapshots}")
        index %= self.header.num_snapshots
        return self.read(name, index, index + 1)[0]

    def read(self, name: str, start: int = 0, stop: int | None = None, step: int = 1) -> np.ndarray:
        """Return snapshots start, start + step, ... before stop.

        Returns
        -------
        ndarray, shape (time, component, nx, ny[, nz])    [the field's unit] in the precision of the shard

        Raises
        ------
        DataError    if the shard has no such field, a checksum does not match, or a snapshot is zero that was not
        """
        array = self.dataset(name)
        with translated_faults(self.path, f"reading {array.name}"):
            values = array[0, start:stop:step]
        for index, snapshot in zip(range(self.header.num_snapshots)[start:stop:step], values, strict=True):
            # The first number is looked at before all: few snapshots begin with a zero.
            if snapshot.flat[0] == 0 and not self._is_zero[name][index] and not snapshot.any():
                raise DataError(
                    f"{self.path}: {array.name}, snapshot {index} of the file: {LOST}; "
                    "copy the file again or run the stage that writes it"
                )
        return from_file(values, FIELDS[name].rank)

    def is_zero(self, name: str) -> np.ndarray:
        """Return which snapshots of a field were zero everywhere when they were written, bool (T,)."""
        self.dataset(name)
        return self._is_zero[name]

    def dataset(self, name: str) -> h5py.Dataset:
        """Return the checked array of a field as it lies in the file, (1, time, nx, ny[, nz][, d][, d]).

        Raises
        ------
        DataError    if the shard has no such field
        """
        if name not in self._arrays:
            raise DataError(f"{self.path}: there is no field {name}; the shard holds {', '.join(self.field_names)}")
        return self._arrays[name]
