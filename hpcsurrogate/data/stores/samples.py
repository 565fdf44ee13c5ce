"""What one snapshot of a field takes in memory, known from the catalogue alone; snapshots in one block of bytes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.catalogue import SnapshotTable

ALIGNMENT = 64  # bytes, a cache line: where the snapshots of a field begin


class Sample(NamedTuple):
    """One snapshot of a field in file layout: shape (nx, ny[, nz][, component][, component]) and number format."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def num_bytes(self) -> int:
        """Size of the snapshot [bytes]."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def find_samples(table: SnapshotTable, fields: Sequence[str]) -> dict[str, Sample]:
    """Return what a snapshot of each field is, the same in all realisations of a table.

    Raises
    ------
    DataError    if the realisations lack a field
    """
    catalogue, first = table.catalogue, table.realisations[0]
    description = catalogue.description(first)
    if missing := [name for name in fields if name not in description.fields]:
        raise DataError(
            f"{catalogue.directory}: realisation {first} has no field {missing[0]}, only "
            f"{', '.join(description.fields)}; run the stage that writes it again"
        )
    grid, dtype = description.grid_shape, np.dtype(description.dtype)
    return {name: Sample((*grid, *(len(grid),) * FIELDS[name].rank), dtype) for name in fields}


def offsets_in_block(samples: Mapping[str, Sample], num_snapshots: int) -> dict[str, int]:
    """Return where in a block of this number of snapshots each field begins [bytes]."""
    offsets, start = {}, 0
    for name, sample in samples.items():
        offsets[name] = start
        start += _aligned(sample.num_bytes * num_snapshots)
    return offsets


def block_size(samples: Mapping[str, Sample], num_snapshots: int) -> int:
    """Size of a block that holds this number of snapshots of all fields [bytes]."""
    return sum(_aligned(sample.num_bytes * num_snapshots) for sample in samples.values())


def arrays_in_block(block: np.ndarray, samples: Mapping[str, Sample], num_snapshots: int) -> dict[str, np.ndarray]:
    """Return each field's part of a block of bytes as an array of shape (num_snapshots, *shape), without a copy."""
    offsets = offsets_in_block(samples, num_snapshots)
    return {
        name: block[offsets[name] : offsets[name] + sample.num_bytes * num_snapshots]
        .view(sample.dtype)
        .reshape(num_snapshots, *sample.shape)
        for name, sample in samples.items()
    }


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT
