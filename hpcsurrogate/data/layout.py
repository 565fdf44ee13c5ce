"""The layout of a shard: The Well's, so that its own reader and any HDF5 tool open it, and what we add to it.

The layout: https://github.com/PolymathicAI/the_well, docs/data_format.md. Arrays are (trajectory, time, x, y,
component...) with one trajectory; in memory they are (component, x, y). A symmetric tensor has components xx, xy, yy in
memory and is a full 2 x 2 in the file. Beyond The Well, the root holds what `ShardHeader` lists, and every field its
unit and location.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.core.provenance import provenance
from hpcsurrogate.sources.hdf5 import read_attribute, translated_faults

SCHEMA_VERSION = 1
AXES = ("x", "y")
NUM_COMPONENTS = {0: 1, 1: 2, 2: 3}  # of a symmetric field in memory, by tensor rank

# Where the components lie in a cell, by layout and tensor rank (docs/architecture.md, "Conventions").
LOCATIONS = {
    ("collocated", 0): "points",
    ("collocated", 1): "points",
    ("collocated", 2): "points",
    ("staggered", 0): "centres",
    ("staggered", 1): "x on faces across x, y on faces across y",
    ("staggered", 2): "xx and yy at centres, xy at corners",
}


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself.

    Attributes
    ----------
    dataset_name : str
    realisation : int
    num_snapshots : int
    snapshot_interval : float        [s]
    grid_shape : (int, int)          nx, ny
    domain : (float, float)          Lx, Ly [m]
    layout : str                     "collocated" or "staggered"
    filter_kind : str                "none" for data that was not filtered
    filter_width : (float, float)    along x and y [m]; 0 for data that was not filtered
    parameters : dict                name -> number, of the flow (viscosity, ...)
    configuration : str              digest of the configuration that made the file; empty if none did
    """

    dataset_name: str
    realisation: int
    num_snapshots: int
    snapshot_interval: float
    grid_shape: tuple[int, int]
    domain: tuple[float, float]
    layout: str = "collocated"
    filter_kind: str = "none"
    filter_width: tuple[float, float] = (0.0, 0.0)
    parameters: dict[str, float] = field(default_factory=dict)
    configuration: str = ""


def to_file(values_cxy: np.ndarray, rank: int) -> np.ndarray:
    """(component, ...) in memory to (..., component...) in the file."""
    if rank == 0:
        return values_cxy[0]
    if rank == 1:
        return np.moveaxis(values_cxy, 0, -1)
    xx, xy, yy = values_cxy
    return np.stack((np.stack((xx, xy), axis=-1), np.stack((xy, yy), axis=-1)), axis=-2)


def from_file(values: np.ndarray, rank: int) -> np.ndarray:
    """(time, x, y, component...) in the file to (time, component, x, y) in memory; the inverse of `to_file`."""
    if rank == 0:
        return values[:, None]
    if rank == 1:
        return np.ascontiguousarray(np.moveaxis(values, -1, 1))
    return np.stack((values[..., 0, 0], values[..., 0, 1], values[..., 1, 1]), axis=1)


def write_layout(file: h5py.File, header: ShardHeader) -> None:
    """Everything but the fields."""
    file.attrs["grid_type"] = "cartesian"
    file.attrs["n_spatial_dims"] = len(AXES)
    file.attrs["n_trajectories"] = 1
    file.attrs["simulation_parameters"] = _texts(header.parameters)
    file.attrs.update(header.parameters)
    file.attrs.update({name: value for name, value in asdict(header).items() if name != "parameters"})
    file.attrs["schema_version"] = SCHEMA_VERSION
    file.attrs["provenance"] = json.dumps(provenance())
    dimensions = file.create_group("dimensions")
    dimensions.attrs["spatial_dims"] = _texts(AXES)
    times = np.arange(header.num_snapshots) * header.snapshot_interval
    _write_axis(dimensions, "time", times, "s")
    offset = 0.5 if header.layout == "staggered" else 0.0  # coordinates of cell centres there, of the points otherwise
    for axis, length, points in zip(AXES, header.domain, header.grid_shape, strict=True):
        _write_axis(dimensions, axis, (np.arange(points) + offset) * length / points, "m")
        dimensions[axis].attrs["time_varying"] = False
        _write_periodic_boundary(file, axis, points)
    file.create_group("scalars").attrs["field_names"] = _texts(())
    for rank in NUM_COMPONENTS:
        file.create_group(f"t{rank}_fields").attrs["field_names"] = _texts(())


def _write_axis(group: h5py.Group, name: str, values: np.ndarray, unit: str) -> None:
    axis = group.create_dataset(name, data=values.astype(np.float32))
    axis.attrs["sample_varying"] = False
    axis.attrs["units"] = unit


def _write_periodic_boundary(file: h5py.File, axis: str, points: int) -> None:
    boundary = file.create_group(f"boundary_conditions/{axis}_periodic")
    boundary.attrs["associated_dims"] = _texts([axis])
    boundary.attrs["associated_fields"] = _texts(())
    boundary.attrs["bc_type"] = "PERIODIC"
    boundary.attrs["sample_varying"] = False
    boundary.attrs["time_varying"] = False
    mask = np.zeros(points, dtype=bool)
    mask[[0, -1]] = True
    boundary.create_dataset("mask", data=mask)


def create_field(file: h5py.File, header: ShardHeader, name: str, dtype: np.dtype) -> h5py.Dataset:
    rank = FIELDS[name].rank
    group = file[f"t{rank}_fields"]
    group.attrs["field_names"] = _texts([*group.attrs["field_names"], name])
    one = (1, 1, *header.grid_shape, *(2,) * rank)
    array = group.create_dataset(
        name, (1, header.num_snapshots, *one[2:]), dtype=dtype, chunks=one, fletcher32=True, track_times=False
    )
    array.attrs["sample_varying"] = True
    array.attrs["time_varying"] = True
    array.attrs["dim_varying"] = [True, True]
    array.attrs["units"] = FIELDS[name].unit
    array.attrs["location"] = LOCATIONS[header.layout, rank]
    if rank == 2:
        array.attrs["symmetric"] = True
        array.attrs["antisymmetric"] = False
    return array


def _texts(names: Iterable[str]) -> np.ndarray:
    """A list of texts that HDF5 keeps as such even when it is empty."""
    return np.array(list(names), dtype=h5py.string_dtype())


def field_names(path: Path, file: h5py.File) -> list[str]:
    names = []
    for rank in NUM_COMPONENTS:
        group = file.get(f"t{rank}_fields")
        if not isinstance(group, h5py.Group):
            raise DataError(f"{path}: there is no group t{rank}_fields; the file is not a shard")
        names.extend(str(name) for name in read_attribute(path, group, "field_names"))
    return names


def read_header(path: Path, file: h5py.File) -> ShardHeader:
    version = read_attribute(path, file, "schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}; run the stage that writes it again"
        )
    names = [str(name) for name in read_attribute(path, file, "simulation_parameters")]
    with translated_faults(path, "reading the root attributes"):
        return ShardHeader(
            dataset_name=str(read_attribute(path, file, "dataset_name")),
            realisation=int(read_attribute(path, file, "realisation")),
            num_snapshots=int(read_attribute(path, file, "num_snapshots")),
            snapshot_interval=float(read_attribute(path, file, "snapshot_interval")),
            grid_shape=_pair(read_attribute(path, file, "grid_shape"), int),
            domain=_pair(read_attribute(path, file, "domain"), float),
            layout=str(read_attribute(path, file, "layout")),
            filter_kind=str(read_attribute(path, file, "filter_kind")),
            filter_width=_pair(read_attribute(path, file, "filter_width"), float),
            parameters={name: float(read_attribute(path, file, name)) for name in names},
            configuration=str(read_attribute(path, file, "configuration")),
        )


def _pair(values: Any, kind: type) -> tuple:
    first, second = values
    return kind(first), kind(second)
