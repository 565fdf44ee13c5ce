"""Opening HDF5 files without being led elsewhere, and without taking a missing part for data.

HDF5 follows external links, virtual data sets and external storage silently, and reads a chunk that was never
written as zeros. Every file of ours and of users is opened through `open_hdf5`, and every array is looked at
with `find_array`, so that each of these is one line that names the file and the key.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcsurrogate.core.errors import DataError

# What h5py raises when the bytes of a file make no sense; which one depends on where the damage lies.
HDF5_FAULTS = (OSError, KeyError, RuntimeError, ValueError, TypeError, UnicodeDecodeError)


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Open a file read-only and refuse it if any link in it leaves the file.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    h5py.File

    Raises
    ------
    DataError    if the file is missing, is not HDF5, or holds a soft or external link

    Notes
    -----
    No byte outside the file is read (tests/unit/sources/test_hdf5.py).
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: file is missing; run the stage that writes it, or correct the path")
    with translated_faults(path, "opening it"):
        file = h5py.File(path, "r")
    with file:
        with translated_faults(path, "listing its contents"):
            _refuse_outside_links(path, file)
        yield file


@contextmanager
def translated_faults(path: Path, doing: str) -> Iterator[None]:
    """Turn whatever h5py raises on a damaged file into a DataError that names the file and what was being done."""
    try:
        yield
    except HDF5_FAULTS as error:
        # Messages of HDF5 may run over several lines; ours are one.
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: {doing} failed ({reason}); write or copy the file again") from None


def _refuse_outside_links(path: Path, group: h5py.Group) -> None:
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise DataError(f"{path}: {group.name.rstrip('/')}/{name} is a link to elsewhere, which is not followed;"
                            " copy the data into the file")  # fmt: skip
        member = group[name]
        if isinstance(member, h5py.Group):
            _refuse_outside_links(path, member)


def read_attribute(path: Path, owner: h5py.Group | h5py.Dataset, name: str) -> Any:
    """Return an attribute.

    Raises
    ------
    DataError    if it is missing or unreadable, naming the file and the key
    """
    with translated_faults(path, f"reading attribute {name} of {owner.name}"):
        if name in owner.attrs:
            return owner.attrs[name]
    raise DataError(f"{path}: {owner.name} has no attribute {name}; the file is not in the expected layout")


def find_array(path: Path, file: h5py.File, key: str) -> h5py.Dataset:
    """Return a data set whose every value lies in this file.

    Raises
    ------
    DataError    if it is missing, is no array, is virtual or stored outside, or a chunk of it was never written

    Notes
    -----
    An unwritten chunk would read as zeros (tests/unit/sources/test_hdf5.py).
    """
    with translated_faults(path, f"looking up {key}"):
        array = file.get(key)
        if not isinstance(array, h5py.Dataset):
            raise DataError(f"{path}: there is no array {key}; the file is not in the expected layout")
        if array.is_virtual or array.external:
            raise DataError(
                f"{path}: {key} is stored in other files, which are not followed; copy the data into the file"
            )
        written, expected = count_chunks(array)
    if written != expected:
        raise DataError(
            f"{path}: {key} holds {written} of {expected} chunks, the rest was never written; write it again"
        )
    return array


def count_chunks(array: h5py.Dataset) -> tuple[int, int]:
    """Return how many chunks of an array are in the file and how many its shape asks for."""
    if array.size == 0:
        return 0, 0
    if array.chunks is None:
        # Compact arrays lie in the object header and have no address of their own.
        compact = array.id.get_create_plist().get_layout() == h5py.h5d.COMPACT
        return int(compact or array.id.get_offset() is not None), 1
    expected = int(np.prod([-(-length // chunk) for length, chunk in zip(array.shape, array.chunks, strict=True)]))
    return array.id.get_num_chunks(), expected
