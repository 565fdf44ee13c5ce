"""A realisation reads the same however it is cut into shards, and every shard must be the one the catalogue means."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data import readers
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.readers import MOST_OPEN, CataloguedShard
from hpcsurrogate.data.shards import ShardReader, ShardWriter

SLICES = [
    (0, None, 1), (0, 0, 1), (1, 6, 2), (2, 3, 1), (5, None, 1), (3, 3, 1), (0, 7, 4), (4, 100, 3), (6, 7, 9),
    (1, -2, 1),
]  # fmt: skip


def open_shards(directory):
    """How many files of the directory this process has open."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(str(link.readlink()).startswith(str(directory)) for link in links)


@pytest.mark.parametrize("snapshots_per_shard", [1, 2, 3, 7])
@pytest.mark.parametrize("num_dims", [2, 3])
def test_any_cut_reads_the_same(write_shards, snapshots_per_shard, num_dims):
    directory, arrays = write_shards(lengths=(2, 7), snapshots_per_shard=snapshots_per_shard, num_dims=num_dims)
    with Catalogue.read(directory).open(1, verify=True) as recorded:
        assert (recorded.header.realisation, recorded.header.first_snapshot, recorded.header.num_snapshots) == (1, 0, 7)
        assert recorded.path == directory / "realisation-0001" and set(recorded.field_names) == set(arrays[1])
        np.testing.assert_array_equal(recorded.times, np.arange(7) * 0.1)
        for name, expected in arrays[1].items():
            for start, stop, step in SLICES:
                np.testing.assert_array_equal(recorded.read(name, start, stop, step), expected[start:stop:step])
            for index in (-7, -1, 0, 3, 6):
                np.testing.assert_array_equal(recorded.snapshot(name, index), expected[index])


def test_what_is_not_there_is_named(write_shards):
    directory, _ = write_shards(lengths=(4,), snapshots_per_shard=2)
    with Catalogue.read(directory).open(0) as recorded:
        for index in (4, -5):
            with pytest.raises(
                DataError, match=f"realisation-0000: there is no snapshot {index}; the realisation has 4"
            ):
                recorded.snapshot("velocity", index)
        with pytest.raises(DataError, match="no field pressure"):
            recorded.read("pressure")


def test_shards_are_opened_when_needed_and_few_at_a_time(write_shards):
    directory, _ = write_shards(lengths=(3 * MOST_OPEN,), snapshots_per_shard=1)
    (directory / shard_name(0, 2)).unlink()
    with Catalogue.read(directory).open(0) as recorded:
        assert open_shards(directory) == 1
        recorded.read("velocity", 3)
        assert open_shards(directory) == MOST_OPEN
        with pytest.raises(DataError, match=f"{shard_name(0, 2)}: file is missing"):
            recorded.read("velocity", 0, 4)
    assert open_shards(directory) == 0


def test_a_changed_byte_is_found_before_its_shard_is_read(write_shards):
    directory, arrays = write_shards(lengths=(5,), snapshots_per_shard=2)
    path = directory / shard_name(0, 2)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with Catalogue.read(directory).open(0, verify=True) as recorded:
        np.testing.assert_array_equal(recorded.read("velocity", 0, 2), arrays[0]["velocity"][:2])
        np.testing.assert_array_equal(recorded.snapshot("velocity", 4), arrays[0]["velocity"][4])
        with pytest.raises(DataError, match=f"{path.name}: SHA-256 differs"):
            recorded.snapshot("velocity", 2)


def test_only_shards_that_are_read_are_hashed_and_each_once(write_shards, monkeypatch):
    directory, _ = write_shards(lengths=(9,), snapshots_per_shard=3)
    hashed, original = [], readers.verify_shard
    monkeypatch.setattr(readers, "verify_shard", lambda path, shard: hashed.append(path.name) or original(path, shard))
    with Catalogue.read(directory).open(0, verify=True) as recorded:
        for index in (4, 5, 7, 4, 8):
            recorded.snapshot("velocity", index)
    assert hashed == [shard_name(0, 3), shard_name(0, 6)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("snapshot_interval", 0.2),
        ("grid_shape", (8, 4)),
        ("domain", (1.0, 1.0)),
        ("layout", "collocated"),
        ("fields", ("velocity",)),
        ("dtype", "float64"),
        ("filter_kind", "gaussian"),
        ("filter_width", (0.5, 0.5)),
        ("parameters", {"viscosity": 2e-3}),
    ],
)
def test_a_shard_that_contradicts_its_entry_is_refused(write_shards, key, value):
    directory, _ = write_shards()
    catalogue = Catalogue.read(directory)
    changed = Catalogue(directory, [replace(catalogue.entry(0), **{key: value}), catalogue.entry(1)])
    with (
        pytest.raises(DataError, match=f"{shard_name(0)}: {key} is .*, the catalogue says ") as caught,
        changed.open(0),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert open_shards(directory) == 0


def test_a_shard_in_the_place_of_another_is_refused(write_shards):
    """Same size, same fields: as if two files had been exchanged."""
    directory, _ = write_shards(lengths=(4, 4), snapshots_per_shard=2)
    catalogue = Catalogue.read(directory)
    shutil.copy(directory / shard_name(1, 2), directory / shard_name(0, 2))
    record = catalogue.record(1)
    size = (directory / shard_name(0, 2)).stat().st_size
    record = replace(record, shard=record.shard._replace(size=size))
    with (
        pytest.raises(DataError, match="realisation is 1, the catalogue says 0"),
        CataloguedShard(directory / shard_name(0, 2), record),
    ):
        pass


def test_shards_of_different_origin_make_no_realisation(write_shards):
    """What made a shard is not in the catalogue, but in its header."""
    directory, arrays = write_shards(lengths=(4,), snapshots_per_shard=2)
    path = directory / shard_name(0, 2)
    with ShardReader(path) as shard:
        header, names = replace(shard.header, configuration="another"), shard.field_names
    with ShardWriter(path, header, names) as shard:
        for index in (2, 3):
            shard.append({name: arrays[0][name][index] for name in names})
    records = [catalogue_shard(directory / shard_name(0, first)) for first in (0, 2)]
    with (
        pytest.raises(DataError, match=f"{path.name}: configuration is 'another', the first shard says ''"),
        Catalogue.from_shards(directory, records).open(0) as recorded,
    ):
        recorded.read("velocity")
    assert open_shards(directory) == 0
