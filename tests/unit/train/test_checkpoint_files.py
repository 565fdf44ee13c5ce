"""Folders with a manifest: published whole, and read only if every bit is as it was written."""

import json

import pytest

from hpcsurrogate.train.checkpoint_files import (
    MANIFEST,
    DamagedCheckpoint,
    Manifest,
    publish_folder,
    read_folder,
    remove_folder,
)

CONTENTS = {"weights": bytes(range(64)), "state": b'{"phase": 1}'}


@pytest.fixture
def folder(tmp_path):
    publish_folder(tmp_path / "step-00000007", CONTENTS.items(), 7, "mine")
    return tmp_path / "step-00000007"


def test_what_is_published_is_read_back_and_nothing_else_is_there(folder):
    manifest, contents = read_folder(folder, CONTENTS)
    assert contents == CONTENTS
    assert (manifest.step, manifest.config_digest) == (7, "mine")
    assert {path.name for path in folder.iterdir()} == {*CONTENTS, MANIFEST} == {*manifest.files, MANIFEST}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_every_bit_counts(folder):
    """No bit of any file may be another: not of the numbers, not of the manifest, not of a space in it."""
    for path in folder.iterdir():
        written = path.read_bytes()
        for bit in range(8 * len(written)):
            content = bytearray(written)
            content[bit // 8] ^= 1 << bit % 8
            path.write_bytes(content)
            with pytest.raises(DamagedCheckpoint):
                read_folder(folder, CONTENTS)
        path.write_bytes(written)
    assert read_folder(folder, CONTENTS)[1] == CONTENTS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be understood"),
        (b"[]", "cannot be understood"),
        (b"[" * 100_000, "cannot be understood"),
        (b"\xff", "cannot be understood"),
        (b"{}", "does not name 'schema_version'"),
        (b'{"schema_version": 1, "files": {}}', "has schema version 1, not 2"),
    ],
)
def test_a_manifest_that_is_none(folder, content, message):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=message):
        read_folder(folder, CONTENTS)


def test_a_manifest_that_was_edited_by_hand(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["step"] = 8
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
    with pytest.raises(DamagedCheckpoint, match="is not as it was written"):
        read_folder(folder, CONTENTS)


def test_a_file_that_the_manifest_does_not_name(folder):
    manifest, _ = read_folder(folder, CONTENTS)
    fewer = Manifest(manifest.step, manifest.config_digest, {"state": manifest.files["state"]})
    (folder / MANIFEST).write_bytes(fewer.to_bytes())
    with pytest.raises(DamagedCheckpoint, match="does not name 'weights'"):
        read_folder(folder, CONTENTS)


def test_a_file_far_larger_than_promised_is_refused_before_it_is_read(folder):
    with open(folder / "weights", "r+b") as file:
        file.truncate(1 << 43)  # a hole: takes no room, but no memory would hold it
    with pytest.raises(DamagedCheckpoint, match="weights has 8796093022208 bytes, manifest.json says 64"):
        read_folder(folder, CONTENTS)


def test_files_that_cannot_be_had_leave_nothing(tmp_path):
    def contents():
        yield "weights", b"1"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        publish_folder(tmp_path / "step-00000001", contents(), 1, "mine")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_same_name_is_replaced_and_remains_are_no_obstacle(folder):
    for prefix in (".partial-", ".replaced-"):  # of a process that was killed
        (folder.parent / f"{prefix}{folder.name}").mkdir()
        (folder.parent / f"{prefix}{folder.name}" / "half").write_bytes(b"")
    publish_folder(folder, [("weights", b"new")], 7, "mine")
    assert read_folder(folder, ["weights"])[1] == {"weights": b"new"}


def test_removed_is_gone(folder):
    remove_folder(folder)
    assert list(folder.parent.iterdir()) == []
