"""How one field lies in a shard: a chunk for every snapshot, which filters it passes, what it says of itself.

Filters in their order: byte shuffle and codec if compressed (Blosc shuffles itself), then Fletcher-32, which thus
covers what is stored. HDF5 leaves out a codec, with a bit in that chunk's filter mask, where it would make the chunk
longer.

What a disk lost reads as zeros, and the Fletcher-32 checksum of zeros is zero: so every field says which of its
snapshots were zero when they were written, a bit for each.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcsurrogate.core.config import Compression
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.layout import RANKS, ShardHeader, snapshot_shape, texts
from hpcsurrogate.sources.hdf5 import (
    BLOSC,
    ZSTD,
    filter_codes,
    filter_plugins,
    find_array,
    read_attribute,
    read_fixed_text,
    translated_faults,
)

GZIP_LEVEL = 4
ZEROS = "zero_snapshots"  # attribute of every field
LOST = "holds zeros that were not written, as a disk leaves them"

# Filters of HDF5 before Fletcher-32, by codec.
FILTERS = {
    "none": (),
    "gzip": (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE),
    "zstd": (h5py.h5z.FILTER_SHUFFLE, ZSTD),
    "blosc": (BLOSC,),
}

# Where the components lie in a cell, by layout and tensor rank (docs/architecture.md, "Conventions").
LOCATIONS = {
    ("collocated", 0): "points",
    ("collocated", 1): "points",
    ("collocated", 2): "points",
    ("staggered", 0): "centres",
    ("staggered", 1): "each component on the upper faces across its axis",
    ("staggered", 2): "diagonal at centres; off the diagonal upper in its two axes, central in a third",
}


def create_field(
    file: h5py.File, header: ShardHeader, name: str, dtype: np.dtype, compression: Compression
) -> h5py.Dataset:
    """Create the empty array of a field.

    Raises
    ------
    ConfigError    if the codec needs the extra `compression`, which is not installed
    """
    rank = FIELDS[name].rank
    group = file[f"t{rank}_fields"]
    # Written once more with one name more: HDF5 cannot lengthen an attribute.
    group.attrs["field_names"] = texts([*group.attrs["field_names"], name])
    one = snapshot_shape(name, header)
    array = group.create_dataset(
        name,
        (1, header.num_snapshots, *one),
        dtype=dtype,
        chunks=(1, 1, *one),
        fletcher32=True,
        track_times=False,
        **_codec_options(compression),
    )
    array.attrs["sample_varying"] = True
    array.attrs["time_varying"] = True
    array.attrs["dim_varying"] = [True] * header.num_dims
    array.attrs["units"] = np.bytes_(FIELDS[name].unit)
    array.attrs["location"] = np.bytes_(LOCATIONS[header.layout, rank])
    if rank == 2:
        array.attrs["symmetric"] = True
        array.attrs["antisymmetric"] = False
    return array


def _codec_options(compression: Compression) -> Mapping[str, Any]:
    if compression == "none":
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": GZIP_LEVEL, "shuffle": True}
    plugins = filter_plugins(f"compression {compression}")
    if compression == "zstd":
        return {**plugins.Zstd(), "shuffle": True}
    return dict(plugins.Blosc(cname="lz4", shuffle=plugins.Blosc.SHUFFLE))


def write_zeros(array: h5py.Dataset, is_zero: np.ndarray) -> None:
    """Note in a field which of its snapshots, bool (T,), are zero everywhere."""
    array.attrs[ZEROS] = np.packbits(is_zero)


def read_zeros(path: Path, array: h5py.Dataset) -> np.ndarray:
    """Return which snapshots of a field were zero everywhere when they were written, bool (T,).

    Raises
    ------
    DataError    if the field does not say
    """
    bits = read_attribute(path, array, ZEROS)
    num_snapshots = array.shape[1]
    if not isinstance(bits, np.ndarray) or bits.dtype != np.uint8 or bits.shape != (-(-num_snapshots // 8),):
        raise DataError(f"{path}: attribute {ZEROS} of {array.name} is not a bit for each snapshot; write it again")
    return np.unpackbits(bits, count=num_snapshots).astype(bool)


def find_fields(path: Path, file: h5py.File, header: ShardHeader) -> dict[str, h5py.Dataset]:
    """Return every field of a shard, checked against its header and the registry, in the registry's order.

    Raises
    ------
    DataError    if there is none, or one is unknown, not all there, or contradicts the header or this layout
    """
    found = {}
    for rank in RANKS:
        with translated_faults(path, f"looking up t{rank}_fields"):
            group = file.get(f"t{rank}_fields")
            if not isinstance(group, h5py.Group):
                raise DataError(f"{path}: there is no group t{rank}_fields; the file is not a shard")
            names = list(group)
        for name in names:
            if name not in FIELDS or FIELDS[name].rank != rank:
                raise DataError(
                    f"{path}: t{rank}_fields/{name} is no field of hpcsurrogate ({', '.join(FIELDS)}); write it again"
                )
            found[name] = _find_field(path, file, header, name)
    if not found:
        raise DataError(f"{path}: holds no field; run the stage that writes it again")
    return {name: found[name] for name in FIELDS if name in found}


def _find_field(path: Path, file: h5py.File, header: ShardHeader, name: str) -> h5py.Dataset:
    key = f"t{FIELDS[name].rank}_fields/{name}"
    array = find_array(path, file, key)
    one = snapshot_shape(name, header)
    expected = (1, header.num_snapshots, *one)
    if array.shape != expected or array.dtype not in (np.float32, np.float64):
        raise DataError(f"{path}: {key} is {array.dtype} of shape {array.shape}, expected floats of {expected}")
    if array.chunks != (1, 1, *one):
        raise DataError(f"{path}: {key} has chunks {array.chunks}, expected one for each snapshot; write it again")
    *codec, checksum = filter_codes(array) or (None,)
    if tuple(codec) not in FILTERS.values() or checksum != h5py.h5z.FILTER_FLETCHER32:
        raise DataError(f"{path}: {key} has no checksum, or unknown filters {filter_codes(array)}; write it again")
    unit = read_fixed_text(path, array, "units")
    if unit != FIELDS[name].unit:
        raise DataError(f"{path}: {key} is in {unit}, expected {FIELDS[name].unit}; convert the data")
    return array
