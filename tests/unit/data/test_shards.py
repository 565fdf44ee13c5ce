"""Shards: what is written is read back, in The Well's layout, and damage is never taken for data."""

import errno
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError, ShapeError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data import shards
from hpcsurrogate.data.layout import to_file
from hpcsurrogate.data.shards import ShardHeader, ShardReader, ShardWriter

HEADER = ShardHeader("noise", 0, 3, 0.1, (6, 4), (1.5, 1.0))
SPACE = ShardHeader(
    "noise", 1, 4, 0.1, (6, 4, 8), (1.5, 1.0, 2.0), "staggered", "box", (0.2, 0.2, 0.2), {"viscosity": 1e-3}, "", 12
)
PLANE = ShardHeader(
    "noise", 1, 4, 0.1, (6, 4), (1.5, 1.0), "staggered", "box", (0.2, 0.2), {"viscosity": 1e-3, "drag": 0.0}, "", 12
)
NAMES = ("velocity", "vorticity", "sgs_stress")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shard.hdf5"


def write(path, header=PLANE, dtype="float32", compression="none", values=None):
    """Write noise, or `values` everywhere, in every field of NAMES; returns {field: (time, component, x, y[, z])}."""
    generator, arrays = np.random.default_rng(0), {}
    for name in NAMES:
        shape = (header.num_snapshots, FIELDS[name].num_components_in(header.num_dims), *header.grid_shape)
        arrays[name] = (generator.standard_normal(shape) if values is None else np.full(shape, values)).astype(dtype)
    with ShardWriter(path, header, NAMES, dtype, compression) as shard:
        for index in range(header.num_snapshots):
            shard.append({name: arrays[name][index] for name in NAMES})
    return arrays


@pytest.mark.parametrize("header", [PLANE, SPACE], ids=["2-D", "3-D"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_field_is_read_back_bit_for_bit(path, header, dtype):
    arrays = write(path, header, dtype)
    with ShardReader(path) as shard:
        assert shard.header == header and shard.field_names == NAMES
        np.testing.assert_array_equal(shard.times, np.arange(12, 16) * 0.1)
        for name, expected in arrays.items():
            assert shard.read(name).dtype == dtype
            np.testing.assert_array_equal(shard.read(name), expected)
            np.testing.assert_array_equal(shard.read(name, 1, 4, 2), expected[1:4:2])
            np.testing.assert_array_equal(shard.snapshot(name, -1), expected[-1])


@pytest.mark.parametrize("header", [PLANE, SPACE], ids=["2-D", "3-D"])
@pytest.mark.parametrize("values", [None, 0.25], ids=["noise", "constant"])
@pytest.mark.parametrize("codec", ["none", "gzip", "zstd", "blosc"])
def test_every_codec_gives_back_what_was_written_to_other_tools_too(path, header, values, codec):
    """Noise is what codecs leave as it is, or lengthen."""
    arrays = write(path, header, compression=codec, values=values)
    with ShardReader(path) as shard:
        for name, expected in arrays.items():
            np.testing.assert_array_equal(shard.read(name), expected)
    with h5py.File(path) as file:
        for name, expected in arrays.items():
            array, rank = file[f"t{FIELDS[name].rank}_fields/{name}"], FIELDS[name].rank
            np.testing.assert_array_equal(array[0], [to_file(snapshot, rank) for snapshot in expected])
            if codec != "none" and values is not None and header is SPACE:  # a plane is too small for Blosc
                assert array.id.get_storage_size() < array.nbytes / 2


@pytest.mark.parametrize(
    ("codec", "numbers"), [("none", []), ("gzip", [2, 1]), ("zstd", [2, 32015]), ("blosc", [32001])]
)
def test_a_chunk_is_a_snapshot_and_the_checksum_covers_what_is_stored(path, codec, numbers):
    """Numbers of HDF5: 2 is its byte shuffle, 1 deflate, 3 Fletcher-32."""
    write(path, SPACE, compression=codec)
    with ShardReader(path) as shard:
        array = shard.dataset("sgs_stress")
        assert array.shape == (1, 4, 6, 4, 8, 3, 3) and array.chunks == (1, 1, 6, 4, 8, 3, 3)
        plist = array.id.get_create_plist()
        assert [plist.get_filter(index)[0] for index in range(plist.get_nfilters())] == [*numbers, 3]


@pytest.mark.parametrize("codec", ["zstd", "blosc"])
def test_a_codec_that_is_not_installed_is_named_and_nothing_is_written(path, fresh_python, codec):
    without = "import sys; sys.modules['hdf5plugin'] = None"
    done = fresh_python(
        f"""
        {without}
        from hpcsurrogate.core.errors import ConfigError
        from hpcsurrogate.data.shards import ShardHeader, ShardWriter
        try:
            with ShardWriter({str(path)!r}, ShardHeader("a", 0, 1, 0.1, (6, 4), (1.0, 1.0)), ["velocity"],
                             compression={codec!r}):
                pass
        except ConfigError as error:
            print(error)
        """
    )
    assert done.stderr == "" and f"compression {codec} needs filters" in done.stdout
    assert "pip install 'hpcsurrogate[compression]'" in done.stdout
    assert list(path.parent.iterdir()) == []


def test_an_error_or_too_few_snapshots_leave_no_file(tmp_path, path):
    velocity = np.zeros((2, 6, 4))
    with pytest.raises(DataError, match="1 of 3 snapshots"), ShardWriter(path, HEADER, ["velocity"]) as shard:
        shard.append({"velocity": velocity})
    with pytest.raises(ZeroDivisionError), ShardWriter(path, HEADER, ["velocity"]) as shard:
        shard.append({"velocity": velocity * (1 // 0)})
    with pytest.raises(ShapeError, match="velocity"), ShardWriter(path, HEADER, ["velocity"]) as shard:
        shard.append({"velocity": velocity[:1]})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(shards.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(OSError, match="disk full") as caught, ShardWriter(tmp_path / "a.hdf5", HEADER, ["velocity"]):
        pass
    assert caught.value.errno == errno.ENOSPC and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("full_after", [1, 50])
def test_a_disk_that_fills_up_ends_with_one_line_and_no_crash(tmp_path, fresh_python, full_after):
    """The open file becomes /dev/full, which answers writes as a full disk does: at a snapshot, or at the close."""
    done = fresh_python(
        f"""
        import os, numpy as np
        from hpcsurrogate.data.shards import ShardHeader, ShardWriter
        header = ShardHeader("noise", 0, 50, 0.1, (64, 64), (1.0, 1.0))
        try:
            with ShardWriter({str(tmp_path / "a.hdf5")!r}, header, ["velocity"]) as shard:
                for index in range(1, 51):
                    shard.append({{"velocity": np.ones((2, 64, 64))}})
                    if index == {full_after}:
                        links = [f"/proc/self/fd/{{name}}" for name in os.listdir("/proc/self/fd")]
                        (link,) = [link for link in links if os.path.islink(link) and ".hdf5" in os.readlink(link)]
                        os.dup2(os.open("/dev/full", os.O_RDWR), int(os.path.basename(link)))
        except OSError as error:
            print(error)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "[Errno 28] disk full: free space" in done.stdout and done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_unit_and_a_missing_array_are_named(path):
    write(path)
    with h5py.File(path, "a") as file:
        file["t1_fields/velocity"].attrs["units"] = np.bytes_("cm/s")
    with pytest.raises(DataError, match="t1_fields/velocity is in cm/s, expected m/s"), ShardReader(path):
        pass
    with h5py.File(path, "a") as file:
        del file["t1_fields/velocity"]
    with (
        ShardReader(path) as shard,
        pytest.raises(DataError, match="no field velocity; the shard holds vort"),
    ):
        shard.read("velocity")
    with h5py.File(path, "a") as file:
        del file["t0_fields"]
    with pytest.raises(DataError, match="no group t0_fields"), ShardReader(path):
        pass


def other_file(file):
    external = [(str(file.filename) + ".raw", 0, 4 * 4 * 6 * 4 * 2)]
    file["t1_fields"].create_dataset("velocity", (1, 4, 6, 4, 2), "f4", external=external)


HOSTILE = {
    "t1_fields/velocity is a link": lambda f: f["t1_fields"].__setitem__("velocity", h5py.SoftLink("/t0_fields")),
    "t1_fields/velocity is stored in other files": other_file,
    "t1_fields/velocity holds 0 of 4 chunks": lambda f: f["t1_fields"].create_dataset(
        "velocity", (1, 4, 6, 4, 2), "f4", chunks=(1, 1, 6, 4, 2), fletcher32=True
    ),
    "t1_fields/velocity has chunks": lambda f: f["t1_fields"].create_dataset(
        "velocity", data=np.zeros((1, 4, 6, 4, 2), "f4"), chunks=(1, 4, 6, 4, 2), fletcher32=True
    ),
    "t1_fields/velocity has no checksum": lambda f: f["t1_fields"].create_dataset(
        "velocity", data=np.zeros((1, 4, 6, 4, 2), "f4"), chunks=(1, 1, 6, 4, 2)
    ),
    "t1_fields/velocity has no checksum, or unknown filters": lambda f: f["t1_fields"].create_dataset(
        "velocity", data=np.zeros((1, 4, 6, 4, 2), "f4"), chunks=(1, 1, 6, 4, 2), compression="lzf", fletcher32=True
    ),
    "t1_fields/velocity is int32 of shape": lambda f: f["t1_fields"].create_dataset(
        "velocity", data=np.zeros((1, 4, 6, 4, 2), "i4")
    ),
    "t1_fields/velocity holds .* not ordinary numbers": lambda f: f["t1_fields"].create_dataset(
        "velocity", (1, 4, 6, 4, 2), [("x", "f4")]
    ),
    r"t1_fields/velocity is float32 of shape \(1, 4, 6, 4, 3\)": lambda f: f["t1_fields"].create_dataset(
        "velocity", data=np.zeros((1, 4, 6, 4, 3), "f4")
    ),
    "t1_fields/velocity has no attribute units": lambda f: f["t1_fields"].create_dataset(
        "velocity", data=np.zeros((1, 4, 6, 4, 2), "f4"), chunks=(1, 1, 6, 4, 2), fletcher32=True
    ),
    "t1_fields/pressure is no field": lambda f: f["t1_fields"].create_dataset("pressure", data=np.zeros(4)),
    "t1_fields/again is another name of a group": lambda f: f["t1_fields"].__setitem__("again", f["t1_fields"]),
}


@pytest.mark.parametrize("message", HOSTILE)
def test_a_hostile_shard_is_refused_with_file_and_data_set(path, message):
    write(path)
    with h5py.File(path, "a", libver=("v110", "v110")) as file:
        del file["t1_fields/velocity"]
        HOSTILE[message](file)
    with pytest.raises(DataError, match=f"{path}: /?{message}") as caught, ShardReader(path):
        pass
    assert "\n" not in str(caught.value)


def test_a_shard_without_a_field_is_refused(path):
    with ShardWriter(path, HEADER, []) as shard:
        for _ in range(3):
            shard.append({})
    with pytest.raises(DataError, match="holds no field"), ShardReader(path):
        pass


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_damage_never_changes_a_number(path, codec):
    """Flipped bits, other bytes, a cut: checksums of chunks and of metadata see it, or what is read is the same."""
    arrays = write(path, compression=codec)
    sound, generator, refused = path.read_bytes(), np.random.default_rng(1), 0
    for trial in range(150):
        damaged, start = bytearray(sound), int(generator.integers(len(sound)))
        if trial % 3 == 0:
            damaged[start] ^= 1 << int(generator.integers(8))
        elif trial % 3 == 1:
            damaged[start : start + 16] = generator.bytes(len(damaged[start : start + 16]))
        else:
            del damaged[start:]
        path.write_bytes(damaged)
        try:
            with ShardReader(path) as shard:
                assert shard.header == PLANE and shard.field_names == NAMES
                for name, expected in arrays.items():
                    np.testing.assert_array_equal(shard.read(name), expected)
        except DataError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    # Every cut, and the part of the other trials that met chunks or checked metadata.
    assert refused > 60
