"""Files in the layout of The Well as users have them: read exactly, or refused in one line that says why."""

import h5py
import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.well import inspect_well, well_snapshots

SHAPE = (2, 5, 8, 4, 2)  # trajectory, time, x, y, component
VELOCITY = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    """A file as another program would write it: float32 axes, lower-case boundary names, times from 3 on."""
    with h5py.File(tmp_path / "user.hdf5", "w") as file:
        file.attrs.update({"dataset_name": "user", "grid_type": "cartesian", "n_spatial_dims": 2, "n_trajectories": 2})
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y"]
        dimensions["time"] = np.linspace(3.0, 3.2, 5, dtype=np.float32)
        dimensions["x"] = np.arange(8, dtype=np.float32) * 0.25
        dimensions["y"] = np.arange(4, dtype=np.float32) * 0.5
        for axis in "xy":
            boundary = file.create_group(f"boundary_conditions/{axis}")
            boundary.attrs["bc_type"] = "periodic"
            boundary.attrs["associated_dims"] = [axis]
        file["t1_fields/wind"] = VELOCITY
    return tmp_path / "user.hdf5"


def replace(path, key, value):
    with h5py.File(path, "a") as file:
        del file[key]
        if value is not None:
            file[key] = value


def test_the_header_is_what_the_file_says(path):
    header = inspect_well(path, "wind")
    assert (header.num_trajectories, header.num_snapshots, header.grid_shape) == (2, 5, (8, 4))
    assert (header.domain, header.origin, header.dtype) == ((2.0, 2.0), (0.0, 0.0), "float32")
    assert header.snapshot_interval == 0.05  # and not 0.05000000074...


@pytest.mark.parametrize("trajectory", [0, 1])
def test_snapshots_are_the_values_of_the_file_with_components_first(path, trajectory):
    snapshots = list(well_snapshots(path, "wind", trajectory))
    assert [snapshot.time for snapshot in snapshots] == [index * 0.05 for index in range(5)]
    for index, snapshot in enumerate(snapshots):
        np.testing.assert_array_equal(snapshot.velocity, np.moveaxis(VELOCITY[trajectory, index], -1, 0))


def test_times_of_each_trajectory_may_be_their_own(path):
    replace(path, "dimensions/time", np.array([[0, 1, 2, 3, 4], [7, 8, 9, 10, 11]], dtype=np.float32))
    assert inspect_well(path, "wind").snapshot_interval == 1.0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("t1_fields/wind", None, "no array t1_fields/wind"),
        (
            "t1_fields/wind",
            np.zeros((2, 5, 8, 4, 3), np.float32),
            r"expected \(2, 5, 8, 4, 2\): trajectory, time, x, y",
        ),
        ("t1_fields/wind", np.zeros((2, 4, 8, 4, 2), np.float32), "has shape"),
        ("t1_fields/wind", np.zeros(SHAPE, np.int32), "is int32, expected float32 or float64"),
        ("dimensions/time", np.array([0, 1, 2, 4, 5.0]), "dimensions/time is not evenly spaced"),
        ("dimensions/time", np.array([[0, 1, 2, 3, 4.0], [0, 2, 4, 6, 8]]), "different snapshot intervals"),
        ("dimensions/x", np.arange(8.0)[::-1], "dimensions/x is not evenly spaced and increasing"),
        ("boundary_conditions", None, "no group boundary_conditions"),
        ("boundary_conditions/y", None, r"says nothing of \['y'\]"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(path, key, value, message):
    replace(path, key, value)
    with pytest.raises(DataError, match=f"user.hdf5: .*{message}") as caught:
        inspect_well(path, "wind")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("group", "attribute", "value", "message"),
    [
        ("boundary_conditions/x", "bc_type", "WALL", "boundary_conditions/x is WALL"),
        ("/", "grid_type", "spherical", "only two Cartesian dimensions"),
        ("dimensions", "spatial_dims", ["x", "y", "z"], "only two Cartesian dimensions"),
    ],
)
def test_another_geometry_is_refused(path, group, attribute, value, message):
    with h5py.File(path, "a") as file:
        file[group].attrs[attribute] = value
    with pytest.raises(DataError, match=message):
        inspect_well(path, "wind")


def test_values_that_are_not_finite_are_located(path):
    with h5py.File(path, "a") as file:
        file["t1_fields/wind"][1, 3, 0, 0, 0] = np.inf
    assert len(list(well_snapshots(path, "wind", 0))) == 5
    with pytest.raises(DataError, match="trajectory 1, snapshot 3 holds NaN or infinity"):
        list(well_snapshots(path, "wind", 1))


def test_a_trajectory_that_is_not_there_is_refused(path):
    with pytest.raises(DataError, match="no trajectory 2; the file holds 2"):
        next(well_snapshots(path, "wind", 2))
