"""Meshes of polyhedra: areas, centres and volumes, and the gradient that second-order finite volumes take on them.

Everything is in numpy and float64. Faces are shared by two cells, owner and neighbour, and the area vector of a face
points from the first to the second; boundary faces, which come last, have an owner alone.

Legend: n cells, F faces, the first I of which lie between two cells; P points; S = area vector of a face [m^2];
V = volume of a cell [m^3].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Patch:
    """A named part of the boundary.

    Attributes
    ----------
    name : str
    kind : str                 "wall", "patch", "cyclic", "empty", ...
    faces : slice              which of all faces
    neighbour : str or None    the patch on the other side of a periodic box, face by face in the same order
    """

    name: str
    kind: str
    faces: slice
    neighbour: str | None = None


@dataclass(frozen=True)
class CellMesh:
    """Geometry of a mesh, without its points.

    Attributes
    ----------
    area : ndarray, shape (F, 3) [m^2]          S, out of the owner
    face_centre : ndarray, shape (F, 3) [m]
    owner : ndarray, shape (F,), integer
    neighbour : ndarray, shape (I,), integer
    centre : ndarray, shape (n, 3) [m]
    volume : ndarray, shape (n,) [m^3]
    lower, upper : ndarray, shape (n, 3) [m]    the box around each cell
    moment : ndarray, shape (n, 3, 3) [m^2]     second moment: mean over the cell of (x - centre)_i (x - centre)_j
    patches : tuple of Patch                    together all faces from I on

    Notes
    -----
    Areas, centres and volumes are OpenFOAM's to round-off (tests/openfoam/test_ingest.py), and those of
    prisms exactly; the area vectors of a cell sum to zero (tests/physics/test_cell_mesh.py).
    """

    area: np.ndarray
    face_centre: np.ndarray
    owner: np.ndarray
    neighbour: np.ndarray
    centre: np.ndarray
    volume: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    moment: np.ndarray
    patches: tuple[Patch, ...]

    @classmethod
    def of_faces(
        cls,
        points: np.ndarray,
        corners: np.ndarray,
        offsets: np.ndarray,
        owner: np.ndarray,
        neighbour: np.ndarray,
        patches: tuple[Patch, ...],
    ) -> Self:
        """Compute the geometry.

        Parameters
        ----------
        points : ndarray, shape (P, 3) [m]
        corners : ndarray, integer                     points of all faces, one after the other; three or more a face
        offsets : ndarray, shape (F + 1,), integer     where each face begins in `corners`
        owner, neighbour : ndarray, shapes (F,), (I,), integer
        patches : tuple of Patch
        """
        area, face_centre = _faces(points, corners, offsets)
        centre, volume = _cells(area, face_centre, owner, neighbour)
        moment = _moments(points, corners, offsets, area, face_centre, owner, neighbour, centre) / volume[:, None, None]
        of_corners = points[corners]
        lower, upper = np.full_like(centre, np.inf), np.full_like(centre, -np.inf)
        for box, reduce in ((lower, np.minimum), (upper, np.maximum)):
            of_faces = reduce.reduceat(of_corners, offsets[:-1])
            reduce.at(box, owner, of_faces)
            reduce.at(box, neighbour, of_faces[: len(neighbour)])
        return cls(area, face_centre, owner, neighbour, centre, volume, lower, upper, moment, patches)

    @property
    def num_cells(self) -> int:
        """Number n of cells."""
        return len(self.volume)

    @property
    def width(self) -> np.ndarray:
        """Filter width of each cell, the cube root of its volume, shape (n,) [m]."""
        return np.cbrt(self.volume)

    @property
    def shape(self) -> np.ndarray:
        """Symmetric root L of twelve times the second moment, shape (n, 3, 3) [m]: the sides of a box."""
        squares, axes = np.linalg.eigh(12 * self.moment)
        return np.einsum("nik,nk,njk->nij", axes, np.sqrt(np.maximum(squares, 0)), axes)

    @property
    def is_sound(self) -> bool:
        """Whether all volumes are positive, centres are inside the boxes of their cells, and no face has no area."""
        inside = (self.lower < self.centre) & (self.centre < self.upper)
        area = np.abs(self.area).max(axis=1)
        return bool(inside.all() and (self.volume > 0).all() and (area > 0).all() and (self._weights >= 0).all())

    def patch(self, name: str) -> Patch:
        """Return the patch of a name; KeyError if there is none."""
        return {patch.name: patch for patch in self.patches}[name]

    @cached_property
    def _weights(self) -> np.ndarray:
        """Of the owner's value on faces between two cells: linear in the distances across the face."""
        faces = slice(len(self.neighbour))
        to_owner, to_neighbour = self._across(faces), self._across(faces, self.neighbour)
        return to_neighbour / (to_owner + to_neighbour)

    def _across(self, faces: slice, cells: np.ndarray | None = None) -> np.ndarray:
        """Distance of cells' centres (the owners if not given) from their faces, times the area; (F',) [m^3]."""
        cells = self.owner[faces] if cells is None else cells
        return np.abs(np.einsum("fi,fi->f", self.area[faces], self.face_centre[faces] - self.centre[cells]))

    def other_side(self, patch: Patch, values: np.ndarray) -> np.ndarray:
        """Return what lies beyond the faces of a periodic patch: values (n, m) of cells to (faces, m)."""
        return values[self.owner[self.patch(patch.neighbour).faces]]

    def on_periodic_faces(self, patch: Patch, values: np.ndarray) -> np.ndarray:
        """Interpolate cells' values (n, m) linearly to the faces of a periodic patch: (faces, m)."""
        # Both sides have equal areas, so the products of `_across` compare as distances do.
        here, there = self._across(patch.faces), self._across(self.patch(patch.neighbour).faces)
        weight = (there / (here + there))[:, None]
        return weight * values[self.owner[patch.faces]] + (1 - weight) * self.other_side(patch, values)

    def gradient(self, values: np.ndarray, on_boundary: Mapping[str, np.ndarray]) -> np.ndarray:
        """Gradient of cells by Gauss' theorem, values interpolated linearly to the faces ("Gauss linear").

            G_ij = 1/V sum over faces of u_i S_j

        Parameters
        ----------
        values : ndarray, shape (n, m)
        on_boundary : dict of ndarray, shape (faces, m)    patch name -> values on its faces; periodic patches need
                                                           none, others that are left out count as zero

        Returns
        -------
        ndarray, shape (n, m, 3) [1/m times the unit of the values]    of component i along axis j

        Notes
        -----
        OpenFOAM's own to round-off (tests/openfoam/test_ingest.py); exact for linear functions where the line
        between two centres meets the face in its centre (tests/physics/test_cell_mesh.py).
        """
        num_inner = len(self.neighbour)
        on_faces = np.zeros((len(self.owner), values.shape[1]))
        weight = self._weights[:, None]
        on_faces[:num_inner] = weight * values[self.owner[:num_inner]] + (1 - weight) * values[self.neighbour]
        for patch in self.patches:
            if patch.kind == "cyclic":
                on_faces[patch.faces] = self.on_periodic_faces(patch, values)
            elif patch.name in on_boundary:
                on_faces[patch.faces] = on_boundary[patch.name]
        gradient = np.empty((self.num_cells, values.shape[1], 3))
        for row in range(values.shape[1]):
            for column in range(3):
                flux = on_faces[:, row] * self.area[:, column]
                gradient[:, row, column] = self._out_of_cells(flux) / self.volume
        return gradient

    def _out_of_cells(self, flux: np.ndarray) -> np.ndarray:
        """Sum fluxes (F,) over the faces of each cell, outwards: (n,)."""
        return _gathered(flux, -flux[: len(self.neighbour)], self.owner, self.neighbour, self.num_cells)


def _gathered(
    of_owner: np.ndarray, of_neighbour: np.ndarray, owner: np.ndarray, neighbour: np.ndarray, num_cells: int
) -> np.ndarray:
    """Sum over the faces of each cell: (F,), (I,) to (n,)."""
    return np.bincount(owner, of_owner, num_cells) + np.bincount(neighbour, of_neighbour, num_cells)


def _faces(points: np.ndarray, corners: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area vectors and centres: a face is cut into triangles around the mean of its corners, a triangle not at all."""
    counts = np.diff(offsets)
    here = points[corners]
    there = _following(here, offsets)
    middle = np.add.reduceat(here, offsets[:-1]) / counts[:, None]
    middle_of_corner = np.repeat(middle, counts, axis=0)
    twice = np.cross(there - here, middle_of_corner - here)
    sizes = np.linalg.norm(twice, axis=1)
    area = 0.5 * np.add.reduceat(twice, offsets[:-1])
    moments = np.add.reduceat(sizes[:, None] * (here + there + middle_of_corner) / 3, offsets[:-1])
    centre = moments / np.add.reduceat(sizes, offsets[:-1])[:, None]
    return area, centre


def _following(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Of each corner's value that of the next corner of its face, around the face."""
    following = np.arange(1, len(values) + 1)
    following[offsets[1:] - 1] = offsets[:-1]
    return values[following]


def _cells(
    area: np.ndarray, face_centre: np.ndarray, owner: np.ndarray, neighbour: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and volumes: a cell is cut into pyramids over its faces around the mean of their centres."""
    num_cells, num_inner = int(owner.max()) + 1, len(neighbour)

    def gathered(of_owner: np.ndarray, of_neighbour: np.ndarray) -> np.ndarray:
        return _gathered(of_owner, of_neighbour, owner, neighbour, num_cells)

    faces_of_cell = gathered(np.ones(len(owner)), np.ones(num_inner))
    middle = np.stack([gathered(x, x[:num_inner]) for x in face_centre.T], axis=1) / faces_of_cell[:, None]
    of_owner = np.einsum("fi,fi->f", area, face_centre - middle[owner]) / 3
    of_neighbour = np.einsum("fi,fi->f", area[:num_inner], middle[neighbour] - face_centre[:num_inner]) / 3
    volume = gathered(of_owner, of_neighbour)
    moments = np.empty_like(middle)
    for axis in range(3):
        own = of_owner * (0.75 * face_centre[:, axis] + 0.25 * middle[owner, axis])
        other = of_neighbour * (0.75 * face_centre[:num_inner, axis] + 0.25 * middle[neighbour, axis])
        moments[:, axis] = gathered(own, other)
    return moments / volume[:, None], volume


def _moments(
    points: np.ndarray, corners: np.ndarray, offsets: np.ndarray, area: np.ndarray, face_centre: np.ndarray,
    owner: np.ndarray, neighbour: np.ndarray, centre: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Integrals of (x - centre)_i (x - centre)_j over cells, (n, 3, 3): exact for plane faces.

    The divergence of y_i y_j y is 5 y_i y_j, so that faces alone are integrated over: on one y . S is constant, and the
    integral of a triangle with corners p around the face's centre is (sum of p p^T + (sum p)(sum p)^T) / 12 its area.
    """
    here = points[corners] - np.repeat(face_centre, np.diff(offsets), axis=0)
    there = _following(here, offsets)
    share = 0.5 * np.linalg.norm(np.cross(here, there), axis=1)
    share /= np.repeat(np.add.reduceat(share, offsets[:-1]), np.diff(offsets))
    number, inner = len(centre), len(neighbour)
    to_owner, to_neighbour = face_centre - centre[owner], face_centre[:inner] - centre[neighbour]
    height = np.einsum("fi,fi->f", area, to_owner) / 5
    other_height = -np.einsum("fi,fi->f", area[:inner], to_neighbour) / 5
    total = np.empty((number, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            both = here[:, i] + there[:, i], here[:, j] + there[:, j]
            of_triangle = (here[:, i] * here[:, j] + there[:, i] * there[:, j] + both[0] * both[1]) / 12
            of_face = np.add.reduceat(share * of_triangle, offsets[:-1])
            of_owner = height * (of_face + to_owner[:, i] * to_owner[:, j])
            of_neighbour = other_height * (of_face[:inner] + to_neighbour[:, i] * to_neighbour[:, j])
            total[:, i, j] = total[:, j, i] = _gathered(of_owner, of_neighbour, owner, neighbour, number)
    return total
