"""Your own data: HDF5 files in the layout of The Well, with a velocity on a periodic uniform Cartesian grid.

The layout: https://github.com/PolymathicAI/the_well, docs/data_format.md. Lengths, times and velocities are taken to be
in the units of the experiment's flow section; The Well itself records none. In memory x comes first whatever the order
of the axes in the file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.hdf5 import find_array, open_hdf5, translated_faults
from hpcsurrogate.sources.snapshot import Snapshot
from hpcsurrogate.sources.well_grid import WellGrid, read_flags, read_grid


@dataclass(frozen=True)
class WellHeader:
    """What one file holds.

    Attributes
    ----------
    num_trajectories : int            with different velocities: 1 if the velocity does not vary between them
    num_snapshots : int
    snapshot_interval : float         [s]
    grid_shape : tuple of int         nx, ny[, nz]
    domain : tuple of float           Lx, Ly[, Lz] [m]
    origin : tuple of float           coordinates of the first grid point [m]
    dtype : str                       "float32" or "float64"
    """

    num_trajectories: int
    num_snapshots: int
    snapshot_interval: float
    grid_shape: tuple[int, ...]
    domain: tuple[float, ...]
    origin: tuple[float, ...]
    dtype: str


@dataclass(frozen=True)
class _Field:
    """A velocity or one component of it, as it lies in the file: axes along which it does not vary are left out."""

    array: h5py.Dataset
    varies_by_sample: bool
    varies_in_time: bool
    shape: tuple[int, ...]  # of one snapshot, with length 1 along axes that are left out

    def snapshot(self, trajectory: int, index: int) -> np.ndarray:
        place = (trajectory,) * self.varies_by_sample + (index,) * self.varies_in_time
        return self.array[place].reshape(self.shape)


def inspect_well(path: str | Path, velocity: str | tuple[str, ...]) -> WellHeader:
    """Read the header of a file and check that this program can use it.

    Parameters
    ----------
    path : str or Path
    velocity : str or tuple of str    name of the field in t1_fields, or of the components along x, y[, z] in t0_fields

    Returns
    -------
    WellHeader

    Raises
    ------
    DataError    if something is missing, or the grid is not Cartesian, uniform and periodic, or the times are not
                 evenly spaced, or the velocity does not vary in time or contradicts the grid, naming file and key

    Notes
    -----
    What is refused, and how: tests/unit/sources/test_well.py.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        grid = read_grid(path, file)
        return _header(grid, _velocity_fields(path, file, velocity, grid))


def well_snapshots(
    path: str | Path, velocity: str | tuple[str, ...], trajectory: int, start: int = 0, stop: int | None = None
) -> Iterator[Snapshot]:
    """Yield snapshots start, start + 1, ... before stop of one trajectory, one in memory at a time.

    Parameters
    ----------
    path : str or Path
    velocity : str or tuple of str    as `inspect_well`
    trajectory : int                  from 0
    start : int
    stop : int or None                None for all that are left

    Yields
    ------
    Snapshot    velocity of shape (2, nx, ny) or (3, nx, ny, nz) [m/s] in the precision of the file; times count from
                the first snapshot of the trajectory [s]

    Raises
    ------
    DataError    as `inspect_well`; if there is no such trajectory or snapshot; if a value is not finite, naming
                 trajectory and snapshot
    """
    path = Path(path)
    with open_hdf5(path) as file:
        grid = read_grid(path, file)
        fields = _velocity_fields(path, file, velocity, grid)
        header = _header(grid, fields)
        stop = header.num_snapshots if stop is None else stop
        if not 0 <= trajectory < header.num_trajectories:
            raise DataError(f"{path}: there is no trajectory {trajectory}; the file holds {header.num_trajectories}")
        if not 0 <= start <= stop <= header.num_snapshots:
            raise DataError(f"{path}: there are no snapshots {start} to {stop}; the file holds {header.num_snapshots}")
        for index in range(start, stop):
            place = f"trajectory {trajectory}, snapshot {index}"
            values = [_read_snapshot(path, field, trajectory, index, place) for field in fields]
            yield Snapshot(index * header.snapshot_interval, _arranged(values, grid, header.dtype))


def _header(grid: WellGrid, fields: list[_Field]) -> WellHeader:
    return WellHeader(
        num_trajectories=grid.num_trajectories if any(field.varies_by_sample for field in fields) else 1,
        num_snapshots=grid.num_snapshots,
        snapshot_interval=grid.snapshot_interval,
        grid_shape=tuple(grid.shape[axis] for axis in grid.order),
        domain=tuple(grid.spacing[axis] * grid.shape[axis] for axis in grid.order),
        origin=tuple(grid.origin[axis] for axis in grid.order),
        dtype=np.result_type(*(field.array.dtype for field in fields)).name,
    )


def _velocity_fields(path: Path, file: h5py.File, velocity: str | tuple[str, ...], grid: WellGrid) -> list[_Field]:
    """The vector field, or its components along x, y[, z]."""
    num_dims = len(grid.axes)
    if isinstance(velocity, str):
        fields = [_find_field(path, file, f"t1_fields/{velocity}", grid, (num_dims,))]
    elif len(velocity) == num_dims:
        fields = [_find_field(path, file, f"t0_fields/{name}", grid, ()) for name in velocity]
    else:
        raise DataError(f"{path}: has {num_dims} dimensions, simulate.velocity names {len(velocity)} components")
    if not any(field.varies_in_time for field in fields):
        raise DataError(f"{path}: {fields[0].array.name} does not vary in time (time_varying); record a flow that does")
    return fields


def _find_field(path: Path, file: h5py.File, key: str, grid: WellGrid, components: tuple[int, ...]) -> _Field:
    array = find_array(path, file, key)
    (by_sample,) = read_flags(path, array, "sample_varying", 1)
    (in_time,) = read_flags(path, array, "time_varying", 1)
    by_axis = read_flags(path, array, "dim_varying", len(grid.axes))
    leading = (grid.num_trajectories,) * by_sample + (grid.num_snapshots,) * in_time
    kept = tuple(points for points, varies in zip(grid.shape, by_axis, strict=True) if varies)
    full = tuple(points if varies else 1 for points, varies in zip(grid.shape, by_axis, strict=True))
    if array.shape not in (leading + kept + components, leading + full + components):
        names = ["trajectory"] * by_sample + ["time"] * in_time
        names += [axis for axis, varies in zip(grid.axes, by_axis, strict=True) if varies]
        names += ["component"] * len(components)
        expected = leading + kept + components
        raise DataError(f"{path}: {key} has shape {array.shape}, expected {expected}: {', '.join(names)}")
    if array.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise DataError(f"{path}: {key} is {array.dtype}, expected float32 or float64; convert the file")
    return _Field(array, by_sample, in_time, full + components)


def _read_snapshot(path: Path, field: _Field, trajectory: int, index: int, place: str) -> np.ndarray:
    with translated_faults(path, f"reading {field.array.name}, {place}"):
        values = field.snapshot(trajectory, index)
    if not np.isfinite(values).all():
        raise DataError(f"{path}: {field.array.name}, {place} holds NaN or infinity; remove or repair it")
    return values


def _arranged(values: list[np.ndarray], grid: WellGrid, dtype: str) -> np.ndarray:
    """From the axes of the file to (component, x, y[, z]), repeated along axes that were left out."""
    # A vector field has its components in the order of the axes; components by name come as x, y[, z] already.
    components = [values[0][..., axis] for axis in grid.order] if len(values) == 1 else values
    arranged = [np.broadcast_to(component, grid.shape).transpose(grid.order) for component in components]
    return np.stack(arranged).astype(dtype, copy=False)
