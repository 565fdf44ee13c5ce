"""Shards: one HDF5 file per realisation, written and read snapshot by snapshot.

Chunk = one snapshot, with Fletcher-32. HDF5 1.10's file format, whose metadata carries checksums and which 1.10 reads.
"""

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import h5py
import numpy as np

from hpcsurrogate.core.atomic import atomic_path
from hpcsurrogate.core.errors import DataError, ShapeError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.layout import (
    NUM_COMPONENTS,
    ShardHeader,
    create_field,
    field_names,
    from_file,
    read_header,
    to_file,
    write_layout,
)
from hpcsurrogate.sources.hdf5 import find_array, open_hdf5, read_attribute, translated_faults

__all__ = ["ShardHeader", "ShardReader", "ShardWriter"]

OUT_OF_ROOM = {
    errno.ENOSPC: "disk full: free space or change run_dir",
    errno.EFBIG: "larger than files may be here: raise `ulimit -f` or change run_dir",
}


class ShardWriter:
    """Writes one shard, snapshot by snapshot; a context manager.

    The file appears under its name when the block ends without an error and all snapshots were appended.

    Parameters
    ----------
    path : str or Path
    header : ShardHeader
    fields : sequence of str    names in core.fields.FIELDS
    dtype : str                 "float32" or "float64"

    Raises
    ------
    OSError       (ENOSPC) if the disk has no room for the file, before the first snapshot where that can be known
    DataError     if fewer or more snapshots were appended than the header promises
    ShapeError    if a field has another shape than the header promises

    Notes
    -----
    A failure leaves nothing under the final name (tests/unit/data/test_shards.py).
    """

    def __init__(self, path: str | Path, header: ShardHeader, fields: Sequence[str], dtype: str = "float32"):
        self.path, self.header, self.fields, self.dtype = Path(path), header, tuple(fields), np.dtype(dtype)
        self._stack = ExitStack()
        self._arrays: dict[str, h5py.Dataset] = {}
        self._count = 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._require_room()
        with self._stack as stack:
            stack.enter_context(_full_disk_named(self.path))
            temporary = stack.enter_context(atomic_path(self.path))
            file = stack.enter_context(_new_file(temporary))
            write_layout(file, self.header)
            for name in self.fields:
                self._arrays[name] = create_field(file, self.header, name, self.dtype)
            self._stack = stack.pop_all()
        return self

    def append(self, values: Mapping[str, np.ndarray]) -> None:
        """Add one snapshot: for every field an array of shape (component, nx, ny), cast to the shard's precision."""
        for name in self.fields:
            expected = (NUM_COMPONENTS[FIELDS[name].rank], *self.header.grid_shape)
            if values[name].shape != expected:
                raise ShapeError(f"{self.path}: {name} has shape {values[name].shape}, expected {expected}")
        if self._count == self.header.num_snapshots:
            raise DataError(f"{self.path}: more snapshots than the {self._count} the header promises")
        with _full_disk_named(self.path):
            for name, array in self._arrays.items():
                array[0, self._count] = to_file(values[name].astype(self.dtype, copy=False), FIELDS[name].rank)
        self._count += 1

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None or self._count == self.header.num_snapshots:
            self._stack.__exit__(kind, *exception)
            return
        # Raised inside the block that renames the file, so that it is removed instead.
        with self._stack:
            raise DataError(f"{self.path}: {self._count} of {self.header.num_snapshots} snapshots were written")

    def _require_room(self) -> None:
        # Asked before the work and not after hours of it; the file system has the last word all the same.
        components = sum(2 ** FIELDS[name].rank for name in self.fields)
        needed = components * self.dtype.itemsize * int(np.prod(self.header.grid_shape)) * self.header.num_snapshots
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            remedy = f"needs {needed / 1e6:.3g} MB, {free / 1e6:.3g} MB are free; free space or change run_dir"
            raise OSError(errno.ENOSPC, f"disk full: {remedy}", str(self.path))


@contextmanager
def _new_file(path: Path) -> Iterator[h5py.File]:
    """Create an HDF5 file, in the format that 1.10 reads and whose metadata carries checksums."""
    # No cache of chunks: each is written whole and once, and a full disk shows at the snapshot that meets it.
    file = h5py.File(path, "w", libver=("v110", "v110"), rdcc_nbytes=0)
    try:
        yield file
        file.flush()  # a close that fails crashes the process when it ends; a flush that fails does not
        file.close()
    except BaseException:
        # After a write that failed HDF5 cannot close the file in order; the first error is the one to report.
        with suppress(RuntimeError, OSError):
            file.close()
        raise


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    """HDF5 says in several lines, and not always as an OSError, that there is no room for the file."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        for number, remedy in OUT_OF_ROOM.items():
            if getattr(error, "errno", None) == number or f"errno = {number}," in str(error):
                raise OSError(number, remedy, str(path)) from None
        raise


class ShardReader:
    """Reads one shard; a context manager.

    Parameters
    ----------
    path : str or Path

    Attributes
    ----------
    header : ShardHeader
    field_names : tuple of str
    times : ndarray, shape (num_snapshots,), float64 [s]

    Raises
    ------
    DataError    if the file is damaged, lacks a key, leads outside itself, or an array contradicts the header

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
            self._arrays = {name: self._find_field(file, name) for name in field_names(self.path, file)}
            self.field_names = tuple(self._arrays)
            self.times = np.arange(self.header.num_snapshots) * self.header.snapshot_interval
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.__exit__(*exception)

    def snapshot(self, name: str, index: int) -> np.ndarray:
        """Return one snapshot of a field, shape (component, nx, ny); a negative index counts from the end."""
        if not -self.header.num_snapshots <= index < self.header.num_snapshots:
            raise DataError(f"{self.path}: there is no snapshot {index}; the shard holds {self.header.num_snapshots}")
        index %= self.header.num_snapshots
        return self.read(name, index, index + 1)[0]

    def read(self, name: str, start: int = 0, stop: int | None = None, step: int = 1) -> np.ndarray:
        """Return snapshots start, start + step, ... before stop.

        Returns
        -------
        ndarray, shape (time, component, nx, ny)    [the field's unit] in the precision of the shard

        Raises
        ------
        DataError    if the shard has no such field, or a checksum does not match
        """
        if name not in self._arrays:
            raise DataError(f"{self.path}: there is no field {name}; the shard holds {', '.join(self.field_names)}")
        with translated_faults(self.path, f"reading {self._arrays[name].name}"):
            values = self._arrays[name][0, start:stop:step]
        return from_file(values, FIELDS[name].rank)

    def _find_field(self, file: h5py.File, name: str) -> h5py.Dataset:
        if name not in FIELDS:
            raise DataError(
                f"{self.path}: {name} is no field of hpcsurrogate ({', '.join(FIELDS)}); write the file again"
            )
        rank = FIELDS[name].rank
        array = find_array(self.path, file, f"t{rank}_fields/{name}")
        expected = (1, self.header.num_snapshots, *self.header.grid_shape, *(2,) * rank)
        if array.shape != expected or array.dtype not in (np.float32, np.float64):
            raise DataError(
                f"{self.path}: {array.name} is {array.dtype} of shape {array.shape}, expected floats of {expected}"
            )
        unit = read_attribute(self.path, array, "units")
        if unit != FIELDS[name].unit:
            raise DataError(f"{self.path}: {array.name} is in {unit}, expected {FIELDS[name].unit}; convert the data")
        return array
