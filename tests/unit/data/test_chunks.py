"""Chunks are found where HDF5 put them, decoded as HDF5 does, and no damaged one is taken for data."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data import chunks
from hpcsurrogate.data.catalogue import shard_name
from hpcsurrogate.data.chunks import ChunkTable
from hpcsurrogate.data.shards import ShardReader

COMPRESSIONS = ("none", "gzip", "zstd", "blosc")
REAL_LIST = chunks._list_chunks


def stored_chunk(path, table, index):
    with path.open("rb") as file:
        file.seek(table.offsets[index])
        return file.read(table.stored_sizes[index])


def decoded(path, table, index):
    out = np.zeros(table.shape, table.dtype)
    table.decode(stored_chunk(path, table, index), out, index)
    return out


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_equal_to_what_hdf5_reads(write_shards, num_dims, dtype, compression):
    directory, _ = write_shards(lengths=(3,), dtype=dtype, num_dims=num_dims, compression=compression)
    path = directory / shard_name(0)
    with ShardReader(path) as reader:
        for field in reader.field_names:
            table = ChunkTable(reader, field)
            assert (table.codec, table.dtype) == (compression, np.dtype(dtype))
            for index in range(3):
                np.testing.assert_array_equal(decoded(path, table, index), reader.dataset(field)[0, index])


@pytest.mark.parametrize(("compression", "options"), [("gzip", {"shuffle": True}), ("blosc", {})])
def test_chunks_that_the_codec_passed_by(write_shards, compression, options):
    """Blosc leaves alone what it cannot shrink; every second chunk is made so here, to have both kinds in one file."""
    directory, arrays = write_shards(lengths=(4,), compression=compression)
    path = directory / shard_name(0)
    codec_bit = 2 if compression == "gzip" else 1
    with h5py.File(path, "r+") as file:
        array = file["t1_fields/velocity"]
        for index in (1, 3):
            content = np.ascontiguousarray(array[0, index]).view(np.uint8).reshape(-1, 4)
            content = (content.T if options else content).tobytes()
            checksum = int(chunks.fletcher32(np.frombuffer(content, np.uint8)[None])[0]).to_bytes(4, "little")
            array.id.write_direct_chunk((0, index, 0, 0, 0), content + checksum, filter_mask=codec_bit)
    with ShardReader(path) as reader:
        table = ChunkTable(reader, "velocity")
    assert not table.is_compressed[[1, 3]].any()
    for index in range(4):
        np.testing.assert_array_equal(np.moveaxis(decoded(path, table, index), -1, 0), arrays[0]["velocity"][index])


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_flipped_bit_in_any_byte_of_a_chunk_is_noticed(write_shards, compression):
    directory, _ = write_shards(lengths=(2,), compression=compression)
    path = directory / shard_name(0)
    with ShardReader(path) as reader:
        table = ChunkTable(reader, "velocity")
    stored = bytearray(stored_chunk(path, table, 1))
    out = np.zeros(table.shape, table.dtype)
    for place in range(len(stored)):
        stored[place] ^= 1 << place % 8
        with pytest.raises(DataError, match=rf"{path}: /t1_fields/velocity, snapshot 1 of the file: the Fletcher-32"):
            table.decode(stored, out, 1)
        stored[place] ^= 1 << place % 8
    table.decode(stored, out, 1)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_chunk_of_another_size_is_noticed_though_its_checksum_matches(write_shards, compression):
    directory, _ = write_shards(lengths=(2,), compression=compression)
    path = directory / shard_name(0)
    with ShardReader(path) as reader:
        table = ChunkTable(reader, "velocity")
    content = stored_chunk(path, table, 0)[:-5]
    checksum = int(chunks.fletcher32(np.frombuffer(content, np.uint8)[None])[0]).to_bytes(4, "little")
    with pytest.raises(DataError, match=r"snapshot 0 of the file: (does not|cannot be) "):
        table.decode(content + checksum, np.zeros(table.shape, table.dtype), 0)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        (0, 10**9, "lies outside the file"),
        (0, -1, "lies outside the file"),
        (0, 0, "lies outside the file"),  # where the file begins there is something else
        (0, 2**63 - 1, "lies outside the file"),
        (1, 2**62, "lies outside the file"),
        (1, 0, "was never written"),
        (1, 4, "has an impossible size"),
        (1, 195, "has an impossible size"),
        (2, 1, "did not pass the filters"),
        (2, 2, "did not pass the filters"),
    ],
)
def test_an_impossible_place_is_refused(write_shards, monkeypatch, column, value, problem):
    """HDF5 guards its directory of chunks by checksums, so what a hostile file would say is said for it here."""
    directory, _ = write_shards(lengths=(3,))
    path = directory / shard_name(0)

    def hostile_list(array):
        columns = REAL_LIST(array)
        columns[column][2] = value
        return columns

    monkeypatch.setattr(chunks, "_list_chunks", hostile_list)
    with (
        ShardReader(path) as reader,
        pytest.raises(DataError, match=rf"{path}: /t1_fields/velocity, snapshot 2 of the file: {problem}"),
    ):
        ChunkTable(reader, "velocity")


def test_hdf5_is_asked_once_for_all_chunks(write_shards, monkeypatch):
    directory, _ = write_shards(lengths=(100,))
    with ShardReader(directory / shard_name(0)) as reader:
        array, calls = reader.dataset("velocity"), []
        counted = SimpleNamespace(chunk_iter=lambda visit: calls.append(array.id.chunk_iter(visit)))
        offsets, sizes, _ = REAL_LIST(SimpleNamespace(shape=array.shape, id=counted))
    assert len(calls) == 1
    assert len(np.unique(offsets)) == 100 and (sizes == 6 * 4 * 2 * 4 + 4).all()
