"""The catalogue: a shard that is not the one it describes is refused, with the file and the key in one line."""

import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.catalogue import Catalogue, SnapshotTable, catalogue_shard, clear_shards, shard_name
from hpcsurrogate.data.entries import RealisationEntry, ShardEntry
from hpcsurrogate.data.shards import ShardReader


def records_of(catalogue):
    return [catalogue.record(row) for number in catalogue.realisations for row in catalogue.rows(number)]


def made_up_entry(realisation, num_shards, snapshots_per_shard):
    """An entry whose shards nobody has written."""
    shards = tuple(
        ShardEntry(shard_name(realisation, first), 10**6, f"{first:064x}", first, snapshots_per_shard)
        for first in range(0, num_shards * snapshots_per_shard, snapshots_per_shard)
    )
    return RealisationEntry(
        snapshot_interval=0.1, grid_shape=(6, 4), domain=(1.5, 1.0), layout="staggered", fields=("velocity",),
        dtype="float32", filter_kind="box", filter_width=(0.25, 0.25), parameters={"viscosity": 1e-3},
        realisation=realisation, shards=shards,
    )  # fmt: skip


def test_it_lists_what_lies_beside_it(write_shards):
    directory, arrays = write_shards(snapshots_per_shard=2)
    catalogue = Catalogue.read(directory)
    assert catalogue.realisations == (0, 1)
    entry = catalogue.entry(1)
    assert (entry.num_snapshots, entry.snapshot_interval, entry.grid_shape) == (4, 0.1, (6, 4))
    assert (entry.domain, entry.layout, entry.dtype) == ((1.5, 1.0), "staggered", "float32")
    assert (entry.filter_kind, entry.filter_width, entry.parameters) == ("box", (0.25, 0.25), {"viscosity": 1e-3})
    assert set(entry.fields) == set(arrays[1])
    assert [(shard.file, shard.first_snapshot, shard.num_snapshots) for shard in entry.shards] == [
        ("realisation-0001-000000.hdf5", 0, 2),
        ("realisation-0001-000002.hdf5", 2, 2),
    ]
    for shard in entry.shards:
        assert shard.size == catalogue.path(shard).stat().st_size
        assert catalogue_shard(catalogue.path(shard)).shard == shard
    catalogue.verify(1)


def test_realisations_that_are_missing_or_twice_are_named(write_shards):
    directory, _ = write_shards()
    catalogue = Catalogue.read(directory)
    with pytest.raises(DataError, match="no realisation 7, only 0, 1$"):
        catalogue.entry(7)
    with pytest.raises(DataError, match="realisation 0: is listed twice"):
        Catalogue(directory, [catalogue.entry(0), catalogue.entry(1), catalogue.entry(0)])


def test_the_order_in_which_shards_are_finished_does_not_matter(write_shards):
    directory, _ = write_shards(lengths=(5, 4, 6), snapshots_per_shard=2)
    catalogue = Catalogue.read(directory)
    records = records_of(catalogue)
    again = Catalogue.from_shards(directory, np.random.default_rng(0).permutation(np.array(records, dtype=object)))
    assert [again.entry(number) for number in range(3)] == [catalogue.entry(number) for number in range(3)]


def test_gaps_overlaps_and_unlike_shards_are_refused(write_shards):
    directory, _ = write_shards(lengths=(6,), snapshots_per_shard=2)
    first, second, third = records_of(Catalogue.read(directory))
    with pytest.raises(DataError, match=rf"realisation 0: {shard_name(0, 4)} should begin with snapshot 2:"):
        Catalogue.from_shards(directory, [first, third])
    with pytest.raises(DataError, match=rf"{shard_name(0, 2)} should begin with snapshot 0:"):
        Catalogue.from_shards(directory, [second, third])
    with pytest.raises(DataError, match=rf"{shard_name(0, 2)} should begin with snapshot 3:"):
        Catalogue.from_shards(directory, [replace(first, shard=first.shard._replace(num_snapshots=3)), second, third])
    with pytest.raises(DataError, match=rf"{shard_name(0, 4)}: dtype is 'float64', {shard_name(0, 0)} says 'float32'"):
        Catalogue.from_shards(directory, [first, second, replace(third, dtype="float64")])


def test_a_changed_byte_is_found_by_its_sum_and_a_cut_file_by_its_size(write_shards):
    directory, _ = write_shards()
    path = directory / shard_name(0)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{shard_name(0)}: SHA-256 differs"):
        Catalogue.read(directory).verify(0)
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=f"{shard_name(0)}: .* bytes, the catalogue says"):
        Catalogue.read(directory).verify(0)
    path.unlink()
    with pytest.raises(DataError, match=f"{shard_name(0)}: file is missing"):
        Catalogue.read(directory).verify(0)


def test_nothing_outside_the_directory_is_opened(write_shards, tmp_path):
    directory, _ = write_shards()
    catalogue = Catalogue.read(directory)
    entry = catalogue.entry(0).shards[0]
    with pytest.raises(DataError, match="leads out of the directory"):
        catalogue.path(entry._replace(file="../shards/" + entry.file))
    (directory / entry.file).symlink_to(shutil.move(directory / entry.file, tmp_path / "outside.hdf5"))
    with pytest.raises(DataError, match=f"{entry.file}: leads out of the directory"):
        catalogue.verify(0)
    with pytest.raises(DataError, match=f"{entry.file}: leads out of the directory"), catalogue.open(0):
        pass


def test_every_snapshot_has_one_number(write_shards):
    directory, arrays = write_shards(lengths=(5, 4, 3), snapshots_per_shard=2)
    table = SnapshotTable(Catalogue.read(directory), (2, 0))
    assert table.num_snapshots == 8 and table.num_shards == len(table.shards) == 5
    np.testing.assert_array_equal(table.lengths, [3, 5])
    np.testing.assert_array_equal(table.shard_starts, [0, 2, 3, 5, 7, 8])
    expected = np.concatenate([arrays[2]["velocity"], arrays[0]["velocity"]])
    numbers = np.array([7, 0, 3, 3, 2, 6, 1])
    for number, shard, index in zip(numbers, *table.locate(numbers), strict=True):
        entry, path = table.shards[shard]
        assert path == directory / entry.file and path == table.shards[int(shard) - len(table.shards)][1]
        with ShardReader(path) as reader, table.open_shard(shard) as checked:
            np.testing.assert_array_equal(reader.snapshot("velocity", int(index)), expected[number])
            assert checked.header == reader.header
    for wrong in (-1, 8):
        with pytest.raises(IndexError):
            table.locate(np.array([0, wrong]))


def test_samples_of_one_table_are_alike(write_shards):
    directory, _ = write_shards()
    catalogue = Catalogue.read(directory)
    entries = [catalogue.entry(0), replace(catalogue.entry(1), grid_shape=(8, 4))]
    with pytest.raises(DataError, match=r"grid_shape is \(6, 4\) in realisation 0 and \(8, 4\) in 1"):
        SnapshotTable(Catalogue(directory, entries), (0, 1))
    other_flow = replace(catalogue.entry(1), parameters={"viscosity": 2e-3})
    assert SnapshotTable(Catalogue(directory, [entries[0], other_flow]), (0, 1)).num_snapshots == 9


def test_snapshots_cost_no_memory_and_shards_little(tmp_path):
    """10^9 snapshots in 2,000 shards: 56 bytes a shard in columns, 16 in the table, some slack for growing arrays."""
    entries = [made_up_entry(number, 100, 500_000) for number in range(20)]
    tracemalloc.start()
    table = SnapshotTable(Catalogue(tmp_path, entries), range(20))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert table.num_snapshots == 10**9 and held < 2000 * 100 + 20_000
    shard, index = table.locate(np.array([999_999_999]))
    assert (shard[0], index[0]) == (1999, 499_999)


def test_clearing_removes_shards_and_catalogue_only(write_shards):
    directory, _ = write_shards(snapshots_per_shard=2)
    (directory / "notes.txt").write_text("mine")
    clear_shards(directory, keep=[shard_name(1, 2)])
    assert sorted(path.name for path in directory.iterdir()) == ["notes.txt", shard_name(1, 2)]
    clear_shards(directory)
    assert [path.name for path in directory.iterdir()] == ["notes.txt"]
