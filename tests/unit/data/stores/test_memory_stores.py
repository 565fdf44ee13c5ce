"""The stores in memory in a process alone; several ranks: tests/parallel/test_stores.py."""

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError, ShapeError
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardReader, ShardWriter
from hpcsurrogate.data.stores.cluster import ClusterStore
from hpcsurrogate.data.stores.node import NodeStore
from hpcsurrogate.parallel.world import World

STORES = (NodeStore, ClusterStore)
FIELDS = ("velocity", "sgs_stress")


@pytest.fixture
def write(tmp_path):
    """write(grid, dtype, compression) -> Catalogue of two realisations, 5 and 2 snapshots in shards of 3, 2 and 2."""

    def write(grid=(6, 4), dtype="float32", compression="none"):
        generator, records = np.random.default_rng(0), []
        components = {"velocity": len(grid), "sgs_stress": len(grid) * (len(grid) + 1) // 2}
        for realisation, first, length in ((0, 0, 3), (0, 3, 2), (1, 0, 2)):
            header = ShardHeader(
                "noise", realisation, length, 0.1, grid, (1.0,) * len(grid), "collocated", "box",
                (0.1,) * len(grid), {}, "", first,
            )  # fmt: skip
            path = tmp_path / shard_name(realisation, first)
            with ShardWriter(path, header, FIELDS, dtype, compression) as shard:
                for _ in range(length):
                    shard.append({name: generator.random((number, *grid)) for name, number in components.items()})
            records.append(catalogue_shard(path))
        Catalogue.from_shards(tmp_path, records).write()
        return Catalogue.read(tmp_path)

    return write


def in_file(catalogue, field):
    """All snapshots of a field in the layout of the file, as HDF5 reads them."""
    parts = []
    for realisation in catalogue.realisations:
        for entry in catalogue.entry(realisation).shards:
            with ShardReader(catalogue.path(entry)) as shard:
                parts.append(shard.dataset(field)[0])
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize(
    ("grid", "dtype", "compression"),
    [((6, 4), "float32", "none"), ((5, 4, 3), "float64", "none"), ((6, 4), "float32", "gzip")],
)
def test_samples_are_those_of_the_files(write, kind, grid, dtype, compression):
    catalogue = write(grid, dtype, compression)
    with kind(catalogue, (0, 1), FIELDS, World()) as store:
        assert store.fields == FIELDS and store.table.num_snapshots == 7
        for field in FIELDS:
            expected = in_file(catalogue, field)
            assert store.shape(field) == expected.shape[1:] and store.dtype(field) == dtype
            wanted = np.array([6, 0, 3, 3, 5, 2, 1, 4])
            out = np.empty((8, *store.shape(field)), dtype)
            store.read(field, wanted, out)
            np.testing.assert_array_equal(out, expected[wanted])
        store.new_epoch()


@pytest.mark.parametrize("kind", STORES)
def test_realisations_come_in_the_order_they_were_asked_for(write, kind):
    catalogue = write()
    with kind(catalogue, (1, 0), ("velocity",), World()) as store:
        out = np.empty((7, 6, 4, 2), np.float32)
        store.read("velocity", np.arange(7), out)
    np.testing.assert_array_equal(out, np.roll(in_file(catalogue, "velocity"), 2, axis=0))


@pytest.mark.parametrize("kind", STORES)
def test_requests_that_cannot_be_met_are_refused(write, kind):
    catalogue = write()
    with pytest.raises(DataError, match="realisation 0 has no field commutator, only velocity, sgs_stress"):
        kind(catalogue, (0,), ("velocity", "commutator"), World())
    with kind(catalogue, (0,), ("velocity",), World()) as store:
        whole = np.empty((4, 6, 4, 2), np.float32)
        for out in (whole[:3], whole[::2], whole[:2].astype(float), np.empty((2, 2, 4, 6), np.float32).T):
            with pytest.raises(ShapeError, match="velocity: samples go into a C-ordered array of float32"):
                store.read("velocity", np.array([0, 1]), out if len(out) == 3 else out[:2])
        for wrong in (-1, 5):
            with pytest.raises(IndexError, match="of 5"):
                store.read("velocity", np.array([0, wrong]), whole[:2])


@pytest.mark.parametrize("kind", STORES)
def test_a_flipped_bit_is_noticed(write, kind):
    catalogue = write()
    path = catalogue.path(catalogue.entry(0).shards[1])
    with ShardReader(path) as shard:
        place = shard.dataset("velocity").id.get_chunk_info(1).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 10] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path.name}.*velocity"):
        kind(catalogue, (0, 1), ("velocity",), World())
