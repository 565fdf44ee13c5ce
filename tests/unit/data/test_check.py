"""check_directory finds every kind of damage, names it, and finds nothing in sound data."""

import h5py
import numpy as np
import pytest

from hpcsurrogate.core.atomic import sha256_file
from hpcsurrogate.data.catalogue import FILE_NAME, Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.check import check_directory


def rewrite_catalogue(directory):
    """As if the damaged file had been catalogued so: only the contents can then tell."""
    Catalogue(directory, [catalogue_shard(path) for path in sorted(directory.glob("*.hdf5"))]).write()


def change(path, key, action):
    with h5py.File(path, "a") as file:
        action(file[key])


@pytest.mark.parametrize("layout", ["collocated", "staggered"])
def test_sound_data_has_no_finding(write_shards, layout):
    directory, _ = write_shards(layout=layout)
    assert check_directory(directory, deep=False) == check_directory(directory, deep=True) == []


def test_a_run_directory_is_searched_for_its_data(write_shards, tmp_path):
    directory, _ = write_shards()
    directory.rename(tmp_path / "raw")
    assert check_directory(tmp_path, deep=True) == []
    (tmp_path / "raw" / FILE_NAME).unlink()
    (finding,) = check_directory(tmp_path, deep=False)
    assert FILE_NAME in finding.message


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
    catalogue = Catalogue.read(directory)
    described = {"size": path.stat().st_size, "sha256": sha256_file(path)}
    Catalogue(directory, [catalogue.entry(0).model_copy(update=described), catalogue.entry(1)]).write()
    (finding,) = check_directory(directory, deep=False)
    assert "4 of 5 chunks" in finding.message
