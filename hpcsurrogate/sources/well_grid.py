"""Axes, times and boundaries of a file in the layout of The Well, refused unless they are what our flows need.

That is: Cartesian, two or three dimensions, evenly spaced points and times, periodic everywhere.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.hdf5 import find_array, read_attribute, translated_faults

# Relative departure from even spacing that nobody means: coordinates are often written with few digits.
UNEVEN = 1e-3
# Rounding of coordinates and times, relative to the largest of them: The Well stores both in float32.
ROUNDING = 2 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class WellGrid:
    """Where and when the values of a file lie; axes in the order of the file.

    Attributes
    ----------
    axes : tuple of str            names, as the attribute spatial_dims gives them
    shape : tuple of int           points along each axis
    origin : tuple of float        first coordinate along each axis [m]
    spacing : tuple of float       [m]
    num_trajectories : int
    num_snapshots : int
    snapshot_interval : float      [s]
    """

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    num_trajectories: int
    num_snapshots: int
    snapshot_interval: float

    @property
    def order(self) -> tuple[int, ...]:
        """For x, y[, z] in turn the axis of the file; as they stand if they have other names."""
        standing = tuple(range(len(self.axes)))
        if set(self.axes) != set("xyz"[: len(self.axes)]):
            return standing
        return tuple(sorted(standing, key=lambda axis: self.axes[axis]))


def read_grid(path: Path, file: h5py.File) -> WellGrid:
    """Read the grid of an open file and check that this program can use it.

    Parameters
    ----------
    path : Path         for messages
    file : h5py.File    from `open_hdf5`

    Returns
    -------
    WellGrid

    Raises
    ------
    DataError    if something is missing, or the grid is not Cartesian, uniform and periodic, or the times are not
                 evenly spaced, naming file and key
    """
    axes = _axes(path, file)
    origin, spacing, shape = zip(*(_even_axis(path, file, f"dimensions/{axis}") for axis in axes), strict=True)
    num_trajectories = read_attribute(path, file, "n_trajectories")
    if not isinstance(num_trajectories, int | np.integer) or num_trajectories < 1:
        raise DataError(f"{path}: attribute n_trajectories is {num_trajectories}, expected a positive whole number")
    interval, num_snapshots = _snapshot_interval(path, file, int(num_trajectories))
    _require_periodic(path, file, axes)
    return WellGrid(axes, shape, origin, spacing, int(num_trajectories), num_snapshots, interval)


def read_flags(path: Path, owner: h5py.Group | h5py.Dataset, name: str, count: int) -> tuple[bool, ...]:
    """Return an attribute of yes and no.

    Raises
    ------
    DataError    if it is missing, or does not hold `count` truth values
    """
    values = np.atleast_1d(read_attribute(path, owner, name))
    if values.shape != (count,) or values.dtype.kind not in "biu":
        raise DataError(f"{path}: attribute {name} of {owner.name} is {values}, expected {count} truth value(s)")
    return tuple(bool(value) for value in values)


def _read_texts(path: Path, owner: h5py.Group | h5py.Dataset, name: str) -> tuple[str, ...]:
    """A text or a list of them, whichever kind of string of HDF5 they are."""
    values = np.atleast_1d(read_attribute(path, owner, name)).ravel().tolist()
    if not all(isinstance(value, str | bytes) for value in values):
        raise DataError(f"{path}: attribute {name} of {owner.name} is {values}, expected text")
    with translated_faults(path, f"reading attribute {name} of {owner.name}"):
        return tuple(value.decode() if isinstance(value, bytes) else value for value in values)


def _find_group(path: Path, file: h5py.File, name: str) -> h5py.Group:
    with translated_faults(path, f"looking up {name}"):
        group = file.get(name)
    if not isinstance(group, h5py.Group):
        raise DataError(f"{path}: there is no group {name}; the file is not in the layout of The Well")
    return group


def _axes(path: Path, file: h5py.File) -> tuple[str, ...]:
    grid_type = " ".join(_read_texts(path, file, "grid_type"))
    names = _read_texts(path, _find_group(path, file, "dimensions"), "spatial_dims")
    if len(names) not in (2, 3) or len(set(names)) != len(names) or grid_type.lower() != "cartesian":
        raise DataError(
            f"{path}: a {grid_type} grid with spatial_dims {', '.join(names)};"
            " only two or three Cartesian dimensions are supported"
        )
    promised = read_attribute(path, file, "n_spatial_dims")
    if promised != len(names):
        raise DataError(f"{path}: n_spatial_dims is {promised}, spatial_dims names {len(names)}; correct one of them")
    return names


def _even_axis(path: Path, file: h5py.File, key: str) -> tuple[float, float, int]:
    """First coordinate, spacing and number of points of a uniform axis that all trajectories share."""
    array = find_array(path, file, key)
    # The Well's own writer leaves time_varying out: its reader knows no grids that move.
    flags = ["sample_varying"] + ["time_varying"] * ("time_varying" in array.attrs)
    if any(read_flags(path, array, flag, 1)[0] for flag in flags):
        raise DataError(f"{path}: {key} varies between trajectories or in time; only fixed grids are supported")
    points = _read_numbers(path, array, key)
    if points.ndim != 1 or len(points) < 4:
        raise DataError(f"{path}: {key} has shape {points.shape}, expected coordinates of at least 4 points")
    return float(points[0]), _even_step(path, key, points), len(points)


def _snapshot_interval(path: Path, file: h5py.File, num_trajectories: int) -> tuple[float, int]:
    """Time between snapshots, the same in all trajectories, and their number."""
    key = "dimensions/time"
    array = find_array(path, file, key)
    (own_times,) = read_flags(path, array, "sample_varying", 1)
    times = _read_numbers(path, array, key)
    leading = (num_trajectories,) if own_times else ()
    if times.ndim != len(leading) + 1 or times.shape[:-1] != leading or times.shape[-1] < 2:
        expected = f"({num_trajectories}, snapshots)" if own_times else "(snapshots,)"
        raise DataError(f"{path}: {key} has shape {times.shape}, expected {expected} with at least two snapshots")
    steps = {_even_step(path, key, own) for own in np.atleast_2d(times)}
    if max(steps) - min(steps) > UNEVEN * max(steps):
        raise DataError(
            f"{path}: {key}: the trajectories have different snapshot intervals; put them in files of their own"
        )
    return min(steps), times.shape[-1]


def _read_numbers(path: Path, array: h5py.Dataset, key: str) -> np.ndarray:
    with translated_faults(path, f"reading {key}"):
        values = np.asarray(array[()], dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{path}: {key} holds NaN or infinity; correct it")
    return values


def _even_step(path: Path, key: str, points: np.ndarray) -> float:
    intervals = len(points) - 1
    with np.errstate(all="ignore"):  # absurd numbers overflow, and are refused below for what comes of it
        step = (points[-1] - points[0]) / intervals
        departure = np.abs(points - (points[0] + step * np.arange(len(points)))).max() / step
        # Far from 0 rounding exceeds UNEVEN: no harm if many intervals still give their mean to UNEVEN.
        allowed = max(UNEVEN, min(0.1, intervals * UNEVEN, ROUNDING * np.abs(points).max() / step))
    if not 0 < step < np.inf or not departure <= allowed:
        raise DataError(f"{path}: {key} is not evenly spaced and increasing; resample the data")
    # float32 holds seven digits: the eighth and later ones of the quotient are noise, and 0.05 must stay 0.05.
    return float(f"{step:.6g}")


def _require_periodic(path: Path, file: h5py.File, axes: tuple[str, ...]) -> None:
    conditions = _find_group(path, file, "boundary_conditions")
    periodic: set[str] = set()
    for name in conditions:
        condition = _find_group(path, file, f"boundary_conditions/{name}")
        kind = " ".join(_read_texts(path, condition, "bc_type"))
        if kind.lower() != "periodic":
            raise DataError(f"{path}: boundary_conditions/{name} is {kind}; only periodic boundaries are supported")
        periodic.update(_read_texts(path, condition, "associated_dims"))
    if missing := set(axes) - periodic:
        raise DataError(
            f"{path}: boundary_conditions says nothing of {', '.join(sorted(missing))};"
            " only periodic boundaries are supported"
        )
