"""Files in the layout of The Well as users have them: read exactly, or refused in one line that says why."""

import h5py
import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.well import inspect_well, well_snapshots

SHAPE = (2, 5, 8, 4, 2)  # trajectory, time, x, y, component
VELOCITY = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
TOO_LONG = np.array([-1.5, -1, -0.5, 0, 0.5, 1, 1.2, 1.5]) * 1e308  # the difference of the ends is infinite
SOLID = np.random.default_rng(1).standard_normal((2, 3, 4, 6, 8, 3)).astype(np.float32)


def add_field(file, key, values, sample=True, time=True, axes=(True, True)):
    """One field with the attributes that the specification asks for."""
    file[key] = values
    file[key].attrs.update({"sample_varying": sample, "time_varying": time, "dim_varying": list(axes)})


def write_well(path, axes, points, times):
    """Everything of a file but the fields: float32 axes with a spacing of 0.25, lower-case boundary types."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"dataset_name": "user", "grid_type": "cartesian", "n_trajectories": 2})
        file.attrs["n_spatial_dims"] = len(axes)
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = list(axes)
        dimensions["time"] = times
        dimensions["time"].attrs["sample_varying"] = False
        for axis, count in zip(axes, points, strict=True):
            dimensions[axis] = np.arange(count, dtype=np.float32) * 0.25
            dimensions[axis].attrs["sample_varying"] = False
            boundary = file.create_group(f"boundary_conditions/{axis}_periodic")
            boundary.attrs["bc_type"] = "periodic"
            boundary.attrs["associated_dims"] = [axis]
            boundary["mask"] = np.ones(count, dtype=bool)


@pytest.fixture
def path(tmp_path):
    """Two dimensions, as another program would write them; times from 3 on."""
    write_well(tmp_path / "user.hdf5", "xy", (8, 4), np.linspace(3.0, 3.2, 5, dtype=np.float32))
    with h5py.File(tmp_path / "user.hdf5", "a") as file:
        add_field(file, "t1_fields/wind", VELOCITY)
    return tmp_path / "user.hdf5"


@pytest.fixture
def solid_path(tmp_path):
    """Three dimensions; times from 0 on."""
    write_well(tmp_path / "solid.hdf5", "xyz", (4, 6, 8), np.arange(3.0))
    with h5py.File(tmp_path / "solid.hdf5", "a") as file:
        add_field(file, "t1_fields/wind", SOLID, axes=(True, True, True))
    return tmp_path / "solid.hdf5"


def replace(path, key, value, **attributes):
    """Exchange a data set or group; a data set keeps its attributes but for those given."""
    with h5py.File(path, "a") as file:
        kept = dict(file[key].attrs) | attributes
        del file[key]
        if value is not None:
            file[key] = value
            file[key].attrs.update(kept)


def velocities(path, *arguments):
    return np.stack([snapshot.velocity for snapshot in well_snapshots(path, *arguments)])


def test_the_header_is_what_the_file_says(path):
    header = inspect_well(path, "wind")
    assert (header.num_trajectories, header.num_snapshots, header.grid_shape) == (2, 5, (8, 4))
    assert (header.domain, header.origin, header.dtype) == ((2.0, 1.0), (0.0, 0.0), "float32")
    assert header.snapshot_interval == 0.05  # and not 0.05000000074...


def test_three_dimensions(solid_path):
    header = inspect_well(solid_path, "wind")
    assert (header.grid_shape, header.domain, header.origin) == ((4, 6, 8), (1.0, 1.5, 2.0), (0.0, 0.0, 0.0))
    np.testing.assert_array_equal(velocities(solid_path, "wind", 1), np.moveaxis(SOLID[1], -1, 1))


@pytest.mark.parametrize("trajectory", [0, 1])
def test_snapshots_are_the_values_of_the_file_with_components_first(path, trajectory):
    snapshots = list(well_snapshots(path, "wind", trajectory))
    assert [snapshot.time for snapshot in snapshots] == [index * 0.05 for index in range(5)]
    for index, snapshot in enumerate(snapshots):
        assert snapshot.velocity.flags.c_contiguous and snapshot.velocity.dtype == np.float32
        np.testing.assert_array_equal(snapshot.velocity, np.moveaxis(VELOCITY[trajectory, index], -1, 0))


def test_a_block_keeps_the_times_of_its_trajectory(path):
    block = list(well_snapshots(path, "wind", 1, 2, 4))
    assert [snapshot.time for snapshot in block] == [0.1, pytest.approx(0.15)]
    np.testing.assert_array_equal(block[0].velocity, np.moveaxis(VELOCITY[1, 2], -1, 0))
    assert list(well_snapshots(path, "wind", 1, 5)) == []
    with pytest.raises(DataError, match="no snapshots 3 to 6; the file holds 5"):
        next(well_snapshots(path, "wind", 1, 3, 6))


def test_components_in_fields_of_their_own(solid_path):
    """u varies everywhere, v is the same in both trajectories, w in time too and along y: broadcast, not guessed."""
    v, w = SOLID[0, ..., 1], SOLID[0, 0, :, 0, :, 2]
    with h5py.File(solid_path, "a") as file:
        add_field(file, "t0_fields/u", SOLID[..., 0].astype(np.float64), axes=(True, True, True))
        add_field(file, "t0_fields/v", v, sample=False, axes=(True, True, True))
        add_field(file, "t0_fields/w", w, sample=False, time=False, axes=(True, False, True))
    header = inspect_well(solid_path, ("u", "v", "w"))
    assert (header.num_trajectories, header.dtype) == (2, "float64")
    found = velocities(solid_path, ("u", "v", "w"), 1)
    np.testing.assert_array_equal(found[:, 0], SOLID[1, ..., 0])
    np.testing.assert_array_equal(found[:, 1], v)
    np.testing.assert_array_equal(found[:, 2], np.broadcast_to(w[None, :, None, :], found[:, 2].shape))


def test_an_axis_that_does_not_vary_may_also_have_length_one(path):
    """The specification leaves it out, the reader of The Well repeats an axis of length one: both are understood."""
    replace(path, "t1_fields/wind", VELOCITY[:, :, :1], dim_varying=[False, True])
    found = velocities(path, "wind", 0)
    replace(path, "t1_fields/wind", VELOCITY[:, :, 0], dim_varying=[False, True])
    np.testing.assert_array_equal(velocities(path, "wind", 0), found)
    np.testing.assert_array_equal(found[:, :, 5], np.moveaxis(VELOCITY[0, :, 0], -1, 1))


def test_a_velocity_common_to_all_trajectories_is_one(path):
    """Two equal realisations would put the test data into the train split."""
    replace(path, "t1_fields/wind", VELOCITY[0], sample_varying=False)
    assert inspect_well(path, "wind").num_trajectories == 1
    np.testing.assert_array_equal(velocities(path, "wind", 0), np.moveaxis(VELOCITY[0], -1, 1))


def test_x_comes_first_whatever_the_order_in_the_file(tmp_path):
    """Axes y, x: arrays are (trajectory, time, y, x) and a vector's first component is along y."""
    path = tmp_path / "turned.hdf5"
    write_well(path, "yx", (8, 4), np.arange(5.0))
    with h5py.File(path, "a") as file:
        file["dimensions/x"][...] = np.arange(4) * 2.0 + 1.0
        add_field(file, "t1_fields/wind", VELOCITY)
        add_field(file, "t0_fields/u", VELOCITY[..., 1])
        add_field(file, "t0_fields/v", VELOCITY[..., 0])
    header = inspect_well(path, "wind")
    assert (header.grid_shape, header.domain, header.origin) == ((4, 8), (8.0, 2.0), (1.0, 0.0))
    expected = np.stack((VELOCITY[0, ..., 1], VELOCITY[0, ..., 0]), axis=1).swapaxes(-1, -2)
    np.testing.assert_array_equal(velocities(path, "wind", 0), expected)
    np.testing.assert_array_equal(velocities(path, ("u", "v"), 0), expected)


def test_times_of_each_trajectory_may_be_their_own(path):
    times = np.array([[0, 1, 2, 3, 4], [7, 8, 9, 10, 11]], dtype=np.float32)
    replace(path, "dimensions/time", times, sample_varying=True)
    assert inspect_well(path, "wind").snapshot_interval == 1.0
    assert [snapshot.time for snapshot in well_snapshots(path, "wind", 1)] == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_times_far_from_zero_are_even_to_their_rounding(path, dtype):
    """At 2000 a float32 is good to 1.2e-4, a hundredth of the interval; 301 of them still give it to 4e-7."""
    times = (2000 + 0.0125 * np.arange(301)).astype(dtype)
    replace(path, "dimensions/time", times)
    replace(path, "t1_fields/wind", np.zeros((2, 301, 8, 4, 2), np.float32))
    assert inspect_well(path, "wind").snapshot_interval == 0.0125
    replace(path, "dimensions/time", np.delete(np.append(times, 2000 + 0.0125 * 301), 150))
    with pytest.raises(DataError, match="dimensions/time is not evenly spaced"):
        inspect_well(path, "wind")


def test_names_may_be_any_kind_of_string(path):
    """Fixed-length strings as netCDF tools write them; The Well's own writer gives associated_dims as one string."""
    with h5py.File(path, "a") as file:
        file.attrs["grid_type"] = np.bytes_("cartesian")
        file["dimensions"].attrs["spatial_dims"] = np.array([b"x", b"y"])
        for axis in "xy":
            boundary = file[f"boundary_conditions/{axis}_periodic"]
            boundary.attrs["bc_type"] = np.bytes_("PERIODIC")
            boundary.attrs["associated_dims"] = axis
    assert inspect_well(path, "wind").grid_shape == (8, 4)


def test_big_endian_values_are_numbers_too(path):
    replace(path, "t1_fields/wind", VELOCITY.astype(">f4"))
    snapshot = next(well_snapshots(path, "wind", 0))
    assert snapshot.velocity.dtype == np.float32 and snapshot.velocity.dtype.isnative
    np.testing.assert_array_equal(snapshot.velocity, np.moveaxis(VELOCITY[0, 0], -1, 0))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("t1_fields/wind", None, "no array t1_fields/wind"),
        ("t1_fields/wind", np.zeros((2, 5, 8, 4, 3), np.float32), r"expected \(2, 5, 8, 4, 2\): trajectory, time, x,"),
        ("t1_fields/wind", np.zeros((2, 4, 8, 4, 2), np.float32), r"t1_fields/wind has shape \(2, 4,"),
        ("t1_fields/wind", np.zeros(SHAPE, np.int32), "is int32, expected float32 or float64"),
        ("dimensions/time", np.array([0, 1, 2, 4, 5.0]), "dimensions/time is not evenly spaced"),
        ("dimensions/time", np.array([0.0]), r"dimensions/time has shape \(1,\), expected \(snapshots,\)"),
        ("dimensions/time", np.zeros((2, 5)), r"dimensions/time has shape \(2, 5\), expected \(snapshots,\)"),
        ("dimensions/x", np.arange(8.0)[::-1], "dimensions/x is not evenly spaced and increasing"),
        ("dimensions/x", TOO_LONG, "dimensions/x is not evenly spaced and increasing"),
        ("dimensions/x", np.full(8, np.nan), "dimensions/x holds NaN or infinity"),
        ("dimensions/x", np.array([b"a"] * 8), "dimensions/x holds .*, not ordinary numbers"),
        ("dimensions/y", np.arange(3.0), r"dimensions/y has shape \(3,\), expected coordinates of at least 4 points"),
        ("boundary_conditions", None, "no group boundary_conditions"),
        ("boundary_conditions/y_periodic", None, "boundary_conditions says nothing of y;"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(path, key, value, message):
    replace(path, key, value)
    with pytest.raises(DataError, match=f"user.hdf5: .*{message}") as caught:
        inspect_well(path, "wind")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "attribute", "value", "message"),
    [
        ("boundary_conditions/x_periodic", "bc_type", "WALL", "boundary_conditions/x_periodic is WALL"),
        ("/", "grid_type", "spherical", "only two or three Cartesian dimensions"),
        ("/", "n_spatial_dims", 3, "n_spatial_dims is 3, spatial_dims names 2"),
        ("/", "n_trajectories", 0, "n_trajectories is 0, expected a positive whole number"),
        ("dimensions", "spatial_dims", ["x"], "only two or three Cartesian dimensions"),
        ("dimensions", "spatial_dims", ["x", "x"], "only two or three Cartesian dimensions"),
        ("dimensions", "spatial_dims", [1.0, 2.0], "spatial_dims of /dimensions is .*, expected text"),
        ("dimensions/x", "sample_varying", True, "dimensions/x varies between trajectories or in time"),
        ("dimensions/x", "time_varying", True, "dimensions/x varies between trajectories or in time"),
        ("dimensions/time", "sample_varying", True, r"dimensions/time has shape \(5,\), expected \(2, snapshots\)"),
        ("t1_fields/wind", "time_varying", False, r"expected \(2, 8, 4, 2\): trajectory, x, y, component"),
        ("t1_fields/wind", "sample_varying", [True, True], "expected 1 truth value"),
        ("t1_fields/wind", "dim_varying", True, "expected 2 truth value"),
        ("t1_fields/wind", "dim_varying", ["yes", "no"], "expected 2 truth value"),
    ],
)
def test_another_geometry_is_refused(path, place, attribute, value, message):
    with h5py.File(path, "a") as file:
        file[place].attrs[attribute] = value
    with pytest.raises(DataError, match=f"user.hdf5: .*{message}"):
        inspect_well(path, "wind")


@pytest.mark.parametrize("attribute", ["sample_varying", "time_varying", "dim_varying"])
def test_an_attribute_that_the_specification_asks_for_is_not_guessed(path, attribute):
    with h5py.File(path, "a") as file:
        del file["t1_fields/wind"].attrs[attribute]
    with pytest.raises(DataError, match=f"/t1_fields/wind has no attribute {attribute}"):
        inspect_well(path, "wind")


def test_trajectories_with_other_intervals_are_refused(path):
    replace(path, "dimensions/time", np.array([[0, 1, 2, 3, 4.0], [0, 2, 4, 6, 8]]), sample_varying=True)
    with pytest.raises(DataError, match="different snapshot intervals"):
        inspect_well(path, "wind")


def test_a_velocity_that_stands_still_is_refused(path):
    replace(path, "t1_fields/wind", VELOCITY[:, 0], time_varying=False)
    with pytest.raises(DataError, match="t1_fields/wind does not vary in time"):
        inspect_well(path, "wind")


def test_every_dimension_needs_its_component(path):
    with pytest.raises(DataError, match="has 2 dimensions, simulate.velocity names 3 components"):
        inspect_well(path, ("u", "v", "w"))


def test_values_that_are_not_finite_are_located(path):
    with h5py.File(path, "a") as file:
        file["t1_fields/wind"][1, 3, 0, 0, 0] = np.inf
    assert len(list(well_snapshots(path, "wind", 0))) == 5
    with pytest.raises(DataError, match="trajectory 1, snapshot 3 holds NaN or infinity"):
        list(well_snapshots(path, "wind", 1))


def test_a_trajectory_that_is_not_there_is_refused(path):
    with pytest.raises(DataError, match="no trajectory 2; the file holds 2"):
        next(well_snapshots(path, "wind", 2))


def test_the_wells_own_example_of_a_file_is_read(tmp_path):
    """What the package's writer of example data makes, nothing changed."""
    from the_well.utils.dummy_data import write_dummy_data

    path = tmp_path / "dummy.hdf5"
    write_dummy_data(str(path))
    header = inspect_well(path, "field")
    assert (header.num_trajectories, header.num_snapshots, header.grid_shape) == (2, 10, (32, 32))
    with h5py.File(path) as file:
        expected = file["t1_fields/field"][1]
    np.testing.assert_array_equal(velocities(path, "field", 1), np.moveaxis(expected, -1, 1))
