"""The archive that is written: what a host needs and nothing else, the same bytes for the same content."""

import json
from pathlib import Path

import pytest

from hpcsurrogate.embed.archive import EXTRA, METADATA_ENTRY, SEAL_ENTRY, check_archive, read_entries
from hpcsurrogate.export.archive_file import pack
from hpcsurrogate.export.stage import run_export


@pytest.fixture
def content(experiment, paths, trained) -> bytes:
    run_export(experiment, paths)
    return paths.model.read_bytes()


def test_packed_once_more_it_is_the_same(content):
    assert pack(content) == content


def test_replaced_metadata_leave_all_other_entries_as_they_were(content):
    before = check_archive(content, "model.pt")
    text = json.loads(before[EXTRA + METADATA_ENTRY]) | {"name": "another"}
    after = check_archive(pack(content, {METADATA_ENTRY: json.dumps(text).encode()}), "model.pt")
    assert json.loads(after[EXTRA + METADATA_ENTRY])["name"] == "another"
    differing = {name for name in before | after if before.get(name) != after.get(name)}
    assert differing == {EXTRA + METADATA_ENTRY, EXTRA + SEAL_ENTRY}


def test_it_does_not_tell_where_it_was_written(content):
    """torch keeps source lines and paths of all code beside the network's own."""
    entries = read_entries(content, "model.pt")
    assert not [name for name in entries if name.endswith(".debug_pkl")]
    for path in (Path(__file__).parents[3], Path.home()):
        assert not [name for name, entry in entries.items() if str(path).encode() in entry]
