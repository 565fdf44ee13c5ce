"""The mesh of an OpenFOAM case (constant/polyMesh), and what its boundary conditions make of a velocity."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.physics.cell_mesh import CellMesh, Patch
from hpcsurrogate.sources import openfoam_files as files

SAME_AREA = 1e-4  # relative; OpenFOAM's own tolerance for the two sides of a periodic box
WITHOUT_VALUES = ("empty", "cyclic")
MIRRORS = ("slip", "symmetry", "symmetryPlane")
WITHOUT_CHOICE = ("empty", "cyclic", "symmetry", "symmetryPlane")
KNOWN = ("fixedValue", "noSlip", "zeroGradient", *MIRRORS, *WITHOUT_VALUES)


def read_mesh(folder: Path) -> CellMesh:
    """Read points, faces, owner, neighbour and boundary, and compute the geometry.

    Raises
    ------
    DataError    if a file is missing or damaged, the files contradict each other, a cell has no volume, or the sides of
                 a periodic box are not parallel
    """
    points = files.read_points(folder / "points")
    corners, offsets = files.read_faces(folder / "faces")
    owner, neighbour = files.read_labels(folder / "owner"), files.read_labels(folder / "neighbour")
    patches = _patches(folder / "boundary", len(neighbour), len(owner))
    _require(len(owner) == len(offsets) - 1, folder / "owner", f"names {len(owner)} of {len(offsets) - 1} faces")
    _require(len(neighbour) <= len(owner), folder / "neighbour", "names more faces than there are")
    # Every cell has at least four faces; so a wrong number cannot ask for more memory than the right ones.
    num_cells = min(int(owner.max()) + 1, (len(owner) + len(neighbour)) // 4)
    limits = {"faces": (corners, len(points)), "owner": (owner, num_cells), "neighbour": (neighbour, num_cells)}
    for name, (values, limit) in limits.items():
        _require(((values >= 0) & (values < limit)).all(), folder / name, f"holds a number outside 0 to {limit - 1}")
    touched = np.bincount(owner, minlength=num_cells) + np.bincount(neighbour, minlength=num_cells)
    _require((touched >= 4).all(), folder / "owner", "gives a cell fewer than four faces")
    with np.errstate(all="ignore"):
        mesh = CellMesh.of_faces(points, corners, offsets, owner, neighbour, patches)
        _require(mesh.is_sound, folder / "points", "give a cell without volume, or a face without area")
    for patch in patches:
        if patch.kind == "cyclic":
            _require_parallel(folder / "boundary", mesh, patch)
    return mesh


def velocity_on_boundary(path: Path, mesh: CellMesh, velocity: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the boundary conditions of a field's file make of a velocity, as OpenFOAM evaluates them.

    Parameters
    ----------
    path : Path                             the field's file, without .gz
    mesh : CellMesh
    velocity : ndarray, shape (n, 3) [m/s]    of cells

    Returns
    -------
    dict of ndarray, shape (faces, 3) [m/s]    patch name -> velocity on its faces; periodic and empty ones left out

    Raises
    ------
    DataError    if the file is missing or damaged, or a condition is none of fixedValue, noSlip, zeroGradient, slip,
                 symmetry, symmetryPlane, empty and cyclic
    """
    field = files.FieldFile(path)
    found = {}
    for patch in mesh.patches:
        place = f"{field.path}: boundaryField.{patch.name}"
        # Patches that leave no choice are often left to an included file.
        condition = field.conditions.get(patch.name, {"type": patch.kind} if patch.kind in WITHOUT_CHOICE else None)
        if not isinstance(condition, Mapping):
            raise DataError(f"{place} is missing; name the patch there itself, not by a group or a pattern")
        kind = condition.get("type")
        if kind not in KNOWN:
            raise DataError(f"{place}.type: {kind} is not known here, only {', '.join(KNOWN)}; replace it by one")
        if kind not in WITHOUT_VALUES:
            found[patch.name] = _on_patch(place, condition, mesh, patch, velocity[mesh.owner[patch.faces]])
    return found


def _on_patch(place: str, condition: Mapping[str, Any], mesh: CellMesh, patch: Patch, inside: np.ndarray) -> np.ndarray:
    kind = condition["type"]
    if kind == "noSlip":
        return np.zeros_like(inside)
    if kind == "fixedValue":
        value = files.read_values(condition.get("value"), len(inside), 3)
        if value is None or not np.isfinite(value).all():
            raise DataError(f"{place}.value: is no vector, nor one for each of {len(inside)} faces; write it out")
        return value
    if kind in MIRRORS:
        area = mesh.area[patch.faces]
        normal = area / np.linalg.norm(area, axis=1, keepdims=True)
        return inside - normal * np.einsum("fi,fi->f", normal, inside)[:, None]
    return inside


def _patches(path: Path, num_inner: int, num_faces: int) -> tuple[Patch, ...]:
    patches = []
    first = num_inner
    for name, content in files.read_boundary(path).items():
        start, number, kind = (str(content.get(key)) for key in ("startFace", "nFaces", "type"))
        if start != str(first) or not re.fullmatch(r"\d{1,18}", number):
            raise DataError(f"{files.existing(path)}: patch {name} does not follow the one before it")
        if kind.startswith("cyclic") and (kind != "cyclic" or content.get("transform") == "rotational"):
            raise DataError(f"{files.existing(path)}: patch {name} is {kind}; only translational cyclic is read")
        neighbour = content.get("neighbourPatch")
        patches.append(Patch(name, kind, slice(first, first + int(number)), neighbour if kind == "cyclic" else None))
        first += int(number)
    names = {patch.name: patch for patch in patches}
    for patch in patches:
        other = names.get(patch.neighbour)
        sizes_fit = other is not None and other.faces.stop - other.faces.start == patch.faces.stop - patch.faces.start
        if patch.kind == "cyclic" and not sizes_fit:
            raise DataError(f"{files.existing(path)}: patch {patch.name} has no neighbourPatch with as many faces")
    _require(first == num_faces, path, f"patches end at face {first}, the mesh at {num_faces}")
    return tuple(patches)


def _require_parallel(path: Path, mesh: CellMesh, patch: Patch) -> None:
    here, there = mesh.area[patch.faces], mesh.area[mesh.patch(patch.neighbour).faces]
    gap = np.linalg.norm(here + there, axis=1) <= SAME_AREA * np.linalg.norm(here, axis=1)
    _require(bool(gap.all()), path, f"patch {patch.name} and its neighbour are not parallel, which is not read")


def _require(holds: bool, path: Path, what: str) -> None:
    if not holds:
        raise DataError(f"{path}: {what}; the file is damaged or of another mesh: write or copy it again")
