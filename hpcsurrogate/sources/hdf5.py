"""Opening HDF5 files without being led elsewhere, and without taking a missing part for data.

HDF5 follows external links, virtual data sets and external storage silently, reads a chunk that was never written as
zeros, and allocates what a header declares. Every file of ours and of users is opened through `open_hdf5`, and every
array is looked at with `find_array`, so that each of these is one line that names the file and the key.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py

from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.sources.file_locking import open_file

# What h5py raises when the bytes of a file make no sense; which one depends on where the damage lies.
HDF5_FAULTS = (OSError, KeyError, RuntimeError, ValueError, TypeError, UnicodeDecodeError)

DEEPEST = 8  # groups within groups; a shard has two
BLOSC, ZSTD = 32001, 32015  # registered numbers of filters that HDF5 itself does not bring
# Bytes that one stored byte can stand for: a limit of deflate's format, and of zstd's blocks of one repeated byte.
MOST_BY_DEFLATE, MOST_BY_OTHERS = 1032, 1 << 15


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Open a file read-only and refuse it if a link in it leaves the file or its groups are no plain tree.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    h5py.File

    Raises
    ------
    DataError    if the file is missing, cannot be locked, is not HDF5, or holds a soft or external link, a group with
                 two names (a cycle is one), a name twice in a group or that is no text, or groups nested deeper than 8

    Notes
    -----
    No byte outside the file is read (tests/unit/sources/test_hdf5.py).
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: file is missing; run the stage that writes it, or correct the path")
    with translated_faults(path, "opening it"):
        file = open_file(path, "r")
    with file:
        with translated_faults(path, "listing its contents"):
            _require_plain_tree(path, file, "", {h5py.h5o.get_info(file.id).addr})
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


def _require_plain_tree(path: Path, group: h5py.Group, place: str, known_groups: set[int]) -> None:
    """`known_groups` are the addresses of those met so far."""
    if place.count("/") > DEEPEST:
        raise DataError(f"{path}: {place} lies in more than {DEEPEST} groups; put the data into fewer")
    names = list(group)
    if len(set(names)) < len(names):
        raise DataError(f"{path}: {place or '/'} holds a name twice; write or copy the file again")
    for name in names:
        if isinstance(name, bytes):  # as h5py gives one that says it is UTF-8 and is not
            raise DataError(f"{path}: {place or '/'} holds a name that is no text; write or copy the file again")
        key, stored_name = f"{place}/{name}", name.encode("utf-8", "surrogateescape")
        if group.id.links.get_info(stored_name).type != h5py.h5l.TYPE_HARD:
            raise DataError(f"{path}: {key} is a link to elsewhere, which is not followed; copy the data into the file")
        member = h5py.h5o.get_info(group.id, stored_name)
        if member.type == h5py.h5o.TYPE_GROUP:
            if member.addr in known_groups:
                raise DataError(f"{path}: {key} is another name of a group, perhaps of one that it lies in; remove it")
            known_groups.add(member.addr)
            _require_plain_tree(path, group[name], key, known_groups)


def read_attribute(path: Path, owner: h5py.Group | h5py.Dataset, name: str) -> Any:
    """Return an attribute.

    Raises
    ------
    DataError    if it is missing, there twice, empty or unreadable, naming the file and the key
    """
    _require_one(path, owner, name)
    with translated_faults(path, f"reading attribute {name} of {owner.name}"):
        value = owner.attrs[name]
    if isinstance(value, h5py.Empty):
        raise DataError(f"{path}: attribute {name} of {owner.name} is empty; the file is not in the expected layout")
    return value


def read_fixed_text(path: Path, owner: h5py.Group | h5py.Dataset, name: str) -> str:
    """Return an attribute that is one text of fixed length, which HDF5 keeps under a checksum.

    Raises
    ------
    DataError    as `read_attribute`; and if it is of another kind: a text of variable length is not even read
    """
    _require_one(path, owner, name)
    with translated_faults(path, f"reading attribute {name} of {owner.name}"):
        attribute = owner.attrs.get_id(name)
        if attribute.dtype.kind != "S" or attribute.shape != ():
            raise DataError(f"{path}: attribute {name} of {owner.name} is not one text of fixed length; write it again")
        return owner.attrs[name].decode("utf-8")


def _require_one(path: Path, owner: h5py.Group | h5py.Dataset, name: str) -> None:
    with translated_faults(path, f"listing the attributes of {owner.name}"):
        times = list(owner.attrs).count(name)
    if times == 0:
        raise DataError(f"{path}: {owner.name} has no attribute {name}; the file is not in the expected layout")
    if times > 1:
        raise DataError(f"{path}: {owner.name} has attribute {name} {times} times; write or copy the file again")


def find_array(path: Path, file: h5py.File, key: str) -> h5py.Dataset:
    """Return a data set of ordinary numbers whose every value lies in this file.

    Raises
    ------
    DataError      if it is missing or no array, is virtual or stored outside, holds anything but integers, floats or
                   truth values, declares more than the file can hold, or a chunk of it was never written
    ConfigError    if it is compressed by a codec of the extra `compression`, which is not installed

    Notes
    -----
    An unwritten chunk would read as zeros (tests/unit/sources/test_hdf5.py).
    """
    with translated_faults(path, f"looking up {key}"):
        # Not by file.get, which hides why an array that is there cannot be opened.
        if key not in file or not isinstance(array := file[key], h5py.Dataset):
            raise DataError(f"{path}: there is no array {key}; the file is not in the expected layout")
        if array.is_virtual or array.external:
            raise DataError(
                f"{path}: {key} is stored in other files, which are not followed; copy the data into the file"
            )
        _require_ordinary_numbers(path, key, array)
        _require_known_filters(path, key, array)
        _require_contents(path, key, array)
    return array


def _require_ordinary_numbers(path: Path, key: str, array: h5py.Dataset) -> None:
    kind = array.id.get_type()
    # h5py reads a float of 20 bits as one of 32, for instance; whoever reads chunks as they lie would not.
    if array.dtype.kind not in "biuf" or not kind.equal(h5py.h5t.py_create(array.dtype, logical=True)):
        raise DataError(f"{path}: {key} holds {array.dtype}, not ordinary numbers; convert the data")
    if array.shape is None:
        raise DataError(f"{path}: {key} has no shape; the file is not in the expected layout")


def _require_known_filters(path: Path, key: str, array: h5py.Dataset) -> None:
    missing = [code for code in filter_codes(array) if not h5py.h5z.filter_avail(code)]
    if missing:
        filter_plugins(f"{path}: {key}")
    for code in missing:
        if not h5py.h5z.filter_avail(code):
            raise DataError(f"{path}: {key} is stored with the unknown filter {code}; compress it with gzip or zstd")


def _require_contents(path: Path, key: str, array: h5py.Dataset) -> None:
    """Asked before anything is allocated for the array."""
    written, expected = count_chunks(array)
    if written != expected:
        raise DataError(
            f"{path}: {key} holds {written} of {expected} chunks, the rest was never written; write it again"
        )
    stored, factor = array.id.get_storage_size(), _most_from_one_byte(array)
    if stored > path.stat().st_size or array.nbytes > stored * factor:
        raise DataError(
            f"{path}: {key} declares {array.nbytes} bytes, more than the {stored} that are stored can hold;"
            " write or copy the file again"
        )


def _most_from_one_byte(array: h5py.Dataset) -> int:
    codecs = set(filter_codes(array)) - {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
    if not codecs:
        return 1
    return MOST_BY_DEFLATE if codecs == {h5py.h5z.FILTER_DEFLATE} else MOST_BY_OTHERS


def filter_codes(array: h5py.Dataset) -> tuple[int, ...]:
    """Return the registered numbers of the filters that every chunk passed, in their order."""
    plist = array.id.get_create_plist()
    return tuple(plist.get_filter(index)[0] for index in range(plist.get_nfilters()))


def filter_plugins(purpose: str) -> ModuleType:
    """Load the filters that HDF5 does not bring, and return the module that has their options.

    Parameters
    ----------
    purpose : str    what needs them, for the message

    Raises
    ------
    ConfigError    if they are not installed
    """
    try:
        import hdf5plugin  # an extra; its import adds the filters to HDF5 for the whole process
    except ImportError:
        raise ConfigError(
            f"{purpose} needs filters that are not installed; pip install 'hpcsurrogate[compression]'"
        ) from None
    return hdf5plugin


def count_chunks(array: h5py.Dataset) -> tuple[int, int]:
    """Return how many chunks of an array are in the file and how many its shape asks for."""
    if array.size == 0:
        return 0, 0
    if array.chunks is None:
        # Compact arrays lie in the object header and have no address of their own.
        compact = array.id.get_create_plist().get_layout() == h5py.h5d.COMPACT
        return int(compact or array.id.get_offset() is not None), 1
    expected = math.prod(-(-length // chunk) for length, chunk in zip(array.shape, array.chunks, strict=True))
    return array.id.get_num_chunks(), expected
