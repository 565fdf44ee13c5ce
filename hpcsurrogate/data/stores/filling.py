"""From shards into memory: every byte is read once, hashed and unpacked while it is at hand."""

import hashlib
from collections.abc import Mapping
from io import FileIO

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.catalogue import SnapshotTable
from hpcsurrogate.data.chunks import ChunkTable

BLOCK = 2**20  # bytes read at once of what is hashed and not kept
_REMEDY = "run the stage that writes it again"


def load_shard(table: SnapshotTable, shard: int, start: int, stop: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Copy snapshots start to stop of a shard into memory.

    A whole shard must have the SHA-256 of the catalogue; of a part (the rest is another rank's) the checksums of the
    snapshots alone can be compared.

    Parameters
    ----------
    table : SnapshotTable
    shard : int [-]          its place in the table
    start, stop : int [-]    numbered from the shard's first snapshot
    arrays : dict            field -> ndarray, shape (stop - start, nx, ny[, nz][, component][, component]), written

    Raises
    ------
    DataError    if the file is not the one in the catalogue, or damaged, naming it

    Notes
    -----
    Reads every byte at most once, but for HDF5's directory of chunks (tests/parallel/test_stores.py).
    """
    with table.open_shard(shard) as reader:
        chunk_tables = {name: ChunkTable(reader, name) for name in arrays}
    chunks = sorted(
        (int(chunk_table.offsets[index]), int(chunk_table.stored_sizes[index]), name, index)
        for name, chunk_table in chunk_tables.items()
        for index in range(start, stop)
    )
    entry, path = table.shards[shard]
    digest = hashlib.sha256() if stop - start == entry.num_snapshots else None
    position, buffer = 0, memoryview(bytearray(max(BLOCK, *(size for _, size, _, _ in chunks))))
    with FileIO(path) as file:
        for offset, size, name, index in chunks:
            if digest:
                _hash_gap(file, offset - position, buffer, digest)
            file.seek(offset)
            stored = _read(file, buffer[:size])
            if digest:
                digest.update(stored)
            chunk_tables[name].decode(stored, arrays[name][index - start], index)
            position = offset + size
        if digest:
            _hash_gap(file, entry.size - position, buffer, digest)
    if digest and digest.hexdigest() != entry.sha256:
        raise DataError(f"{path}: SHA-256 differs from the catalogue; {_REMEDY}")


def _hash_gap(file: FileIO, num_bytes: int, buffer: memoryview, digest: "hashlib._Hash") -> None:
    """Hash the bytes between two chunks."""
    if num_bytes < 0:
        raise DataError(f"{file.name}: chunks overlap or lie beyond the size in the catalogue; {_REMEDY}")
    while num_bytes > 0:
        piece = _read(file, buffer[: min(num_bytes, len(buffer))])
        digest.update(piece)
        num_bytes -= len(piece)


def _read(file: FileIO, piece: memoryview) -> memoryview:
    """Fill a piece of memory from a file. Raises DataError at the file's end."""
    done = 0
    while done < len(piece):
        count = file.readinto(piece[done:])
        if not count:
            raise DataError(f"{file.name}: ends early; {_REMEDY}")
        done += count
    return piece
