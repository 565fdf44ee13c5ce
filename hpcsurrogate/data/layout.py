"""The layout of a shard: The Well's, so that its own reader and any HDF5 tool open it, and what we add to it.

The layout: https://github.com/PolymathicAI/the_well, docs/data_format.md. Arrays are (trajectory, time, x, y[, z],
component...) with one trajectory; in memory they are (component, x, y[, z]). A symmetric tensor is a full d x d in the
file and its d (d + 1) / 2 different components in memory.

Of all attributes we read one text at the root, `hpcsurrogate`, and the fields' `units`. HDF5 keeps a text of fixed
length in the object's header, under a checksum; texts of variable length, which The Well's reader insists on, lie where
there is none. Those are for other tools and never read here.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, field, fields
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Annotated, Any, Literal

import h5py
import numpy as np
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from hpcsurrogate.core.config import NonNegativeFloat, PositiveFloat, PositiveInt
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import AXES, FIELDS
from hpcsurrogate.core.provenance import provenance
from hpcsurrogate.sources.hdf5 import read_fixed_text

SCHEMA_VERSION = 2
HEADER = "hpcsurrogate"
RANKS = (0, 1, 2)

NonNegativeInt = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class ShardHeader:
    """What a shard says of itself.

    Attributes
    ----------
    dataset_name : str
    realisation : int
    num_snapshots : int              of this shard
    snapshot_interval : float        [s]
    grid_shape : tuple of int        nx, ny[, nz]
    domain : tuple of float          Lx, Ly[, Lz] [m]
    layout : str                     "collocated" or "staggered"
    filter_kind : str                "none" for data that was not filtered
    filter_width : tuple of float    along each axis [m]; 0 for data that was not filtered, also if left out
    parameters : dict                name -> number, of the flow (viscosity, ...)
    configuration : str              digest of the configuration that made the file; empty if none did
    first_snapshot : int             its number in the realisation

    Raises
    ------
    ValueError    if a value is of another kind, not finite or not positive, or the axes are not two or three everywhere
    """

    dataset_name: str
    realisation: NonNegativeInt
    num_snapshots: PositiveInt
    snapshot_interval: PositiveFloat
    grid_shape: tuple[PositiveInt, ...]
    domain: tuple[PositiveFloat, ...]
    layout: Literal["collocated", "staggered"] = "collocated"
    filter_kind: str = "none"
    filter_width: tuple[NonNegativeFloat, ...] = ()
    parameters: dict[str, float] = field(default_factory=dict)
    configuration: str = ""
    first_snapshot: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if not self.filter_width:
            object.__setattr__(self, "filter_width", (0.0,) * self.num_dims)
        lengths = {self.num_dims, len(self.domain), len(self.filter_width)}
        if lengths not in ({2}, {3}):
            raise ValueError("grid_shape, domain and filter_width must have two or three axes, and equally many")

    @property
    def num_dims(self) -> int:
        """Dimensions of space, 2 or 3."""
        return len(self.grid_shape)

    @property
    def times(self) -> np.ndarray:
        """Times of the snapshots, shape (num_snapshots,), float64 [s], from the beginning of the realisation."""
        return (self.first_snapshot + np.arange(self.num_snapshots)) * self.snapshot_interval


def snapshot_shape(name: str, header: ShardHeader) -> tuple[int, ...]:
    """Return the shape of one snapshot of a field in the file, (nx, ny[, nz][, d][, d]): a chunk without its (1, 1)."""
    return (*header.grid_shape, *(header.num_dims,) * FIELDS[name].rank)


def to_file(values: np.ndarray, rank: int) -> np.ndarray:
    """(component, x, y[, z]) in memory to (x, y[, z], component...) in the file."""
    if rank == 0:
        return values[0]
    if rank == 1:
        return np.moveaxis(values, 0, -1)
    grid_shape = values.shape[1:]
    num_dims = len(grid_shape)
    matrices = np.empty((*grid_shape, num_dims, num_dims), dtype=values.dtype)
    for (row, column), component in zip(_upper_triangle(num_dims), values, strict=True):
        matrices[..., row, column] = matrices[..., column, row] = component
    return matrices


def from_file(values: np.ndarray, rank: int) -> np.ndarray:
    """(time, x, y[, z], component...) in the file to (time, component, x, y[, z]) in memory: `to_file` inverted."""
    if rank == 0:
        return values[:, None]
    if rank == 1:
        return np.ascontiguousarray(np.moveaxis(values, -1, 1))
    return np.stack([values[..., row, column] for row, column in _upper_triangle(values.shape[-1])], axis=1)


def _upper_triangle(num_dims: int) -> Iterable[tuple[int, int]]:
    """Row and column of the components in memory: xx, xy, yy or xx, xy, xz, yy, yz, zz."""
    return combinations_with_replacement(range(num_dims), 2)


def write_layout(file: h5py.File, header: ShardHeader) -> None:
    """Everything but the fields."""
    axes = AXES[: header.num_dims]
    content = {"schema_version": SCHEMA_VERSION, "header": asdict(header), "provenance": provenance()}
    file.attrs[HEADER] = np.bytes_(json.dumps(content, allow_nan=False))
    file.attrs["dataset_name"] = header.dataset_name
    file.attrs["grid_type"] = "cartesian"
    file.attrs["n_spatial_dims"] = header.num_dims
    file.attrs["n_trajectories"] = 1
    file.attrs["simulation_parameters"] = texts(header.parameters)
    file.attrs.update(header.parameters)
    dimensions = file.create_group("dimensions")
    dimensions.attrs["spatial_dims"] = texts(axes)
    _write_axis(dimensions, "time", header.times, "s")
    offset = 0.5 if header.layout == "staggered" else 0.0  # coordinates of cell centres there, of the points otherwise
    for axis, length, points in zip(axes, header.domain, header.grid_shape, strict=True):
        _write_axis(dimensions, axis, (np.arange(points) + offset) * length / points, "m")
        dimensions[axis].attrs["time_varying"] = False
        _write_periodic_boundary(file, axis, points)
    file.create_group("scalars").attrs["field_names"] = texts(())
    for rank in RANKS:
        file.create_group(f"t{rank}_fields").attrs["field_names"] = texts(())


def _write_axis(group: h5py.Group, name: str, values: np.ndarray, unit: str) -> None:
    axis = _write_checked(group, name, values.astype(np.float32))
    axis.attrs["sample_varying"] = False
    axis.attrs["units"] = np.bytes_(unit)


def _write_periodic_boundary(file: h5py.File, axis: str, points: int) -> None:
    boundary = file.create_group(f"boundary_conditions/{axis}_periodic")
    boundary.attrs["associated_dims"] = texts([axis])
    boundary.attrs["associated_fields"] = texts(())
    boundary.attrs["bc_type"] = "PERIODIC"
    boundary.attrs["sample_varying"] = False
    boundary.attrs["time_varying"] = False
    mask = np.zeros(points, dtype=bool)
    mask[[0, -1]] = True
    _write_checked(boundary, "mask", mask)


def _write_checked(group: h5py.Group, name: str, values: np.ndarray) -> h5py.Dataset:
    # HDF5 has checksums for chunks only.
    return group.create_dataset(name, data=values, chunks=values.shape, fletcher32=True, track_times=False)


def texts(names: Iterable[str]) -> np.ndarray:
    """Return a list of texts, perhaps empty, of variable length: what The Well's reader can use."""
    return np.array(list(names), dtype=h5py.string_dtype())


def read_header(path: Path, file: h5py.File) -> ShardHeader:
    """Return the header of a shard.

    Raises
    ------
    DataError    if it is missing or incomplete, holds a key twice or a wrong value, or is of another schema version
    """
    content = _parse(path, read_fixed_text(path, file, HEADER))
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}; run the stage that writes it again"
        )
    values = content.get("header")
    if not isinstance(values, dict):
        raise DataError(f"{path}: attribute {HEADER} has no key header; write or copy the file again")
    if missing := [entry.name for entry in fields(ShardHeader) if entry.name not in values]:
        raise DataError(f"{path}: attribute {HEADER} has no key header.{missing[0]}; write or copy the file again")
    try:
        return ShardHeader(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["header", *(str(part) for part in first["loc"])])
        raise DataError(f"{path}: attribute {HEADER}, {key}: {first['msg']}; write or copy the file again") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key appears twice")
        return dict(pairs)

    try:
        content = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: attribute {HEADER} is not valid JSON ({error}); write or copy the file again"
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: attribute {HEADER} is not a JSON object; write or copy the file again")
    return content
