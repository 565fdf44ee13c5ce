"""The text of a catalogue: read back as written, and whatever was done to it is one line with file and key."""

import hashlib
import json
import re

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.catalogue import FILE_NAME, Catalogue
from hpcsurrogate.data.catalogue_file import read_entries, record_from_json, record_to_json


@pytest.fixture
def path(write_shards):
    """A catalogue of two realisations in two shards each."""
    directory, _ = write_shards(snapshots_per_shard=3)
    return directory / FILE_NAME


def rewrite(path, text):
    """Write a text with the checksum that belongs to it, as one would who means to deceive."""
    above = text[: text.rindex('"sha256": "')]
    digest = hashlib.sha256(above.encode()).hexdigest()
    path.write_text(f'{above}"sha256": "{digest}"\n}}\n', encoding="utf-8")


def entries_in(path):
    entries = []
    read_entries(path, entries.append)
    return entries


def refused(path):
    with pytest.raises(DataError) as caught:
        read_entries(path, lambda entry: None)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < len(str(path)) + 300
    return message.removeprefix(f"{path}: ")


def test_it_is_read_back_as_written(path):
    text = path.read_text()
    Catalogue(path.parent, entries_in(path)).write()
    assert path.read_text() == text


def test_any_json_reader_understands_it_and_a_person_finds_a_shard_on_one_line(path):
    content = json.loads(path.read_text())
    assert content["schema_version"] == 2 and [entry["realisation"] for entry in content["realisations"]] == [0, 1]
    shard = content["realisations"][1]["shards"][1]
    assert shard.keys() == {"file", "size", "sha256", "first_snapshot", "num_snapshots"}
    (line,) = [line for line in path.read_text().splitlines() if shard["sha256"] in line]
    assert json.loads(line.removesuffix("]}")) == shard


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"schema_version": 2', '"schema_version": 1', "schema_version: is 1, expected 2"),
        ('"schema_version": 2,', "", "schema_version: the key is missing"),
        ('"schema_version": 2', '"schema_version": 2, "schema_version": 2', "'schema_version': the key is there twice"),
        ('"schema_version": 2', '"schema_version": 2, "more": 1', "'more': the key is unknown"),
        ('"layout": "staggered", ', "", "realisations[0]: layout: the key is missing"),
        ('"layout": "staggered"', '"layout": "stagered"', "realisation 0: layout: is 'stagered', expected collocated"),
        ('"layout"', '"lay\\nout"', "realisations[0]: layout: the key is missing"),
        ('"realisation": 0', '"realisation": -1', "realisation -1: realisation: is -1, expected a number from 0 on"),
        ('"realisation": 0', '"realisation": true', "realisation True: realisation: is True, expected"),
        ('"snapshot_interval": 0.1', '"snapshot_interval": 0', "realisation 0: snapshot_interval: is 0, expected"),
        ('"snapshot_interval": 0.1', '"snapshot_interval": NaN', "not valid JSON (NaN is no number)"),
        ('"snapshot_interval": 0.1', '"snapshot_interval": 1e999', "realisation 0: snapshot_interval: is inf,"),
        ('"grid_shape": [6, 4]', '"grid_shape": [6]', "realisation 0: grid_shape: is [6], expected two or three"),
        ('"grid_shape": [6, 4]', '"grid_shape": [6, 4, 4]', "realisation 0: grid_shape, domain and filter_width"),
        ('"dtype": "float32"', '"dtype": "object"', "realisation 0: dtype: is 'object', expected float32 or float64"),
        ('"fields": [', '"fields": ["velocity", ', "realisation 0: fields: is ['velocity', "),
        ('{"viscosity": 0.001}', '{"viscosity": "low"}', "realisation 0: parameters: is {'viscosity': 'low'}"),
        ('"shards": [', '"shards": [7, ', "realisation 0, shard 0: is 7, expected an object"),
        ('"first_snapshot": 3, ', "", "realisation 0, shard 1: first_snapshot: the key is missing"),
        ('"first_snapshot": 3', '"first_snapshot": 3.0', "realisation 0, shard 1: first_snapshot: is 3.0, expected"),
        ('"num_snapshots": 3', '"num_snapshots": 1000000000', "realisation 0, shard 0: num_snapshots: 1000000000"),
        ('"num_snapshots": 3', '"num_snapshots": 1' + 5000 * "0", "Exceeds the limit"),
        ('"file": "realisation-0000-000000.hdf5"', '"file": "../a.hdf5"', "realisation 0, shard 0: file: is '../"),
        ('"sha256": "', '"sha256": "0', "realisation 0, shard 0: sha256: is '0"),
        ('"realisations": [', '"realisations": [[], ', "realisations[0]: is [], expected an object"),
        ('"realisations": [', '"realisations": [' + 100_000 * "[", "is nested too deeply"),
    ],
)  # fmt: skip
def test_what_does_not_belong_there_is_named(path, old, new, message):
    text = path.read_text()
    assert old in text
    rewrite(path, text.replace(old, new, 1))
    assert refused(path).startswith(message)


@pytest.mark.parametrize("size", ["-1", "0", "4611686018427387905", "1e3", '"1"', "null", "[1]"])
def test_a_size_is_a_number_of_bytes(path, size):
    rewrite(path, re.sub(r'"size": \d+', f'"size": {size}', path.read_text(), count=1))
    assert refused(path).startswith("realisation 0, shard 0: size: is ")


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}", b"\x00" * 64, b'{"sha256": "'])
def test_what_is_no_catalogue_is_refused(path, content):
    path.write_bytes(content)
    assert refused(path)


def test_a_missing_or_unreadable_catalogue_is_named(path):
    path.unlink()
    assert refused(path).startswith("file is missing; run the stage that writes it")
    path.mkdir()
    assert refused(path).startswith("cannot be read (Is a directory)")


def test_a_catalogue_too_large_to_be_one_is_not_read(path):
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # a hole, of no size on the disk
    assert refused(path).startswith("has more than 1073741824 bytes")


def test_a_lost_line_and_a_changed_number_are_noticed(path):
    """Both leave valid entries: the last shard of a realisation, another viscosity."""
    lines = path.read_text().splitlines(keepends=True)
    (last,) = [index for index, line in enumerate(lines) if "realisation-0000-000003" in line]
    lost = "".join(lines[: last - 1]) + lines[last - 1].rstrip(",\n") + "]},\n" + "".join(lines[last + 1 :])
    for text in (lost, "".join(lines).replace("0.001", "0.002", 1)):
        path.write_text(text)
        assert refused(path).startswith("sha256: is not that of the lines above it, so the file was changed")


def test_no_mutation_yields_other_entries(path):
    """Flips, cuts and splices anywhere: refused, or (in the blanks of the last lines) the same entries."""
    sound, expected, generator = path.read_bytes(), entries_in(path), np.random.default_rng(0)
    num_refused = 0
    for _ in range(500):
        damaged, kind = bytearray(sound), generator.integers(3)
        first, last = sorted(generator.integers(0, len(sound), 2))
        if kind == 0:
            damaged[first] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            del damaged[first:last]
        else:
            damaged[first:first] = sound[last : last + 40]
        path.write_bytes(damaged)
        try:
            assert entries_in(path) == expected
        except DataError as error:
            num_refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert num_refused > 480


def test_a_record_is_read_back_from_json(path):
    record = Catalogue.read(path.parent).record(2)
    content = json.loads(json.dumps(record_to_json(record)))
    assert record_from_json(content, "here") == record
    with pytest.raises(DataError, match="^here: realisation 1, shard 0: size: is -1, expected"):
        record_from_json(content | {"shards": [content["shards"][0] | {"size": -1}]}, "here")
    with pytest.raises(DataError, match="^here: dtype: the key is missing"):
        record_from_json({key: value for key, value in content.items() if key != "dtype"}, "here")
    with pytest.raises(DataError, match="^here: shards: are 2, expected one"):
        record_from_json(content | {"shards": 2 * content["shards"]}, "here")
    with pytest.raises(DataError, match="^here: is 3, expected an object"):
        record_from_json(3, "here")
