import errno
import hashlib
import os
import subprocess
import sys
import textwrap

import pytest

from hpcsurrogate.core.atomic import atomic_path, read_json, sha256_file, write_json_atomic, write_text_atomic
from hpcsurrogate.core.errors import DataError


def test_replaces_the_old_file_and_leaves_nothing_else(tmp_path):
    final = tmp_path / "new folder" / "result.txt"
    write_text_atomic(final, "old")
    write_text_atomic(final, "new")
    assert final.read_text() == "new"
    assert os.listdir(final.parent) == ["result.txt"]


def test_an_error_leaves_the_old_file(tmp_path):
    final = tmp_path / "result.txt"
    write_text_atomic(final, "old")
    with pytest.raises(OSError), atomic_path(final) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert final.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.txt"]


def test_a_writer_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "result.txt"):
        pass
    assert os.listdir(tmp_path) == []


def test_temporary_name_keeps_the_suffix_and_the_folder(tmp_path):
    """numpy appends .npz to other names, and a rename is atomic only inside one file system."""
    with atomic_path(tmp_path / "fields.npz") as temporary:
        assert temporary.suffix == ".npz"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"")


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_cleans_up(tmp_path):
    final = tmp_path / "result.txt"
    write_text_atomic(final, "old")
    script = f"""
        import os, signal
        from hpcsurrogate.core.atomic import atomic_path
        with atomic_path({str(final)!r}) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert killed.returncode == -9
    assert final.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2
    write_text_atomic(final, "new")
    assert os.listdir(tmp_path) == ["result.txt"]


def test_json_round_trip(tmp_path):
    content = {"name": "Δ", "values": [1, 2.5, None, True]}
    write_json_atomic(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_what_is_no_number_and_keeps_the_old_file(tmp_path, number):
    write_json_atomic(tmp_path / "a.json", 1)
    with pytest.raises(ValueError):
        write_json_atomic(tmp_path / "a.json", {"x": number})
    assert read_json(tmp_path / "a.json") == 1


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'{"x": NaN}', b""])
def test_damaged_json_names_the_file(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="a.json: not valid JSON"):
        read_json(path)


def test_missing_files_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="nothing.json: file is missing"):
        read_json(tmp_path / "nothing.json")
    with pytest.raises(DataError, match="nothing: file is missing"):
        sha256_file(tmp_path / "nothing")


def test_sha256_of_a_file_longer_than_one_block(tmp_path):
    content = bytes(range(256)) * 4096 * 3 + b"end"
    (tmp_path / "data").write_bytes(content)
    assert sha256_file(tmp_path / "data") == hashlib.sha256(content).hexdigest()
