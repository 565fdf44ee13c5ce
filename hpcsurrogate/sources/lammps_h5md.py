"""Dumps in H5MD, as `dump h5md` of LAMMPS writes them, and other programs in the same layout; one frame in memory.

An element is a group of `value`, `step` and maybe `time`, or a data set that holds for all steps. The format: H5MD 1.1,
https://nongnu.org/h5md/h5md.html.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.hdf5 import find_array, open_hdf5, read_attribute, translated_faults
from hpcsurrogate.sources.lammps_box import Box
from hpcsurrogate.sources.lammps_frame import Frame

SUFFIXES = (".h5", ".hdf5", ".h5md")
# Elements -> the columns that a dump in text would call so.
COLUMNS = {
    "position": ("x", "y", "z"),
    "image": ("ix", "iy", "iz"),
    "velocity": ("vx", "vy", "vz"),
    "force": ("fx", "fy", "fz"),
    "id": ("id",),
    "species": ("type",),
    "mass": ("mass",),
    "charge": ("q",),
}
WHOLE = ("image", "id", "species")
# Style of units -> those of position, time and velocity, as H5MD writes them.
STYLES = {
    "real": {"Angstrom", "fs", "Angstrom fs-1"},
    "metal": {"Angstrom", "ps", "Angstrom ps-1"},
    "si": {"m", "s", "m s-1"},
}


@dataclass(frozen=True)
class _Element:
    """Values, and the steps and times at which they are; None: at all steps, and not said. Units likewise."""

    path: Path
    values: h5py.Dataset
    steps: np.ndarray | None
    times: np.ndarray | None
    units: tuple[str | None, str | None]  # of values and times

    def at(self, step: int) -> np.ndarray | None:
        """Values at a step, None if there are none."""
        row = ... if self.steps is None else int(np.searchsorted(self.steps, step))
        if self.steps is not None and (row == len(self.steps) or self.steps[row] != step):
            return None
        with translated_faults(self.path, f"reading {self.values.name}"):
            found = self.values[row]
        if not np.isfinite(found).all():
            raise _wrong(self.path, self.values.name, f"holds a number that is not finite at step {step}")
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the values at a step."""
        return self.values.shape[0 if self.steps is None else 1 :]


def h5md_frames(path: str | Path, names: Sequence[str] | None = None, group: str | None = None) -> Iterator[Frame]:
    """Read a dump in H5MD frame by frame.

    Parameters
    ----------
    path : str or Path
    names : list of str, optional    columns to read, by their names in text: x y z, ix iy iz, vx vy vz, fx fy fz, id,
                                     type, mass, q
    group : str, optional            of `particles`; needed if there are several

    Yields
    ------
    Frame    for each step of the position, or else of the first element there is; what is not there at a step has no
             column. `units` is None where the file has none, a style if they are those of one, else a list of them

    Raises
    ------
    DataError    if the file is missing, cut short or damaged, is not in this layout, lacks a column, or an id comes
                 twice, naming the data set or group

    Notes
    -----
    H5MD does not say where a box begins; here it does at zero. Otherwise a frame is what LAMMPS writes of it as text
    (tests/unit/sources/test_lammps_h5md.py).
    """
    path = Path(path)
    with open_hdf5(path) as file:
        key = _group(path, file, group)
        elements = {name: _element(path, file, f"{key}/{name}") for name in COLUMNS if f"{key}/{name}" in file}
        leading = next((element for element in elements.values() if element.steps is not None), None)
        if leading is None:
            raise _wrong(path, key, "holds nothing that changes with time")
        edges, periodic = _element(path, file, f"{key}/box/edges"), _periodic(path, file, f"{key}/box")
        _require_shapes(path, elements, edges)
        for row, step in enumerate(leading.steps.tolist()):
            place = f"{path}: {key} at step {step}"
            columns = _columns(place, elements, step, names)
            time = None if leading.times is None else float(leading.times[row])
            box = _box(place, edges.at(step), periodic)
            yield Frame(place, step, time, _style(elements), box, leading.shape[0], columns)


def _group(path: Path, file: h5py.File, wanted: str | None) -> str:
    with translated_faults(path, "looking up /particles"):
        groups = list(file["particles"]) if "particles" in file else []
    if wanted is None and len(groups) == 1:
        wanted = groups[0]
    if wanted not in groups:
        raise _wrong(path, "/particles", f"holds {' and '.join(groups) or 'no group'}, of which none was chosen")
    return f"/particles/{wanted}"


def _element(path: Path, file: h5py.File, key: str) -> _Element:
    with translated_faults(path, f"looking up {key}"):
        is_fixed = key in file and isinstance(file[key], h5py.Dataset)
        has_times = f"{key}/time" in file
    values = find_array(path, file, key if is_fixed else f"{key}/value")
    if is_fixed:
        return _Element(path, values, None, None, (_unit(path, values), None))
    steps = _series(path, file, f"{key}/step", values)
    if steps.dtype.kind not in "iu" or (np.diff(steps) <= 0).any() or (steps < 0).any():
        raise _wrong(path, f"{key}/step", "does not rise, from zero or above, in whole numbers")
    if not has_times:
        return _Element(path, values, steps, None, (_unit(path, values), None))
    times = _series(path, file, f"{key}/time", values)
    return _Element(path, values, steps, times, (_unit(path, values), _unit(path, file[f"{key}/time"])))


def _series(path: Path, file: h5py.File, key: str, values: h5py.Dataset) -> np.ndarray:
    """The step or time of each of the values: one number is the distance of all, with the attribute offset."""
    array = find_array(path, file, key)
    with translated_faults(path, f"reading {key}"):
        found = array[...]
        count = values.shape[0] if values.shape else 0
        if found.shape == ():
            offset = read_attribute(path, array, "offset") if "offset" in array.attrs else 0
            found = offset + found * np.arange(count)
    if found.shape != (count,) or not np.isfinite(found).all():
        raise _wrong(path, key, f"is not a finite number for each of {count} frames")
    return found


def _unit(path: Path, array: h5py.Dataset) -> str | None:
    with translated_faults(path, f"listing the attributes of {array.name}"):
        if "unit" not in array.attrs:
            return None
    return _text(read_attribute(path, array, "unit"))


def _text(found: object) -> str:
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)


def _periodic(path: Path, file: h5py.File, key: str) -> tuple[bool, ...]:
    with translated_faults(path, f"looking up {key}"):
        box = file[key]
    boundary = [_text(word) for word in np.ravel(read_attribute(path, box, "boundary"))]
    if len(boundary) != 3 or not set(boundary) <= {"periodic", "none"}:
        raise _wrong(path, key, f"has the boundary {' '.join(boundary)[:60]}, expected three of periodic and none")
    return tuple(word == "periodic" for word in boundary)


def _require_shapes(path: Path, elements: dict[str, _Element], edges: _Element) -> None:
    if edges.shape not in ((3,), (3, 3)):
        raise _wrong(path, edges.values.name, f"is of shape {edges.shape}, expected three edges")
    num_atoms = next(iter(elements.values())).shape[:1]
    for name, element in elements.items():
        expected = num_atoms + ((3,) if len(COLUMNS[name]) == 3 else ())
        if element.shape != expected or (name in WHOLE and element.values.dtype.kind not in "iu"):
            raise _wrong(
                path, element.values.name, f"holds {element.values.dtype} {element.shape}, expected {expected}"
            )


def _columns(
    place: str, elements: dict[str, _Element], step: int, wanted: Sequence[str] | None
) -> dict[str, np.ndarray]:
    columns = {}
    for name, element in elements.items():
        labels = COLUMNS[name]
        if wanted is not None and name != "id" and not set(labels) & set(wanted):
            continue
        values = element.at(step)
        if values is not None:
            values = values.astype(np.int64 if name in WHOLE else np.float64).reshape(-1, len(labels))
            columns |= dict(zip(labels, values.T, strict=True))
    if "id" in columns and len(np.unique(columns["id"])) < len(columns["id"]):
        raise DataError(f"{place}: an id comes twice; write or copy the file again")
    if missing := [name for name in wanted or () if name not in columns]:
        raise DataError(f"{place}: has no column {missing[0]} but {' '.join(columns)}; add it to the dump")
    return columns if wanted is None else {name: columns[name] for name in wanted}


def _box(place: str, edges: np.ndarray | None, periodic: tuple[bool, ...]) -> Box:
    if edges is None:
        raise DataError(f"{place}: has no box/edges; write them with every frame")
    try:
        return Box.from_edges(edges, periodic)
    except ValueError as error:
        raise DataError(f"{place}: {error}; write or copy the file again") from None


def _style(elements: dict[str, _Element]) -> str | None:
    """Style of units, from those of position and velocity."""
    units = [unit for name in ("position", "velocity") if name in elements for unit in elements[name].units]
    found = dict.fromkeys(unit for unit in units if unit)
    if not found:
        return None
    return next((style for style, known in STYLES.items() if set(found) <= known), " and ".join(found))


def _wrong(path: Path, key: str, what: str) -> DataError:
    return DataError(f"{path}: {key} {what}; write the file again, or in the layout of H5MD 1.1")
