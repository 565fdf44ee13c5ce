"""The stream store gives what the files hold, in any order; damage and replaced files are never taken for data."""

import os
import shutil

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError, ShapeError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.chunks import ChunkTable
from hpcsurrogate.data.layout import from_file
from hpcsurrogate.data.shards import ShardReader
from hpcsurrogate.data.stores import open_shards, stream
from hpcsurrogate.data.stores.stream import StreamStore

COMPRESSIONS = ("none", "gzip", "zstd", "blosc")


def open_stream(directory, realisations=(0, 1), fields=("velocity", "commutator", "sgs_stress"), threads=1):
    return StreamStore(Catalogue.read(directory), realisations, fields, threads)


def read(store, field, snapshots):
    """Snapshots as in memory, (n, component, nx, ny[, nz])."""
    out = np.full((len(snapshots), *store.shape(field)), np.nan, store.dtype(field))
    store.read(field, np.asarray(snapshots, dtype=np.int64), out)
    return from_file(out, FIELDS[field].rank)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(("num_dims", "dtype"), [(2, "float32"), (3, "float64")])
def test_every_field_in_any_order(write_shards, num_dims, dtype, compression, threads):
    directory, arrays = write_shards((7, 5), dtype, num_dims=num_dims, snapshots_per_shard=3, compression=compression)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(12), 2))  # each twice
    with open_stream(directory, (1, 0), threads=threads) as store:
        for field in store.fields:
            expected = np.concatenate([arrays[1][field], arrays[0][field]])
            for snapshots in (order, order, order[:1], order[:0]):  # the second time without checksums
                np.testing.assert_array_equal(read(store, field, snapshots), expected[snapshots])


def places_of(directory, field="velocity", realisation=0, index=1):
    """File, offset and stored size of a chunk."""
    path = directory / shard_name(realisation)
    with ShardReader(path) as reader:
        table = ChunkTable(reader, field)
    return path, int(table.offsets[index]), int(table.stored_sizes[index])


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_flipped_bit_in_any_byte_of_a_chunk_is_named(write_shards, compression):
    directory, _ = write_shards((3, 3), compression=compression)
    path, offset, size = places_of(directory)
    content = path.read_bytes()
    for place in range(offset, offset + size, 3):  # every byte: tests/unit/data/test_chunks.py
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with (
            open_stream(directory, fields=("velocity",)) as store,
            pytest.raises(DataError, match=rf"{path}: /t1_fields/velocity, snapshot 1 of the file: the Fletcher-32"),
        ):
            read(store, "velocity", [0, 5, 1])


def test_every_chunk_is_checked_when_it_is_first_read_whatever_was_read_before(write_shards):
    directory, arrays = write_shards((5,))
    path, offset, _ = places_of(directory, index=3)
    with open_stream(directory, (0,)) as store:
        read(store, "velocity", [0, 1, 2, 2])
        with path.open("r+b") as file:  # seen by the next epoch at the latest, by the checksum before
            file.seek(offset)
            file.write(b"\xff")
        for _ in range(2):
            with pytest.raises(DataError, match="snapshot 3 of the file: the Fletcher-32"):
                read(store, "velocity", [2, 3])
        np.testing.assert_array_equal(read(store, "velocity", [2, 4]), arrays[0]["velocity"][[2, 4]])


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_file_cut_short_while_it_is_open_is_named(write_shards, compression):
    directory, _ = write_shards((5,), compression=compression)
    path, offset, size = places_of(directory, index=4)
    with open_stream(directory, (0,), fields=("velocity",)) as store:
        read(store, "velocity", range(5))
        os.truncate(path, offset + size - 5)
        with pytest.raises(DataError, match=rf"{path}: .*velocity, snapshot 4 of the file: the file ends early"):
            read(store, "velocity", [0, 4])


def test_a_file_of_another_size_is_refused_when_it_is_opened(write_shards):
    directory, _ = write_shards()
    os.truncate(directory / shard_name(1), 2000)
    with open_stream(directory) as store:
        read(store, "velocity", [0])  # the other file
        with pytest.raises(DataError, match=rf"{shard_name(1)}: 2000 bytes, the catalogue says"):
            read(store, "velocity", [5])


def test_a_file_with_another_realisation_is_refused_when_it_is_opened(write_shards):
    directory, _ = write_shards((5, 5))
    shutil.copyfile(directory / shard_name(0), directory / shard_name(1))
    with open_stream(directory) as store, pytest.raises(DataError, match="realisation is 0, the catalogue says 1"):
        read(store, "velocity", [5])


@pytest.mark.parametrize("how", ["renamed", "overwritten", "removed"])
def test_a_file_that_changes_is_noticed_in_the_next_epoch(write_shards, tmp_path, how):
    directory, arrays = write_shards((5, 4))
    path = directory / shard_name(0)
    with open_stream(directory) as store:
        read(store, "velocity", range(9))
        shutil.copyfile(path, tmp_path / "same content")
        if how == "renamed":
            (tmp_path / "same content").rename(path)
        elif how == "overwritten":
            status = path.stat()
            path.write_bytes(path.read_bytes())
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # the clock of files may be a coarse one
        else:
            path.unlink()
        store.new_epoch()
        problem = "cannot be opened" if how == "removed" else "was replaced or changed while it was in use"
        for _ in range(2):
            with pytest.raises(DataError, match=f"{path}: {problem}"):
                read(store, "velocity", [7, 0])
        np.testing.assert_array_equal(read(store, "velocity", [8]), arrays[1]["velocity"][3:])


def test_an_epoch_in_which_nothing_changed(write_shards):
    directory, arrays = write_shards((5, 4))
    with open_stream(directory) as store:
        for _ in range(3):
            np.testing.assert_array_equal(read(store, "velocity", [0, 8]), np.stack(
                [arrays[0]["velocity"][0], arrays[1]["velocity"][3]]
            ))  # fmt: skip
            store.new_epoch()


def test_more_files_than_descriptors(write_shards, fresh_python):
    """A quarter of 64 descriptors for 40 shards: in batches that need them all, over two epochs, nothing left open."""
    directory, arrays = write_shards((40,), snapshots_per_shard=1)
    np.save(directory / "expected.npy", arrays[0]["velocity"])
    result = fresh_python(f"""
        import os, resource
        import numpy as np
        from hpcsurrogate.data.catalogue import Catalogue
        from hpcsurrogate.data.stores.stream import StreamStore

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        expected = np.load("{directory}/expected.npy")
        before = len(os.listdir("/proc/self/fd"))
        most = 0
        with StreamStore(Catalogue.read("{directory}"), (0,), ("velocity",)) as store:
            for epoch in range(2):
                store.new_epoch()
                for seed in range(3):
                    order = np.random.default_rng(seed).permutation(np.repeat(np.arange(40), 2))
                    out = np.zeros((80, *store.shape("velocity")), np.float32)
                    store.read("velocity", order, out)
                    np.testing.assert_array_equal(np.moveaxis(out, -1, 1), expected[order])
                    most = max(most, len(os.listdir("/proc/self/fd")) - before)
        assert most == 16, most
        assert len(os.listdir("/proc/self/fd")) == before
    """)
    assert result.returncode == 0, result.stderr


def test_only_files_that_are_needed_are_opened(write_shards):
    directory, _ = write_shards((4, 4), snapshots_per_shard=2)
    (directory / shard_name(0, 2)).unlink()
    (directory / shard_name(1)).unlink()
    with open_stream(directory) as store:
        read(store, "velocity", [0, 1, 6, 7])
        with pytest.raises(DataError, match=f"{shard_name(0, 2)}: .*missing|cannot be opened"):
            read(store, "velocity", [2])


def test_shards_are_opened_again_without_hdf5_until_memory_for_tables_ends(write_shards, monkeypatch):
    directory, arrays = write_shards((6,), snapshots_per_shard=2)
    opened = []
    monkeypatch.setattr(open_shards, "_own_descriptors", lambda: 1)
    monkeypatch.setattr(open_shards, "ChunkTable", lambda *given: opened.append(1) or ChunkTable(*given))
    with open_stream(directory, (0,), fields=("velocity",)) as store:
        for _ in range(3):
            np.testing.assert_array_equal(read(store, "velocity", [4, 0, 2]), arrays[0]["velocity"][[4, 0, 2]])
        assert len(opened) == 3
        monkeypatch.setattr(open_shards, "MOST_CHUNKS", 0)
        for _ in range(3):
            np.testing.assert_array_equal(read(store, "velocity", [4, 0, 2]), arrays[0]["velocity"][[4, 0, 2]])
        assert len(opened) > 9


def test_what_lies_not_in_the_page_cache_is_read_all_the_same(write_shards, monkeypatch):
    """Every first attempt fails as it does for a disk, and on a file system that cannot tell what is in the cache."""
    preadv = os.preadv
    for error in (BlockingIOError(11, "not in the cache"), OSError(95, "cannot tell"), None):

        def fails_at_first(descriptor, buffers, offset, flags=0, error=error):
            if flags and error:
                raise error
            return preadv(descriptor, buffers, offset) // (2 if flags else 1)  # None: half of it is in the cache

        for compression in ("none", "zstd"):
            directory, arrays = write_shards((5,), compression=compression)
            with monkeypatch.context() as patch, open_stream(directory, (0,)) as store:
                patch.setattr(os, "preadv", fails_at_first)
                for _ in range(2):
                    np.testing.assert_array_equal(read(store, "velocity", [4, 0, 2]), arrays[0]["velocity"][[4, 0, 2]])


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_what_the_system_cannot_read_is_named(write_shards, monkeypatch, compression):
    directory, _ = write_shards((5,), compression=compression)

    def broken(*_):
        raise OSError(5, "Input/output error")

    with open_stream(directory, (0,)) as store:
        read(store, "velocity", [0])
        monkeypatch.setattr(os, "preadv", broken)
        with pytest.raises(DataError, match=r"velocity, snapshot 3 of the file: cannot be read \(Input/output error\)"):
            read(store, "velocity", [3])


@pytest.fixture
def expected_ranges(monkeypatch):
    """What `expect` has read ahead: a list of (descriptor, offset, bytes), to be cleared by the test."""
    ranges = []
    monkeypatch.setattr(stream, "will_need", ranges.extend)
    return ranges


def is_cached(monkeypatch, answer):
    """Let every read that must not wait for the disk succeed or fail."""
    preadv = os.preadv

    def answered(descriptor, buffers, offset, flags=0):
        if flags and not answer:
            raise BlockingIOError(11, "not in the cache")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", answered)


def test_a_store_that_waits_for_the_disk_has_the_next_samples_under_way(write_shards, monkeypatch, expected_ranges):
    directory, _ = write_shards((5, 4), snapshots_per_shard=3)
    is_cached(monkeypatch, False)
    with open_stream(directory) as store:
        store.expect("velocity", np.array([1]))
        assert expected_ranges == []  # nothing is known yet
        read(store, "velocity", [0])
        store.expect("velocity", np.array([6, 1, 4]))  # of shards that are open and of others
        num_bytes = 6 * 4 * 2 * 4
        places = [(1, 0, 1), (0, 0, 1), (0, 3, 1)]  # realisation, first snapshot of the shard, index in it
        for (descriptor, offset, length), (realisation, first, index) in zip(expected_ranges, places, strict=True):
            path = directory / shard_name(realisation, first)
            with ShardReader(path) as reader:
                assert (offset, length) == (ChunkTable(reader, "velocity").offsets[index], num_bytes)
            assert os.path.samestat(os.fstat(descriptor), path.stat())
        expected_ranges.clear()
        store.new_epoch()
        store.expect("velocity", np.array([6, 1, 4]))
        assert expected_ranges == []  # by now they may be in the cache


def test_a_store_that_finds_all_in_the_page_cache_reads_nothing_ahead(write_shards, monkeypatch, expected_ranges):
    directory, _ = write_shards((5,))
    is_cached(monkeypatch, True)
    with open_stream(directory, (0,)) as store:
        for _ in range(2):  # with checksums and without
            read(store, "velocity", range(5))
            store.expect("velocity", np.arange(5))
    assert expected_ranges == []


def test_checksums_are_computed_of_what_was_not_read_before_and_of_nothing_else(write_shards, monkeypatch):
    directory, arrays = write_shards((5, 4), snapshots_per_shard=3)
    checked = []
    fletcher32 = stream.fletcher32
    monkeypatch.setattr(stream, "fletcher32", lambda rows: checked.append(len(rows)) or fletcher32(rows))
    expected = np.concatenate([arrays[0]["velocity"], arrays[1]["velocity"]])
    with open_stream(directory) as store:
        for snapshots, new in (([7, 0], 2), ([0, 8, 7, 1], 2), ([1, 0, 8, 7], 0), (range(9), 5), (range(9), 0)):
            checked.clear()
            np.testing.assert_array_equal(read(store, "velocity", snapshots), expected[list(snapshots)])
            assert sum(checked) == new
        checked.clear()
        read(store, "commutator", [0])  # of another field nothing is known
        assert sum(checked) == 1


def test_requests_that_make_no_sense(write_shards):
    directory, _ = write_shards((5,))
    with open_stream(directory, (0,)) as store:
        for snapshots in ([5], [-1], [0, 10**12]):
            with pytest.raises(IndexError):
                read(store, "velocity", snapshots)
        shape, snapshots = store.shape("velocity"), np.arange(2)
        for out in (
            np.empty((3, *shape), np.float32),
            np.empty((2, *shape), np.float64),
            np.empty((4, *shape), np.float32)[::2],
        ):
            with pytest.raises(ShapeError, match="velocity: samples go into a C-ordered array of float32"):
                store.read("velocity", snapshots, out)
    with pytest.raises(DataError, match="has no field vorticity"):
        open_stream(directory, (0,), fields=("vorticity",))


def test_shards_of_different_codecs_are_not_mixed(write_shards):
    directory, _ = write_shards((5,), compression="gzip")
    written = (directory / shard_name(0)).read_bytes()
    write_shards((5, 5))
    (directory / shard_name(0)).write_bytes(written)
    with StreamStore(_catalogue_of(directory), (0, 1), ("velocity",)) as store:
        read(store, "velocity", [0])
        with pytest.raises(DataError, match=rf"{shard_name(1)}: /t1_fields/velocity: is not compressed as in other"):
            read(store, "velocity", [5])


def _catalogue_of(directory):
    return Catalogue.from_shards(directory, [catalogue_shard(path) for path in sorted(directory.glob("*.hdf5"))])
