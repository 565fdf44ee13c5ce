"""Snapshots of a realisation as one VTKHDF file, which ParaView (5.12 and later) opens with its time steps.

The format: https://docs.vtk.org, "VTKHDF file format", type ImageData. Its axes are (time, z, y, x, component) with x
fastest, without z in two dimensions, and without time if there is one snapshot only: VTK takes a single time step for
none. Vectors always have three components and tensors nine, row by row: what points out of a plane is 0.
"""

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.layout import ShardHeader, to_file
from hpcsurrogate.data.new_file import new_hdf5
from hpcsurrogate.data.readers import RealisationReader

VERSION = (2, 0)  # the first with time steps


def write_vtkhdf(path: str | Path, realisation: RealisationReader, snapshot: int | None = None) -> None:
    """Write every field of a snapshot, or of all snapshots as time steps, with one in memory at a time.

    Parameters
    ----------
    path : str or Path                 ends in `.vtkhdf` for ParaView; an old file is replaced when this one is whole
    realisation : RealisationReader    open
    snapshot : int or None             negative counts from the end; None for all

    Raises
    ------
    DataError    if there is no such snapshot, or a shard is damaged
    OSError      if the disk is full or the folder cannot be written

    Notes
    -----
    The values are those of the shards, bit for bit, at the points of a collocated layout. A staggered layout has
    several sets of points and an image only one: every component stands at the centre of its cell, up to half a cell
    from where it lies (attribute location of the shard's fields). VTK's own reader gives the same values, points and
    times: tests/unit/data/test_vtkhdf.py.
    """
    total = realisation.header.num_snapshots
    if snapshot is not None and not -total <= snapshot < total:
        raise DataError(f"{realisation.path}: there is no snapshot {snapshot}; the realisation has {total}")
    numbers = range(total) if snapshot is None else range(snapshot % total, snapshot % total + 1)
    with new_hdf5(path) as file:
        image = _write_image(file, realisation.header)
        _write_times(image, realisation.field_names, realisation.times[numbers.start : numbers.stop])
        points = image.create_group("PointData")
        for step, number in enumerate(numbers):
            for name in realisation.field_names:
                values = _image_values(realisation.snapshot(name, number), FIELDS[name].rank)
                _write_step(points, name, values, step, len(numbers))


def _write_image(file: h5py.File, header: ShardHeader) -> h5py.Group:
    """The group that VTK reads, and where its points lie."""
    shape = (*header.grid_shape, 1)[:3]
    spacing = [length / points for length, points in zip(header.domain, header.grid_shape, strict=True)]
    offset = 0.5 if header.layout == "staggered" else 0.0
    origin = [offset * step for step in spacing]
    image = file.create_group("VTKHDF")
    image.attrs["Version"] = np.array(VERSION)
    image.attrs["Type"] = np.bytes_("ImageData")
    image.attrs["WholeExtent"] = np.array([[0, points - 1] for points in shape]).ravel()
    image.attrs["Origin"] = np.array([*origin, 0.0][:3])
    image.attrs["Spacing"] = np.array([*spacing, 1.0][:3])
    image.attrs["Direction"] = np.eye(3).ravel()
    return image


def _write_times(image: h5py.Group, names: Iterable[str], times: np.ndarray) -> None:
    if len(times) == 1:
        image["FieldData/TimeValue"] = times
        return
    steps = image.create_group("Steps")
    steps.attrs["NSteps"] = len(times)
    steps["Values"] = times
    for name in names:
        steps[f"PointDataOffsets/{name}"] = np.arange(len(times))


def _write_step(points: h5py.Group, name: str, values: np.ndarray, step: int, num_steps: int) -> None:
    if num_steps == 1:
        points[name] = values
        return
    if step == 0:
        points.create_dataset(name, (num_steps, *values.shape), values.dtype, chunks=(1, *values.shape))
    points[name][step] = values


def _image_values(values: np.ndarray, rank: int) -> np.ndarray:
    """(component, x, y[, z]) to ([z,] y, x) of a scalar, ([z,] y, x, 3) of a vector, ([z,] y, x, 9) of a tensor."""
    num_dims = values.ndim - 1
    turned = to_file(values, rank).transpose(*reversed(range(num_dims)), *range(num_dims, num_dims + rank))
    padded = np.pad(turned, [(0, 0)] * num_dims + [(0, 3 - num_dims)] * rank)
    return padded.reshape(*padded.shape[:num_dims], 3**rank) if rank else padded
