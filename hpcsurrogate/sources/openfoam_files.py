"""Single files of an OpenFOAM case: meshes, fields and numbers; any fault is a DataError that names the file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.openfoam_text import FoamText


def existing(path: Path) -> Path:
    """Return the file, or its compressed form beside it.

    Raises
    ------
    DataError    if neither is there
    """
    for found in (path, path.with_name(f"{path.name}.gz")):
        if found.is_file():
            return found
    raise DataError(f"{path}: file is missing; run or copy the case again, or correct the path")


def read_labels(path: Path) -> np.ndarray:
    """Read a file that is one list of labels, shape (m,) int64.

    Raises
    ------
    DataError    if it is missing or damaged
    """
    text = FoamText(existing(path))
    values = text.numbers(1, are_labels=True)
    text.finish()
    return values


def read_points(path: Path) -> np.ndarray:
    """Read a file that is one list of points, shape (P, 3) float64 [m].

    Raises
    ------
    DataError    if it is missing or damaged, or a point is not finite
    """
    text = FoamText(existing(path))
    values = text.numbers(3, are_labels=False)
    text.finish()
    return _finite(text.path, values)


def read_faces(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the faces of a mesh.

    Returns
    -------
    ndarray, shape (m,), int64        points of all faces, one face after the other
    ndarray, shape (F + 1,), int64    where each face begins

    Raises
    ------
    DataError    if the file is missing or damaged, or a face has fewer than three points
    """
    text = FoamText(existing(path))
    if text.header.get("class") == "faceCompactList":
        offsets, corners = text.numbers(1, are_labels=True), text.numbers(1, are_labels=True)
    else:
        corners, offsets = _unpacked(text, text.faces())
    text.finish()
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(corners) or (np.diff(offsets) < 3).any():
        text.fail("a face has fewer than three points, or some are missing")
    return corners, offsets


def _unpacked(text: FoamText, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From size, points, size, points, ... to points and offsets."""
    sizes, place = [], 0
    while place < len(numbers):
        if numbers[place] < 3:
            text.fail("a face has fewer than three points")
        sizes.append(numbers[place])
        place += int(numbers[place]) + 1
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    if place != len(numbers):
        text.fail("the last face is not all there")
    return np.delete(numbers, offsets[:-1] + np.arange(len(sizes))), offsets


def read_boundary(path: Path) -> dict[str, Mapping[str, Any]]:
    """Read the dictionary of every patch of a mesh, in order.

    Raises
    ------
    DataError    if the file is missing or damaged
    """
    text = FoamText(existing(path))
    count = text.count()
    text.expect("(")
    patches = text.dictionary(")")
    text.finish()
    if len(patches) != count or not all(isinstance(entries, Mapping) for entries in patches.values()):
        text.fail(f"expected {count} patches")
    return patches


class FieldFile:
    """A field: values of cells, and what happens at the boundary.

    Parameters
    ----------
    path : Path    without .gz

    Attributes
    ----------
    conditions : dict    patch name -> dictionary

    Raises
    ------
    DataError    if the file is missing or damaged
    """

    def __init__(self, path: Path):
        text = FoamText(existing(path))
        self.path, self._content = text.path, text.dictionary()
        self.conditions = self._content.get("boundaryField")
        if not isinstance(self.conditions, Mapping):
            raise DataError(f"{self.path}: has no boundaryField; the file is no field, or damaged: write it again")

    def values(self, num_cells: int, num_components: int) -> np.ndarray:
        """Return the values of cells, shape (num_cells, num_components), float64; a uniform one is repeated.

        Raises
        ------
        DataError    if they are of another number or kind, or not finite
        """
        values = read_values(self._content.get("internalField"), num_cells, num_components)
        if values is None:
            raise DataError(
                f"{self.path}: internalField does not hold {num_cells} cells x {num_components} components; field and"
                " mesh do not belong together, or the field is of another kind"
            )
        return _finite(self.path, values)


def read_values(entry: Any, number: int, num_components: int) -> np.ndarray | None:
    """Return what `uniform ...` or `nonuniform List<...> ...` stands for, (number, num_components); None for others."""
    if not isinstance(entry, list):
        return None
    if entry[0] == "nonuniform":
        values = entry[-1]
        expected = (number,) if num_components == 1 else (number, num_components)
        fits = isinstance(values, np.ndarray) and values.shape == expected
        return values.reshape(number, num_components) if fits else None
    try:
        one = np.array([float(token) for token in entry[1:] if token not in ("(", ")")])
    except (TypeError, ValueError):
        return None
    fits = entry[0] == "uniform" and len(one) == num_components
    return np.tile(one, (number, 1)) if fits else None


def read_number(path: Path, key: str) -> float:
    """Read a number of a dictionary, such as deltaT of system/controlDict.

    Raises
    ------
    DataError    if the file is missing or damaged, or has no such number
    """
    text = FoamText(existing(path))
    value = text.dictionary().get(key)
    try:
        return float(value[-1] if isinstance(value, list) else value)  # dimensions may stand before it
    except (TypeError, ValueError):
        raise DataError(f"{text.path}: {key} is no number; write it out there") from None


def write_velocity(path: Path, velocity: np.ndarray) -> None:
    """Give a velocity other values in the cells; everything else in its file stays.

    Parameters
    ----------
    path : Path                               of the field, without .gz
    velocity : ndarray, shape (n, 3) [m/s]    written with all digits

    Raises
    ------
    DataError    if the file is missing or damaged, or its values are binary
    """
    FieldFile(path)
    content = path.read_bytes()
    found = re.search(rb"\binternalField\s[^;]*;", content)
    if found is None or b"\0" in content:
        raise DataError(f"{path}: has no internalField in ascii; write it so, a uniform one will do")
    rows = "\n".join("({} {} {})".format(*map(repr, row)) for row in velocity.tolist())
    entry = f"internalField nonuniform List<vector> {len(velocity)}\n(\n{rows}\n);"
    path.write_bytes(content[: found.start()] + entry.encode() + content[found.end() :])


def _finite(path: Path, values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise DataError(f"{path}: holds NaN or infinity; the run diverged there, or the file is damaged")
    return values
