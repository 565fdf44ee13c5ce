"""A file that HDF5 cannot lock: tried again, then refused with the way out; locks are those of the system."""

import fcntl

import h5py
import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources import file_locking
from hpcsurrogate.sources.hdf5 import open_hdf5


@pytest.fixture
def locked_file(tmp_path):
    """An HDF5 file, and a descriptor that holds its lock as one who writes does."""
    path = tmp_path / "data.hdf5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(3)
    with path.open("r+b") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        yield path, holder


def test_waits_for_the_one_who_writes(locked_file, monkeypatch):
    """The lock is given back between the second attempt and the third."""
    path, holder = locked_file
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            fcntl.flock(holder, fcntl.LOCK_UN)

    monkeypatch.setattr(file_locking.time, "sleep", pause)
    with open_hdf5(path) as file:
        assert file["numbers"][:].tolist() == [0, 1, 2]
    assert pauses == list(file_locking.PAUSES[:2])


def test_refuses_when_the_lock_is_never_given_and_says_what_to_do(locked_file, monkeypatch):
    path, _ = locked_file
    pauses = []
    monkeypatch.setattr(file_locking.time, "sleep", pauses.append)
    because = r"cannot lock the file \(Resource temporarily unavailable; tried"
    with pytest.raises(DataError, match=because) as caught, open_hdf5(path):
        pytest.fail("opened without a lock")
    assert str(caught.value).startswith(f"{path}: ") and "HDF5_USE_FILE_LOCKING=FALSE" in str(caught.value)
    assert pauses == list(file_locking.PAUSES)


def test_other_faults_are_not_tried_again(tmp_path, monkeypatch):
    path = tmp_path / "data.hdf5"
    path.write_bytes(b"no HDF5")
    monkeypatch.setattr(file_locking.time, "sleep", lambda seconds: pytest.fail("tried again"))
    with pytest.raises(OSError, match="file signature not found"):
        file_locking.open_file(path, "r")


def test_a_file_to_be_written_is_refused_likewise(locked_file, monkeypatch):
    path, _ = locked_file
    monkeypatch.setattr(file_locking.time, "sleep", lambda seconds: None)
    with pytest.raises(DataError, match="HDF5_USE_FILE_LOCKING=FALSE"):
        file_locking.open_file(path, "w")
