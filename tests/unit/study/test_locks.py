import errno
import os
import subprocess
import sys

import pytest

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.study import locks
from hpcsurrogate.study.locks import try_lock, waiting_lock


def test_a_lock_has_one_holder_until_it_is_closed(tmp_path):
    first = try_lock(tmp_path / "folder" / "a.lock")
    assert try_lock(tmp_path / "folder" / "a.lock") is None
    os.close(first)
    with waiting_lock(tmp_path / "folder" / "a.lock"):
        assert try_lock(tmp_path / "folder" / "a.lock") is None


def test_a_killed_holder_frees_its_lock(tmp_path):
    path = tmp_path / "a.lock"
    program = (
        f"import pathlib, time; from hpcsurrogate.study.locks import try_lock\n"
        f"descriptor = try_lock(pathlib.Path({str(path)!r})); print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert try_lock(path) is None
        holder.kill()
    with waiting_lock(path):
        pass


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.raises(ConfigError, match=r"a\.lock: cannot be locked \(No locks available\)"):
        try_lock(tmp_path / "a.lock")
