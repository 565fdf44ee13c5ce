"""check_directory finds every kind of damage, names it, and finds nothing in sound data."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from hpcsurrogate.core.atomic import sha256_file
from hpcsurrogate.data.catalogue import FILE_NAME, Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.catalogue_file import write_entries
from hpcsurrogate.data.check import check_directory
from hpcsurrogate.data.shards import ShardReader, ShardWriter


def rewrite_catalogue(directory):
    """As if the damaged file had been catalogued so: only the contents can then tell."""
    Catalogue.from_shards(directory, map(catalogue_shard, directory.glob("*.hdf5"))).write()


def rewrite_catalogue_by_hand(directory, damaged):
    """The same for a shard that no reader opens: its size and SHA-256 put into its old record."""
    catalogue = Catalogue.read(directory)
    records = [catalogue.record(row) for number in catalogue.realisations for row in catalogue.rows(number)]
    for index, record in enumerate(records):
        if record.shard.file == damaged.name:
            entry = record.shard._replace(size=damaged.stat().st_size, sha256=sha256_file(damaged))
            records[index] = replace(record, shard=entry)
    Catalogue.from_shards(directory, records).write()


def change(path, key, action):
    with h5py.File(path, "a") as file:
        action(file[key])


@pytest.mark.parametrize("layout", ["collocated", "staggered"])
@pytest.mark.parametrize("num_dims", [2, 3])
def test_sound_data_has_no_finding(write_shards, layout, num_dims):
    directory, _ = write_shards(layout=layout, num_dims=num_dims, snapshots_per_shard=2)
    assert check_directory(directory, deep=False) == check_directory(directory, deep=True) == []


def test_a_run_directory_is_searched_for_its_data(write_shards, tmp_path):
    directory, _ = write_shards()
    directory.rename(tmp_path / "raw")
    assert check_directory(tmp_path, deep=True) == []
    (tmp_path / "raw" / FILE_NAME).unlink()
    (finding,) = check_directory(tmp_path, deep=False)
    assert FILE_NAME in finding.message


@pytest.mark.parametrize("asked", [".", "prepared"])
def test_further_filters_are_searched_too(write_shards, tmp_path, asked):
    directory, _ = write_shards()
    directory.rename(tmp_path / "prepared")
    for number in (1, 2):
        write_shards()
        directory.rename(tmp_path / "prepared" / f"filter-{number}")
    assert check_directory(tmp_path / asked, deep=False) == []
    (tmp_path / "prepared" / "filter-2" / shard_name(1)).unlink()
    (finding,) = check_directory(tmp_path / asked, deep=False)
    assert finding.file.endswith(f"prepared/filter-2/{shard_name(1)}") and "file is missing" in finding.message


def test_a_folder_without_data_is_a_finding(tmp_path):
    (finding,) = check_directory(tmp_path, deep=False)
    assert "holds neither" in finding.message


def test_cut_missing_and_extra_files_are_quick_to_find(write_shards):
    directory, _ = write_shards(lengths=(3, 3, 3))
    cut = directory / shard_name(0)
    cut.write_bytes(cut.read_bytes()[:-1])
    (directory / shard_name(1)).rename(directory / "realisation-0009.hdf5")
    messages = [str(finding) for finding in check_directory(directory, deep=False)]
    assert len(messages) == 3
    assert "not in the catalogue" in messages[0] and "bytes" in messages[1] and "missing" in messages[2]


def test_a_block_that_was_lost_or_changed_is_named(write_shards):
    directory, arrays = write_shards(lengths=(6,), snapshots_per_shard=2)
    middle = directory / shard_name(0, 2)
    with ShardReader(middle) as shard:
        header, names = replace(shard.header, configuration="another"), shard.field_names
    with ShardWriter(middle, header, names) as shard:
        for index in (2, 3):
            shard.append({name: arrays[0][name][index] for name in names})
    rewrite_catalogue(directory)
    (finding,) = check_directory(directory, deep=False)
    assert finding.file == str(middle) and "configuration is 'another'" in finding.message
    middle.unlink()
    (finding,) = check_directory(directory, deep=False)
    assert finding.file == str(middle) and "missing" in finding.message


def test_a_gap_between_shards_is_found(write_shards):
    """A catalogue that fits its files, and lacks a block; no catalogue of ours is written so."""
    directory, _ = write_shards(lengths=(6,), snapshots_per_shard=2)
    entry = Catalogue.read(directory).entry(0)
    write_entries(directory / FILE_NAME, [replace(entry, shards=(entry.shards[0], entry.shards[2]))])
    (finding,) = check_directory(directory, deep=False)
    assert f"{shard_name(0, 4)} should begin with snapshot 2" in finding.message


def test_a_changed_byte_needs_the_deep_check(write_shards):
    directory, _ = write_shards()
    path = directory / shard_name(0)
    with h5py.File(path) as file:
        chunk = file["t1_fields/velocity"].id.get_chunk_info(3)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset] ^= 1
    path.write_bytes(content)
    assert check_directory(directory, deep=False) == []
    whole, part = check_directory(directory, deep=True)
    assert "SHA-256" in whole.message and part.dataset == "velocity" and "snapshot 3" in part.message


def test_values_that_are_not_finite_are_located(write_shards):
    directory, _ = write_shards()
    change(directory / shard_name(1), "t1_fields/velocity", lambda array: array.__setitem__((0, 2, 1, 1, 0), np.nan))
    rewrite_catalogue(directory)
    (finding,) = check_directory(directory, deep=True)
    assert finding.dataset == "velocity" and "snapshot 2 holds NaN" in finding.message
    assert finding.file.endswith(shard_name(1))


def test_times_that_contradict_the_header_are_found(write_shards):
    directory, _ = write_shards()
    change(directory / shard_name(0), "dimensions/time", lambda array: array.__setitem__(1, 0.15))
    rewrite_catalogue(directory)
    (finding,) = check_directory(directory, deep=False)
    assert finding.dataset == "dimensions/time"


def test_a_chunk_that_was_never_written_is_found(write_shards):
    directory, _ = write_shards()
    path = directory / shard_name(0)
    with h5py.File(path, "a") as file:
        attributes = dict(file["t1_fields/velocity"].attrs)
        del file["t1_fields/velocity"]
        array = file.create_dataset(
            "t1_fields/velocity", (1, 5, 6, 4, 2), "f4", chunks=(1, 1, 6, 4, 2), fletcher32=True
        )
        array.attrs.update(attributes)
        array[0, :4] = 1.0
    rewrite_catalogue_by_hand(directory, path)
    (finding,) = check_directory(directory, deep=False)
    assert "4 of 5 chunks" in finding.message
