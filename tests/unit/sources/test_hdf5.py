"""Nothing outside a file is read, and nothing that was never written is taken for data."""

import h5py
import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.hdf5 import find_array, open_hdf5, read_attribute


@pytest.fixture
def path(tmp_path):
    """An empty HDF5 file with another one, which holds an array, beside it."""
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["secret"] = np.arange(4.0)
    with h5py.File(tmp_path / "file.hdf5", "w"):
        pass
    return tmp_path / "file.hdf5"


def edit(path, action):
    with h5py.File(path, "a") as file:
        action(file)


def read(path, key):
    with open_hdf5(path) as file:
        return find_array(path, file, key)[()]


def test_an_ordinary_array_is_read(path):
    edit(path, lambda file: file.create_dataset("group/a", data=np.arange(6.0).reshape(2, 3), chunks=(1, 3)))
    np.testing.assert_array_equal(read(path, "group/a"), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("link", [h5py.ExternalLink("other.hdf5", "/secret"), h5py.SoftLink("/elsewhere")])
def test_links_are_refused_wherever_they_are(path, link):
    edit(path, lambda file: file.create_group("deep/down").__setitem__("a", link))
    with pytest.raises(DataError, match="/deep/down/a is a link to elsewhere"), open_hdf5(path):
        pass


def test_external_storage_is_refused(path):
    with h5py.File(path, "a") as file:
        file.create_dataset("a", (4,), "f8", external=[(str(path.with_name("other.hdf5")), 0, 32)])
    with pytest.raises(DataError, match="a is stored in other files"):
        read(path, "a")


def test_virtual_data_sets_are_refused(path):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(path.with_name("other.hdf5")), "secret", (4,))
    edit(path, lambda file: file.create_virtual_dataset("a", layout))
    with pytest.raises(DataError, match="a is stored in other files"):
        read(path, "a")


@pytest.mark.parametrize(("chunks", "message"), [((2,), "1 of 2 chunks"), (None, "0 of 1 chunks")])
def test_what_was_never_written_is_not_zero(path, chunks, message):
    edit(path, lambda file: file.create_dataset("a", (4,), "f8", chunks=chunks))
    if chunks:
        edit(path, lambda file: file["a"].__setitem__(slice(0, 2), 1.0))
    with pytest.raises(DataError, match=message):
        read(path, "a")


def test_missing_things_are_named(path):
    edit(path, lambda file: file.create_group("group"))
    with open_hdf5(path) as file:
        with pytest.raises(DataError, match="file.hdf5: there is no array group/a"):
            find_array(path, file, "group/a")
        with pytest.raises(DataError, match="there is no array group;"):
            find_array(path, file, "group")
        with pytest.raises(DataError, match="/group has no attribute colour"):
            read_attribute(path, file["group"], "colour")


def test_a_missing_file_and_a_file_of_another_kind_are_one_line(path):
    with pytest.raises(DataError, match="none.hdf5: file is missing"), open_hdf5(path.with_name("none.hdf5")):
        pass
    path.write_text("no HDF5")
    with pytest.raises(DataError, match="opening it failed") as caught, open_hdf5(path):
        pass
    assert "\n" not in str(caught.value)


def test_an_error_of_the_caller_stays_what_it_is(path):
    with pytest.raises(KeyError), open_hdf5(path):
        raise KeyError("mine")
