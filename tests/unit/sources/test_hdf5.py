"""Nothing outside a file is read, nothing that was never written is taken for data, no declared size is believed."""

import sys

import h5py
import numpy as np
import pytest

from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.sources.hdf5 import ZSTD, find_array, open_hdf5, read_attribute, read_fixed_text


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


def patch(path, old, new):
    """Change bytes in place: the fixture's file is in HDF5's oldest format, which has no checksums to be mended."""
    content = path.read_bytes()
    assert old in content and len(old) == len(new)
    path.write_bytes(content.replace(old, new))


def test_groups_that_are_no_tree_are_refused(path):
    edit(path, lambda file: file.create_group("a/b"))
    edit(path, lambda file: file["a/b"].__setitem__("loop", file["a"]))
    with pytest.raises(DataError, match="/a/b/loop is another name of a group"), open_hdf5(path):
        pass
    edit(path, lambda file: (file["a/b"].__delitem__("loop"), file["a"].__setitem__("root", file["/"])))
    with pytest.raises(DataError, match="/a/root is another name of a group"), open_hdf5(path):
        pass


def test_deep_nesting_is_refused(path):
    edit(path, lambda file: file.create_group("/".join("abcdefgh")))
    with open_hdf5(path):
        pass
    edit(path, lambda file: file.create_group("/".join("abcdefghi")))
    with pytest.raises(DataError, match="/a/b/c/d/e/f/g/h/i lies in more than 8 groups"), open_hdf5(path):
        pass


def test_a_name_that_is_there_twice_is_refused(path):
    edit(path, lambda file: (file.create_group("deep/first"), file.create_group("deep/other")))
    patch(path, b"other\0", b"first\0")
    with pytest.raises(DataError, match="/deep holds a name twice"), open_hdf5(path):
        pass


def test_a_name_that_is_no_text_is_refused(path):
    edit(path, lambda file: file.create_group("deep/other"))
    patch(path, b"other\0", b"oth\xff\xfe\0")
    with pytest.raises(DataError, match="/deep holds a name that is no text"), open_hdf5(path):
        pass


def test_an_attribute_that_is_there_twice_is_refused(path):
    edit(path, lambda file: file.attrs.update({"colour": 1, "number": 2}))
    patch(path, b"number\0", b"colour\0")
    with open_hdf5(path) as file, pytest.raises(DataError, match="/ has attribute colour 2 times"):
        read_attribute(path, file, "colour")


def test_an_attribute_without_a_value_is_refused(path):
    edit(path, lambda file: file.attrs.__setitem__("colour", h5py.Empty("f4")))
    with open_hdf5(path) as file, pytest.raises(DataError, match="colour of / is empty"):
        read_attribute(path, file, "colour")


def test_a_fixed_text_is_read_and_one_of_variable_length_is_not(path):
    edit(path, lambda file: file.attrs.update({"fixed": np.bytes_("m/s"), "variable": "m/s"}))
    with open_hdf5(path) as file:
        assert read_fixed_text(path, file, "fixed") == "m/s"
        with pytest.raises(DataError, match="variable of / is not one text of fixed length"):
            read_fixed_text(path, file, "variable")


@pytest.mark.parametrize(
    "declare",
    [{}, {"chunks": (12345,)}, {"chunks": (12345,), "compression": "gzip"}, {"chunks": (12345,), "fletcher32": True}],
)
def test_a_declared_size_beyond_the_file_is_refused_before_it_is_allocated(path, declare):
    edit(path, lambda file: file.create_dataset("a", data=np.ones(12345, "f4"), **declare))
    huge = 2**29  # floats: 2 GiB
    patch(path, (12345).to_bytes(8, "little"), huge.to_bytes(8, "little"))
    if declare:  # the chunk's length, followed by the size of an element
        patch(path, (12345).to_bytes(4, "little") + b"\4\0\0\0", huge.to_bytes(4, "little") + b"\4\0\0\0")
    with pytest.raises(DataError, match=r"a declares 2147483648 bytes, more than|a failed .*invalid dataset size"):
        read(path, "a")


def float24():
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(23, 15, 8, 0, 15)
    kind.set_precision(24)
    kind.set_size(3)
    return kind


@pytest.mark.parametrize(
    "kind",
    [np.dtype([("x", "f4"), ("y", "f4")]), h5py.string_dtype(), np.dtype("S4"), h5py.vlen_dtype("f4"), h5py.ref_dtype,
     np.dtype("c8"), h5py.Datatype(float24())],
)  # fmt: skip
def test_anything_but_ordinary_numbers_is_refused(path, kind):
    edit(path, lambda file: file.create_dataset("a", (2,), kind))
    with pytest.raises(DataError, match="file.hdf5: a holds .* not ordinary numbers"):
        read(path, "a")


@pytest.mark.parametrize("kind", ["f4", ">f8", "f2", "i4", "u1", "?"])
def test_every_ordinary_number_is_read(path, kind):
    edit(path, lambda file: file.create_dataset("a", data=np.array([0, 1], kind)))
    np.testing.assert_array_equal(read(path, "a"), [0, 1])


def test_an_array_without_a_shape_is_refused(path):
    edit(path, lambda file: file.create_dataset("a", data=h5py.Empty("f4")))
    with pytest.raises(DataError, match="a has no shape"):
        read(path, "a")


def test_an_unknown_filter_is_named(path):
    def write(file):
        array = file.create_dataset("a", (2,), "f4", chunks=(2,), compression=300, allow_unknown_filter=True)
        array.id.write_direct_chunk((0,), bytes(8))

    edit(path, write)
    with pytest.raises(DataError, match="a is stored with the unknown filter 300"):
        read(path, "a")


def test_codecs_that_are_not_installed_are_named(path, monkeypatch):
    def write(file):
        array = file.create_dataset("a", (2,), "f4", chunks=(2,), compression=ZSTD, allow_unknown_filter=True)
        array.id.write_direct_chunk((0,), bytes(8))

    edit(path, write)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)  # what an import finds that must not succeed
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)  # another test may have loaded them
    with pytest.raises(ConfigError, match=r"file.hdf5: a needs filters .* pip install 'hpcsurrogate\[compression\]'"):
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
