"""Your own data: HDF5 files in the layout of The Well, with a velocity on a periodic uniform Cartesian grid.

The layout: https://github.com/PolymathicAI/the_well, docs/data_format.md. Lengths, times and velocities are taken to be
in the units of the experiment's flow section; The Well itself records none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.hdf5 import find_array, open_hdf5, read_attribute, translated_faults
from hpcsurrogate.sources.snapshot import Snapshot

# Relative departure from even spacing that is still rounding: The Well stores times and coordinates in float32.
UNEVEN = 1e-3


@dataclass(frozen=True)
class WellHeader:
    """What one file holds.

    Attributes
    ----------
    num_trajectories, num_snapshots : int
    snapshot_interval : float            [s]
    grid_shape : (int, int)              nx, ny
    domain : (float, float)              Lx, Ly [m]
    origin : (float, float)              coordinates of the first grid point [m]
    dtype : str                          "float32" or "float64"
    """

    num_trajectories: int
    num_snapshots: int
    snapshot_interval: float
    grid_shape: tuple[int, int]
    domain: tuple[float, float]
    origin: tuple[float, float]
    dtype: str


def inspect_well(path: str | Path, velocity: str) -> WellHeader:
    """Read the header of a file and check that this program can use it.

    Parameters
    ----------
    path : str or Path
    velocity : str    name of the field in t1_fields

    Returns
    -------
    WellHeader

    Raises
    ------
    DataError    if something is missing, or the grid is not 2-D, Cartesian, uniform and periodic, or the times are
                 not evenly spaced, or the velocity does not vary with trajectory, time, x and y
    """
    path = Path(path)
    with open_hdf5(path) as file:
        names = _spatial_dimensions(path, file)
        array = find_array(path, file, f"t1_fields/{velocity}")
        axes = [_even_axis(path, file, f"dimensions/{name}") for name in names]
        first, spacing, lengths = zip(*axes, strict=True)
        interval, num_snapshots = _snapshot_interval(path, file)
        num_trajectories = int(read_attribute(path, file, "n_trajectories"))
        expected = (num_trajectories, num_snapshots, *lengths, 2)
        if array.shape != expected:
            raise DataError(
                f"{path}: {array.name} has shape {array.shape}, expected {expected}:"
                f" trajectory, time, {', '.join(names)}, component"
            )
        if array.dtype not in (np.float32, np.float64):
            raise DataError(f"{path}: {array.name} is {array.dtype}, expected float32 or float64; convert the file")
        _require_periodic(path, file, names)
        domain = (spacing[0] * lengths[0], spacing[1] * lengths[1])
        return WellHeader(num_trajectories, num_snapshots, interval, lengths, domain, first, array.dtype.name)


def well_snapshots(path: str | Path, velocity: str, trajectory: int) -> Iterator[Snapshot]:
    """Yield the snapshots of one trajectory, one in memory at a time.

    Parameters
    ----------
    path : str or Path
    velocity : str      name of the field in t1_fields
    trajectory : int    from 0

    Yields
    ------
    Snapshot    velocity of shape (2, nx, ny) [m/s] in the precision of the file; times count from 0 [s]

    Raises
    ------
    DataError    as `inspect_well`; and if a value is not finite, naming trajectory and snapshot
    """
    header = inspect_well(path, velocity)
    if not 0 <= trajectory < header.num_trajectories:
        raise DataError(f"{path}: there is no trajectory {trajectory}; the file holds {header.num_trajectories}")
    with open_hdf5(path) as file:
        array = find_array(Path(path), file, f"t1_fields/{velocity}")
        for index in range(header.num_snapshots):
            with translated_faults(Path(path), f"reading {array.name}, trajectory {trajectory}, snapshot {index}"):
                velocity_xyc = array[trajectory, index]
            if not np.isfinite(velocity_xyc).all():
                raise DataError(
                    f"{path}: {array.name}, trajectory {trajectory}, snapshot {index} holds NaN or infinity;"
                    " remove or repair it"
                )
            yield Snapshot(index * header.snapshot_interval, np.ascontiguousarray(np.moveaxis(velocity_xyc, -1, 0)))


def _spatial_dimensions(path: Path, file: h5py.File) -> list[str]:
    grid_type = read_attribute(path, file, "grid_type")
    dimensions = file.get("dimensions")
    if not isinstance(dimensions, h5py.Group):
        raise DataError(f"{path}: there is no group dimensions; the file is not in the layout of The Well")
    names = [str(name) for name in read_attribute(path, dimensions, "spatial_dims")]
    if len(names) != 2 or str(grid_type).lower() != "cartesian":
        raise DataError(
            f"{path}: a {grid_type} grid with dimensions {names}; only two Cartesian dimensions are supported"
        )
    return names


def _even_axis(path: Path, file: h5py.File, key: str) -> tuple[float, float, int]:
    """First coordinate, spacing and number of points of a uniform axis."""
    array = find_array(path, file, key)
    with translated_faults(path, f"reading {key}"):
        points = np.asarray(array[()], dtype=np.float64)
    if points.ndim != 1 or len(points) < 4 or not np.isfinite(points).all():
        raise DataError(f"{path}: {key} must be one finite coordinate for each of at least 4 points")
    return float(points[0]), _even_step(path, key, points), len(points)


def _snapshot_interval(path: Path, file: h5py.File) -> tuple[float, int]:
    array = find_array(path, file, "dimensions/time")
    with translated_faults(path, "reading dimensions/time"):
        times_bt = np.atleast_2d(np.asarray(array[()], dtype=np.float64))
    if times_bt.shape[-1] < 2 or not np.isfinite(times_bt).all():
        raise DataError(f"{path}: dimensions/time must hold at least two finite times")
    steps = {_even_step(path, "dimensions/time", times) for times in times_bt}
    if max(steps) - min(steps) > UNEVEN * max(steps):
        raise DataError(
            f"{path}: dimensions/time: the trajectories have different snapshot intervals;"
            " put them in files of their own"
        )
    return min(steps), times_bt.shape[-1]


def _even_step(path: Path, key: str, points: np.ndarray) -> float:
    step = (points[-1] - points[0]) / (len(points) - 1)
    if step <= 0 or np.abs(np.diff(points) - step).max() > UNEVEN * step:
        raise DataError(f"{path}: {key} is not evenly spaced and increasing; resample the data")
    # float32 holds seven digits: the eighth and later ones of the quotient are noise, and 0.05 must stay 0.05.
    return float(f"{step:.6g}")


def _require_periodic(path: Path, file: h5py.File, names: list[str]) -> None:
    conditions = file.get("boundary_conditions")
    if not isinstance(conditions, h5py.Group):
        raise DataError(f"{path}: there is no group boundary_conditions; the file is not in the layout of The Well")
    periodic = set()
    for name, condition in conditions.items():
        kind = str(read_attribute(path, condition, "bc_type"))
        if kind.lower() != "periodic":
            raise DataError(f"{path}: boundary_conditions/{name} is {kind}; only periodic boundaries are supported")
        periodic.update(str(dimension) for dimension in read_attribute(path, condition, "associated_dims"))
    if missing := set(names) - periodic:
        raise DataError(
            f"{path}: boundary_conditions says nothing of {sorted(missing)}; only periodic boundaries are supported"
        )
