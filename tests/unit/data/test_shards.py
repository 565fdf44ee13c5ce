"""Shards: what is written is read back, in The Well's layout, and damage is never taken for data."""

import errno
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError, ShapeError
from hpcsurrogate.data import shards
from hpcsurrogate.data.catalogue import shard_name
from hpcsurrogate.data.layout import from_file, to_file
from hpcsurrogate.data.shards import ShardHeader, ShardReader, ShardWriter

HEADER = ShardHeader("noise", 0, 3, 0.1, (6, 4), (1.5, 1.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_field_is_read_back_bit_for_bit(write_shards, dtype):
    directory, arrays = write_shards(dtype=dtype)
    with ShardReader(directory / shard_name(1)) as shard:
        assert shard.header == ShardHeader(
            "noise", 1, 4, 0.1, (6, 4), (1.5, 1.0), "staggered", "box", (0.25, 0.25), {"viscosity": 1e-3}
        )
        assert set(shard.field_names) == set(arrays[1])
        np.testing.assert_array_equal(shard.times, np.arange(4) * 0.1)
        for name, expected in arrays[1].items():
            assert shard.read(name).dtype == dtype
            np.testing.assert_array_equal(shard.read(name), expected)
            np.testing.assert_array_equal(shard.read(name, 1, 4, 2), expected[1:4:2])
            np.testing.assert_array_equal(shard.snapshot(name, -1), expected[-1])


def test_a_symmetric_tensor_is_a_full_matrix_in_the_file():
    stress = np.arange(3 * 2 * 2, dtype=np.float32).reshape(3, 2, 2)
    matrix = to_file(stress, 2)
    np.testing.assert_array_equal(matrix, np.swapaxes(matrix, -1, -2))
    np.testing.assert_array_equal(matrix[..., 0, 1], stress[1])
    np.testing.assert_array_equal(from_file(matrix[None], 2)[0], stress)


def test_the_file_is_in_the_layout_of_the_well(write_shards):
    directory, _ = write_shards()
    path = directory / shard_name(0)
    assert path.read_bytes()[8] == 3, "superblock version 3: checksummed metadata, readable by HDF5 1.10"
    with h5py.File(path) as file:
        assert file.attrs["dataset_name"] == "noise" and file.attrs["grid_type"] == "cartesian"
        assert (file.attrs["n_spatial_dims"], file.attrs["n_trajectories"]) == (2, 1)
        assert [file.attrs[name] for name in file.attrs["simulation_parameters"]] == [1e-3]
        assert list(file["dimensions"].attrs["spatial_dims"]) == ["x", "y"]
        # Coordinates of a staggered layout are those of the cell centres.
        np.testing.assert_allclose(file["dimensions/x"], (np.arange(6) + 0.5) * 0.25, rtol=1e-6)
        assert not file["dimensions/time"].attrs["sample_varying"]
        for axis, boundary in zip("xy", file["boundary_conditions"].values(), strict=True):
            assert boundary.attrs["bc_type"] == "PERIODIC" and list(boundary.attrs["associated_dims"]) == [axis]
            assert boundary["mask"][0] and boundary["mask"][-1] and boundary["mask"][:].sum() == 2
        assert list(file["scalars"].attrs["field_names"]) == list(file["t0_fields"].attrs["field_names"]) == []
        assert set(file["t1_fields"].attrs["field_names"]) == {"velocity", "commutator"}
        stress = file["t2_fields/sgs_stress"]
        assert stress.shape == (1, 5, 6, 4, 2, 2) and stress.chunks == (1, 1, 6, 4, 2, 2) and stress.fletcher32
        assert stress.attrs["symmetric"] and not stress.attrs["antisymmetric"]
        assert (
            stress.attrs["sample_varying"]
            and stress.attrs["time_varying"]
            and list(stress.attrs["dim_varying"]) == [1, 1]
        )
        assert stress.attrs["units"] == "m^2/s^2" and "xy at corners" in stress.attrs["location"]


def test_an_error_or_too_few_snapshots_leave_no_file(tmp_path):
    path, velocity = tmp_path / "shard.hdf5", np.zeros((2, 6, 4))
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


@pytest.mark.parametrize("key", ["schema_version", "snapshot_interval", "layout", "filter_width", "grid_shape"])
def test_a_missing_attribute_is_named(write_shards, key):
    path = write_shards()[0] / shard_name(0)
    with h5py.File(path, "a") as file:
        del file.attrs[key]
    with pytest.raises(DataError, match=f"{shard_name(0)}.*{key}"), ShardReader(path):
        pass


def test_a_missing_array_and_a_wrong_unit_are_named(write_shards):
    path = write_shards()[0] / shard_name(0)
    with h5py.File(path, "a") as file:
        file["t1_fields/velocity"].attrs["units"] = "cm/s"
    with pytest.raises(DataError, match="velocity is in cm/s, expected m/s"), ShardReader(path):
        pass
    with h5py.File(path, "a") as file:
        del file["t1_fields/velocity"]
    with pytest.raises(DataError, match="no array t1_fields/velocity"), ShardReader(path):
        pass


def test_a_flipped_bit_never_changes_a_value(write_shards):
    """Checksums of chunks and of metadata: wherever the bit lies, the arrays are the same or the reader refuses."""
    directory, arrays = write_shards(lengths=(3,))
    path = directory / shard_name(0)
    sound, generator, refused = path.read_bytes(), np.random.default_rng(1), 0
    for position in generator.integers(0, len(sound), 80):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            with ShardReader(path) as shard:
                for name, expected in arrays[0].items():
                    np.testing.assert_array_equal(shard.read(name), expected)
        except DataError as error:
            assert shard_name(0) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 20  # about a third of the bytes of so small a file are chunks and checked metadata
