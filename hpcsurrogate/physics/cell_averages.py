"""From a fine mesh to a coarser one: which coarse cell holds each fine one, and averages weighted by volume.

A fine cell lies in the coarse cell that its centre lies in. Where coarse cells are unions of fine ones, as between two
block-structured meshes of the same geometry whose numbers of cells divide, the averages are exact integrals of the fine
field over coarse cells.

Legend: N fine cells, n coarse cells; V = volume [m^3]; <f> = sum of V f / sum of V over the fine cells of a coarse one.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from hpcsurrogate.physics.cell_mesh import CellMesh

ON_FACE = 1e-6  # of the cube root of the volume: a centre so far outside counts as inside
POINTS_AT_ONCE = 1 << 16
MOST_BINS = 128  # along an axis


@dataclass(frozen=True)
class CellAverages:
    """Averages over the fine cells of each coarse cell.

    Attributes
    ----------
    container : ndarray, shape (N,), integer    the coarse cell of each fine one
    fine_volume : ndarray, shape (N,) [m^3]
    covered : ndarray, shape (n,) [m^3]         volume of the fine cells in each coarse cell
    """

    container: np.ndarray
    fine_volume: np.ndarray
    covered: np.ndarray

    @classmethod
    def between(cls, fine: CellMesh, coarse: CellMesh) -> Self:
        """Find the coarse cell of every fine one.

        Raises
        ------
        ValueError    if a fine cell lies in no coarse one, or a coarse one holds none: what and where
        """
        container = find_cells(coarse, fine.centre)
        if (container < 0).any():
            first = int(np.argmax(container < 0))
            place = ", ".join(f"{x:g}" for x in fine.centre[first])
            raise ValueError(
                f"fine cell {first} at ({place}) m lies in no coarse cell, as {int((container < 0).sum())} do in all"
            )
        covered = np.bincount(container, fine.volume, coarse.num_cells)
        if not covered.all():
            first = int(np.argmax(covered == 0))
            place = ", ".join(f"{x:g}" for x in coarse.centre[first])
            raise ValueError(f"coarse cell {first} at ({place}) m holds no fine cell")
        return cls(container, fine.volume, covered)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return <f>: (N,) to (n,), in the unit of the values.

        Notes
        -----
        The integral over all cells is kept to round-off where meshes nest, and a constant always
        (tests/physics/test_cell_averages.py).
        """
        return np.bincount(self.container, self.fine_volume * values, len(self.covered)) / self.covered

    def velocity_and_stress(self, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Filter a velocity.

            tau_ij = <u_i u_j> - <u_i> <u_j>

        Parameters
        ----------
        velocity : ndarray, shape (N, 3) [m/s]

        Returns
        -------
        ndarray, shape (n, 3) [m/s] and ndarray, shape (n, 6) [m^2/s^2]    xx, xy, xz, yy, yz, zz

        Notes
        -----
        The stress is positive semi-definite, the same in every inertial frame, and that of a linear velocity is known
        exactly (tests/physics/test_cell_averages.py). It is the mean of products of deviations, so that nothing
        large cancels.
        """
        mean = np.stack([self.mean(component) for component in velocity.T], axis=1)
        deviation = velocity - mean[self.container]
        pairs = [(i, j) for i in range(3) for j in range(i, 3)]
        stress = np.stack([self.mean(deviation[:, i] * deviation[:, j]) for i, j in pairs], axis=1)
        return mean, stress


def find_cells(mesh: CellMesh, points: np.ndarray) -> np.ndarray:
    """Find the cell that each point lies in.

    Parameters
    ----------
    mesh : CellMesh
    points : ndarray, shape (m, 3) [m]

    Returns
    -------
    ndarray, shape (m,), integer    -1 for a point in no cell; on a face shared by cells, one of them

    Notes
    -----
    A point lies in a cell if it is inside the planes of all its faces, which is right for convex cells with plane
    faces (tests/physics/test_cell_averages.py).
    """
    bins = _Bins.of(mesh)
    found = np.empty(len(points), dtype=np.int64)
    for first in range(0, len(points), POINTS_AT_ONCE):
        chunk = slice(first, first + POINTS_AT_ONCE)
        found[chunk] = _find(mesh, bins, points[chunk])
    return found


def _find(mesh: CellMesh, bins: "_Bins", points: np.ndarray) -> np.ndarray:
    point, cell = bins.candidates(points)
    slack = ON_FACE * mesh.width[cell, None]
    in_box = ((points[point] >= mesh.lower[cell] - slack) & (points[point] <= mesh.upper[cell] + slack)).all(axis=1)
    point, cell = point[in_box], cell[in_box]
    pair, face_side = _spread(bins.first_face[cell], bins.first_face[cell + 1])
    face, sign = bins.faces[face_side], bins.signs[face_side]
    outwards = mesh.area[face] * (sign / np.linalg.norm(mesh.area[face], axis=1))[:, None]
    outside = np.einsum("pi,pi->p", outwards, points[point[pair]] - mesh.face_centre[face])
    farthest = np.full(len(point), -np.inf)
    np.maximum.at(farthest, pair, outside)
    inside = farthest <= ON_FACE * mesh.width[cell]
    found = np.full(len(points), -1, dtype=np.int64)
    # The deepest candidate is written last and stays.
    order = np.argsort(-farthest[inside], kind="stable")
    found[point[inside][order]] = cell[inside][order]
    return found


def _spread(first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For ranges first..stop: the number of its range for each item, and the item."""
    counts = stop - first
    owner = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return owner, np.arange(counts.sum()) - starts[owner] + first[owner]


@dataclass(frozen=True)
class _Bins:
    """A regular box of bins with the cells whose boxes touch each, and the faces of each cell."""

    origin: np.ndarray
    size: np.ndarray
    number: np.ndarray
    first_cell: np.ndarray
    cells: np.ndarray
    first_face: np.ndarray
    faces: np.ndarray
    signs: np.ndarray

    @classmethod
    def of(cls, mesh: CellMesh) -> Self:
        origin, top = mesh.lower.min(axis=0), mesh.upper.max(axis=0)
        number = np.clip((top - origin) // np.median(mesh.upper - mesh.lower, axis=0), 1, MOST_BINS).astype(np.int64)
        size = (top - origin) / number
        slack = ON_FACE * mesh.width[:, None]
        low = np.clip((mesh.lower - slack - origin) // size, 0, number - 1).astype(np.int64)
        high = np.clip((mesh.upper + slack - origin) // size, 0, number - 1).astype(np.int64)
        spans = high - low + 1
        cell, place = _spread(np.zeros(mesh.num_cells, dtype=np.int64), spans.prod(axis=1))
        along_z, rest = place % spans[cell, 2], place // spans[cell, 2]
        steps = np.stack([rest // spans[cell, 1], rest % spans[cell, 1], along_z], axis=1)
        bin_of = np.ravel_multi_index(tuple((low[cell] + steps).T), tuple(number))
        sides = np.concatenate([mesh.owner, mesh.neighbour])
        by_cell = np.argsort(sides, kind="stable")
        faces = np.concatenate([np.arange(len(mesh.owner)), np.arange(len(mesh.neighbour))])[by_cell]
        signs = np.where(by_cell < len(mesh.owner), 1.0, -1.0)
        return cls(
            origin, size, number,
            _starts(bin_of, int(number.prod())), cell[np.argsort(bin_of, kind="stable")],
            _starts(sides, mesh.num_cells), faces, signs,
        )  # fmt: skip

    def candidates(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of a point and a cell that may hold it."""
        place = np.clip((points - self.origin) // self.size, 0, self.number - 1).astype(np.int64)
        bin_of = np.ravel_multi_index(tuple(place.T), tuple(self.number))
        point, index = _spread(self.first_cell[bin_of], self.first_cell[bin_of + 1])
        return point, self.cells[index]


def _starts(keys: np.ndarray, number: int) -> np.ndarray:
    """Where each of `number` groups begins, and the last ends, once `keys` are sorted."""
    return np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=number))])
