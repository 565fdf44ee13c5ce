"""The catalogue: a shard that is not the one it describes is refused, with the file and the key in one line."""

import json
import shutil

import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.catalogue import FILE_NAME, Catalogue, clear_shards, shard_name


def test_it_lists_what_lies_beside_it(write_shards):
    directory, arrays = write_shards()
    catalogue = Catalogue.read(directory)
    assert catalogue.realisations == (0, 1)
    entry = catalogue.entry(1)
    assert (entry.num_snapshots, entry.snapshot_interval, entry.grid_shape) == (4, 0.1, (6, 4))
    assert entry.size == (directory / entry.file).stat().st_size
    with catalogue.open(1, verify=True) as shard:
        assert (shard.read("velocity") == arrays[1]["velocity"]).all()


def test_realisations_that_are_missing_or_twice_are_named(write_shards):
    directory, _ = write_shards()
    catalogue = Catalogue.read(directory)
    with pytest.raises(DataError, match=r"no realisation 7, only \[0, 1\]"):
        catalogue.entry(7)
    with pytest.raises(DataError, match="listed twice"):
        Catalogue(directory, [*catalogue.entries, catalogue.entry(0)])


def test_a_changed_byte_is_found_by_its_sum_and_a_cut_file_by_its_size(write_shards):
    directory, _ = write_shards()
    path = directory / shard_name(0)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{shard_name(0)}: SHA-256 differs"):
        Catalogue.read(directory).open(0, verify=True)
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=f"{shard_name(0)}: .* bytes, the catalogue says"):
        Catalogue.read(directory).open(0)
    path.unlink()
    with pytest.raises(DataError, match=f"{shard_name(0)}: file is missing"):
        Catalogue.read(directory).open(0)


def test_a_shard_that_contradicts_its_entry_is_refused(write_shards):
    directory, _ = write_shards()
    catalogue = Catalogue.read(directory)
    wrong = [catalogue.entry(0).model_copy(update={"snapshot_interval": 0.2}), catalogue.entry(1)]
    Catalogue(directory, wrong).write()
    with (
        pytest.raises(DataError, match="snapshot_interval is 0.1, the catalogue says 0.2"),
        Catalogue.read(directory).open(0),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda content: content["entries"][0].pop("sha256"), "entries.0.sha256"),
        (lambda content: content["entries"][1].update(size="big"), "entries.1.size"),
        (lambda content: content.update(schema_version=2), "schema_version"),
        (lambda content: content.update(extra=1), "extra"),
    ],
)
def test_a_wrong_key_is_named(write_shards, change, named):
    directory, _ = write_shards()
    content = json.loads((directory / FILE_NAME).read_text())
    change(content)
    (directory / FILE_NAME).write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"{FILE_NAME}: {named}: ") as caught:
        Catalogue.read(directory)
    assert "\n" not in str(caught.value)


def test_nothing_outside_the_directory_is_opened(write_shards, tmp_path):
    directory, _ = write_shards()
    catalogue = Catalogue.read(directory)
    outside = shutil.move(directory / shard_name(0), tmp_path / "outside.hdf5")
    (directory / shard_name(0)).symlink_to(outside)
    with pytest.raises(DataError, match="leads out of the directory"):
        catalogue.open(0)
    escaping = Catalogue(directory, [catalogue.entry(0).model_copy(update={"file": "../outside.hdf5"})])
    with pytest.raises(DataError, match="leads out of the directory"):
        escaping.open(0)


def test_clearing_removes_shards_and_catalogue_only(write_shards):
    directory, _ = write_shards()
    (directory / "notes.txt").write_text("mine")
    clear_shards(directory)
    assert [path.name for path in directory.iterdir()] == ["notes.txt"]
