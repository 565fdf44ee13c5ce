"""Several stores as one: every snapshot is that of its own store, and all stores hear what is to come."""

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError, ShapeError
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardReader, ShardWriter
from hpcsurrogate.data.stores.joint import JointStore
from hpcsurrogate.data.stores.node import NodeStore
from hpcsurrogate.data.stores.stream import StreamStore
from hpcsurrogate.parallel.world import World

FIELDS = ("velocity", "sgs_stress")
LENGTHS = ((0, 3), (2, 4))  # realisation, snapshots


@pytest.fixture
def catalogues(tmp_path):
    """The same realisations seen through two filters: other numbers, same names and lengths."""
    generator = np.random.default_rng(0)
    found = []
    for width in (0.25, 0.5):
        directory, records = tmp_path / f"width-{width}", []
        for realisation, length in LENGTHS:
            header = ShardHeader(
                "noise", realisation, length, 0.1, (6, 4), (1.5, 1.0), "collocated", "box", (width, width)
            )
            path = directory / shard_name(realisation)
            with ShardWriter(path, header, FIELDS) as shard:
                for _ in range(length):
                    shard.append({"velocity": generator.random((2, 6, 4)), "sgs_stress": generator.random((3, 6, 4))})
            records.append(catalogue_shard(path))
        Catalogue.from_shards(directory, records).write()
        found.append(Catalogue.read(directory))
    return found


@pytest.fixture(params=["stream", "node"])
def stores(request, catalogues):
    """Two open stores; the second one serves its realisations in the other order."""

    def opened(catalogue, realisations):
        if request.param == "stream":
            return StreamStore(catalogue, realisations, FIELDS)
        return NodeStore(catalogue, realisations, FIELDS, World())

    with opened(catalogues[0], (0, 2)) as first, opened(catalogues[1], (2, 0)) as second:
        yield first, second


def in_files(catalogues, field):
    """What the joint store must serve: first directory 0, 2, second directory 2, 0; read by HDF5."""
    parts = []
    for catalogue, realisations in zip(catalogues, ((0, 2), (2, 0)), strict=True):
        for realisation in realisations:
            with ShardReader(catalogue.path(catalogue.entry(realisation).shards[0])) as shard:
                parts.append(shard.dataset(field)[0])
    return np.concatenate(parts)


def test_every_snapshot_is_that_of_its_own_store(catalogues, stores):
    joint = JointStore(stores)
    assert joint.fields == FIELDS
    assert joint.table.num_snapshots == 14
    assert joint.table.realisations == (0, 2, 2, 0)
    assert joint.table.lengths.tolist() == [3, 4, 4, 3]
    shuffled = np.random.default_rng(1).permutation(np.repeat(np.arange(14), 2))
    for field in FIELDS:
        expected = in_files(catalogues, field)
        assert joint.shape(field) == expected.shape[1:] and joint.dtype(field) == expected.dtype
        # All; the last of one store and the first of the next; one store alone; none.
        for snapshots in (shuffled, np.array([6, 7]), np.array([13]), shuffled[:0]):
            out = np.full((len(snapshots), *joint.shape(field)), np.nan, joint.dtype(field))
            joint.read(field, snapshots, out)
            np.testing.assert_array_equal(out, expected[snapshots])


@pytest.mark.parametrize("snapshots", [[-1], [14], [0, 7, 10**12]])
def test_a_snapshot_that_no_store_has_is_refused(stores, snapshots):
    joint = JointStore(stores)
    out = np.zeros((len(snapshots), *joint.shape("velocity")), np.float32)
    with pytest.raises(IndexError, match=f"{max(snapshots)} of 14"):
        joint.read("velocity", np.array(snapshots), out)
    assert not out.any()


def test_room_of_another_shape_or_precision_is_refused(stores):
    joint, snapshots = JointStore(stores), np.array([2, 9])
    for out in (
        np.zeros((3, 6, 4, 2), np.float32),
        np.zeros((1, 6, 4, 2), np.float32),
        np.zeros((2, 6, 2), np.float32),
        np.zeros((2, 6, 4, 2), np.float64),
    ):
        with pytest.raises(ShapeError, match=r"velocity: samples go into an array of float32 of shape \(2, 6, 4, 2\)"):
            joint.read("velocity", snapshots, out)
        assert not out.any()


class Listener:
    """A store of which only what it is told counts."""

    def __init__(self, store):
        self.table, self.fields, self.heard = store.table, store.fields, []

    def expect(self, field, snapshots):
        self.heard.append((field, snapshots.tolist()))

    def new_epoch(self):
        self.heard.append("new epoch")

    def close(self):
        self.heard.append("closed")


def test_every_store_is_told_of_its_own_snapshots_and_of_every_epoch_and_none_is_closed(stores):
    first, second = map(Listener, stores)
    with JointStore([first, second]) as joint:
        joint.expect("velocity", np.array([9, 2, 7, 6, 2]))
        joint.expect("sgs_stress", np.array([13]))
        joint.new_epoch()
    assert first.heard == [("velocity", [2, 6, 2]), "new epoch"]
    assert second.heard == [("velocity", [2, 0]), ("sgs_stress", [6]), "new epoch"]


def test_a_file_of_any_store_that_is_replaced_is_noticed_in_the_next_epoch(catalogues):
    path = catalogues[1].path(catalogues[1].entry(2).shards[0])
    stores = [StreamStore(catalogue, (2,), FIELDS) for catalogue in catalogues]
    out = np.empty((2, 6, 4, 2), np.float32)
    with stores[0], stores[1]:
        joint = JointStore(stores)
        joint.read("velocity", np.array([0, 4]), out)
        copy = path.with_suffix(".copy")
        copy.write_bytes(path.read_bytes())
        copy.rename(path)
        joint.new_epoch()
        with pytest.raises(DataError, match=f"{path}: was replaced"):
            joint.read("velocity", np.array([0, 4]), out)
