"""Trajectories in H5MD, which `dump h5md` writes: the frames of lammps_dump.py from HDF5, one in memory at a time.

The layout: de Buyl, Colberg and Höfling, Comput. Phys. Commun. 185, 1546 (2014), version 1.1 (nongnu.org/h5md). The box
begins at the origin.
"""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.hdf5 import find_array, open_hdf5, read_attribute, translated_faults
from hpcsurrogate.sources.lammps_box import Box
from hpcsurrogate.sources.lammps_dump import IMAGES, Frame

# Element of H5MD -> the columns of a dump that it is.
ELEMENTS = {
    "position": ("x", "y", "z"),
    "image": IMAGES,
    "velocity": ("vx", "vy", "vz"),
    "force": ("fx", "fy", "fz"),
    "mass": ("mass",),
    "species": ("type",),
    "id": ("id",),
    "charge": ("q",),
}


def h5md_frames(path: str | Path, group: str | None = None) -> Iterator[Frame]:
    """Read a trajectory frame by frame.

    Parameters
    ----------
    path : str or Path
    group : str, optional    of the particles, such as all; not needed if there is one alone

    Yields
    ------
    Frame    with those columns of ELEMENTS that the file has; elements sampled at other steps than the positions are
             refused

    Raises
    ------
    DataError    if the file is missing, damaged or in another layout, naming the array

    Notes
    -----
    The frames of a dump of LAMMPS, written in this layout, come back (tests/unit/sources/test_lammps_h5md.py).
    """
    path = Path(path)
    with open_hdf5(path) as file:
        base = _particles(path, file, group)
        position = _Element(path, file, f"{base}/position")
        if not position.varies or position.array.ndim != 3 or position.array.shape[2] != 3:
            raise DataError(f"{path}: {base}/position is not of (frames, atoms, 3); three dimensions are read")
        others = {name: _Element(path, file, f"{base}/{name}") for name in ELEMENTS if f"{base}/{name}" in file}
        edges = _Element(path, file, f"{base}/box/edges")
        for element in (*others.values(), edges):
            element.require_like(position)
        boundary = [_text(value) for value in np.atleast_1d(read_attribute(path, file[f"{base}/box"], "boundary"))]
        if len(boundary) != 3 or not set(boundary) <= {"periodic", "none"}:
            raise DataError(f"{path}: attribute boundary of {base}/box is not three of periodic, none")
        periodic = tuple(kind == "periodic" for kind in boundary)
        last = -1
        for index, (step, time) in enumerate(position.moments()):
            place = f"{path}: {base}, frame {index}"
            if step <= last:
                raise DataError(f"{place}: step {step} does not come after {last}; write the file again")
            last = step
            columns = _columns(place, others, index)
            box = _box(place, edges.at(index), periodic)
            yield Frame(place, step, time, None, box, len(columns["x"]), columns)


class _Element:
    """An array of H5MD: fixed, or a group of value, step and time."""

    def __init__(self, path: Path, file: h5py.File, key: str):
        if key not in file:
            raise DataError(f"{path}: there is no {key}; the file is not H5MD, or was written without it")
        self.path, self.key, self.varies = path, key, isinstance(file[key], h5py.Group)
        self.array = find_array(path, file, f"{key}/value" if self.varies else key)
        if not self.varies:
            return
        if self.array.ndim == 0:
            raise DataError(f"{path}: {key}/value has no frames")
        self.steps = self._sampled(file, "step")
        self.times = self._sampled(file, "time") if f"{key}/time" in file else None

    def _sampled(self, file: h5py.File, name: str) -> np.ndarray:
        """One number a frame, or, if it stands alone, their distance."""
        array = find_array(self.path, file, f"{self.key}/{name}")
        values = _read(self.path, array, ())
        if values.ndim == 0:
            offset = read_attribute(self.path, array, "offset") if "offset" in array.attrs else 0
            values = offset + values * np.arange(len(self.array))
        if values.shape != (len(self.array),) or not np.isfinite(values).all():
            raise DataError(f"{self.path}: {self.key}/{name} is not one number for each frame")
        return values

    def moments(self) -> Iterator[tuple[int, float | None]]:
        for index, step in enumerate(self.steps):
            if step != int(step) or step < 0:
                raise DataError(f"{self.path}: {self.key}/step holds {step}, no whole number")
            yield int(step), None if self.times is None else float(self.times[index])

    def require_like(self, other: "_Element") -> None:
        if self.varies and not np.array_equal(self.steps, other.steps):
            raise DataError(f"{self.path}: {self.key} and {other.key} are of different steps; write them together")

    def at(self, index: int) -> np.ndarray:
        values = _read(self.path, self.array, index if self.varies else ())
        if not np.isfinite(values).all():
            raise DataError(f"{self.path}: {self.key}, frame {index}: holds a number that is not finite")
        return values


def _particles(path: Path, file: h5py.File, group: str | None) -> str:
    if "h5md" not in file or not isinstance(file.get("particles"), h5py.Group):
        raise DataError(f"{path}: is not H5MD: there is no group h5md or particles")
    present = list(file["particles"])
    if group is None and len(present) != 1:
        raise DataError(f"{path}: holds {len(present)} groups of particles ({' '.join(present)}); name one")
    group = group or present[0]
    if group not in present:
        raise DataError(f"{path}: has no particles {group} but {' '.join(present)}")
    return f"particles/{group}"


def _columns(place: str, elements: dict[str, _Element], index: int) -> dict[str, np.ndarray]:
    columns, num_atoms = {}, None
    for name, element in elements.items():
        names, values = ELEMENTS[name], element.at(index)
        values = values[:, None] if values.ndim == 1 else values
        num_atoms = len(values) if num_atoms is None else num_atoms
        if values.shape != (num_atoms, len(names)):
            raise DataError(f"{place}: {name} has shape {values.shape}, expected {(num_atoms, len(names))}")
        columns |= dict(zip(names, values.T, strict=True))
    if "id" in columns:
        present = columns["id"] >= 0  # minus one stands where there is no atom
        columns = {name: values[present] for name, values in columns.items()}
        if len(np.unique(columns["id"])) < len(columns["id"]):
            raise DataError(f"{place}: an id comes twice; write the file again")
    return columns


def _box(place: str, edges: np.ndarray, periodic: tuple[bool, bool, bool]) -> Box:
    edges = np.diag(edges) if edges.shape == (3,) else edges
    if edges.shape != (3, 3) or np.linalg.det(edges) <= 0:
        raise DataError(f"{place}: the edges of the box are not three that span a volume")
    return Box(np.zeros(3), edges.astype(np.float64), periodic)


def _text(value: bytes | str) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _read(path: Path, array: h5py.Dataset, index: int | tuple) -> np.ndarray:
    with translated_faults(path, f"reading {array.name}"):
        return np.asarray(array[index])
