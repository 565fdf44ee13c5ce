"""A chunk that a disk lost reads as zeros with a valid checksum: refused, unless zeros were what was written."""

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.chunks import ChunkTable
from hpcsurrogate.data.shards import ShardHeader, ShardReader, ShardWriter
from hpcsurrogate.data.stores.node import NodeStore
from hpcsurrogate.data.stores.stream import StreamStore

GRID, NUM_SNAPSHOTS, AT_REST = (8, 6), 11, 4  # more than eight: more than one byte of marks


def write_directory(directory, compression):
    """One shard whose fifth snapshot is a fluid at rest."""
    values = np.random.default_rng(0).standard_normal((NUM_SNAPSHOTS, 2, *GRID)).astype(np.float32)
    values[AT_REST] = 0.0
    values[0, :, 0] = 0.0  # a snapshot that only begins with zeros
    path = directory / shard_name(0, 0)
    with ShardWriter(path, ShardHeader("zeros", 0, NUM_SNAPSHOTS, 0.1, GRID, (1.0, 1.0)), ("velocity",),
                     compression=compression) as shard:  # fmt: skip
        for snapshot in values:
            shard.append({"velocity": snapshot})
    Catalogue.from_shards(directory, [catalogue_shard(path)]).write()
    return path, values


def read_shard(directory):
    with ShardReader(directory / shard_name(0, 0)) as shard:
        return shard.read("velocity")


def read_store(kind):
    def read(directory):
        with kind(Catalogue.read(directory), (0,), ("velocity",)) as store:
            out = np.empty((NUM_SNAPSHOTS, *store.shape("velocity")), np.float32)
            store.read("velocity", np.arange(NUM_SNAPSHOTS), out)
            return np.moveaxis(out, -1, 1)

    return read


READERS = {"shard": read_shard, "stream": read_store(StreamStore), "node": read_store(NodeStore)}


def lose(path, index):
    """Zeros in place of a chunk and its checksum, as after a crash that the file system did not survive."""
    with ShardReader(path) as shard:
        table = ChunkTable(shard, "velocity")
    content = bytearray(path.read_bytes())
    begin, size = int(table.offsets[index]), int(table.stored_sizes[index])
    content[begin : begin + size] = bytes(size)
    path.write_bytes(content)


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("reader", READERS)
def test_zeros_that_were_written_are_read(tmp_path, reader, compression):
    _, values = write_directory(tmp_path, compression)
    np.testing.assert_array_equal(READERS[reader](tmp_path), values)


@pytest.mark.parametrize("reader", READERS)
def test_zeros_that_were_not_written_are_refused(tmp_path, reader):
    path, _ = write_directory(tmp_path, "none")
    lose(path, NUM_SNAPSHOTS - 1)
    with pytest.raises(DataError, match=r"velocity, snapshot 10 of the file: holds zeros that were not written"):
        READERS[reader](tmp_path)


@pytest.mark.parametrize("reader", READERS)
def test_lost_bytes_of_a_compressed_chunk_are_refused(tmp_path, reader):
    path, _ = write_directory(tmp_path, "gzip")
    lose(path, NUM_SNAPSHOTS - 1)
    with pytest.raises(DataError, match="velocity"):
        READERS[reader](tmp_path)
