"""The box of a run of LAMMPS: an origin and three edges, the first along x and the second in the plane of x and y."""

from dataclasses import dataclass
from typing import Self

import numpy as np

LONGEST = 1e100  # [length]


@dataclass(frozen=True)
class Box:
    """A parallelepiped, upright or tilted.

    Attributes
    ----------
    origin : ndarray, shape (3,), float64 [length]
    edges : ndarray, shape (3, 3), float64 [length]    rows are the edges a, b, c
    periodic : tuple of three bool                     along a, b, c
    """

    origin: np.ndarray
    edges: np.ndarray
    periodic: tuple[bool, bool, bool] = (True, True, True)

    @classmethod
    def from_bounds(cls, bounds: np.ndarray, periodic: tuple[bool, bool, bool]) -> Self:
        """Read what a dump says of a box.

        Parameters
        ----------
        bounds : ndarray, shape (3, 2) or (3, 3) [length]    rows x, y, z: low, high; with tilts xy, xz, yz in the third
                                                             column low and high are those of an upright box around it
        periodic : tuple of three bool

        Returns
        -------
        Box

        Raises
        ------
        ValueError    if an edge is not longer than zero, or too long for the volume to be a number

        Notes
        -----
        The LAMMPS manual, "Triclinic (non-orthogonal) simulation boxes". Scaled and plain coordinates of the same atoms
        agree (tests/unit/sources/test_lammps_dump.py).
        """
        low, high = bounds[:, 0].copy(), bounds[:, 1].copy()
        xy, xz, yz = bounds[:, 2] if bounds.shape[1] == 3 else (0.0, 0.0, 0.0)
        low[0] -= min(0.0, xy, xz, xy + xz)
        high[0] -= max(0.0, xy, xz, xy + xz)
        low[1] -= min(0.0, yz)
        high[1] -= max(0.0, yz)
        if not ((high > low) & (np.abs([low, high]).max() < LONGEST)).all():
            raise ValueError("the box has no volume, or no finite one")
        edges = np.diag(high - low)
        edges[1, 0], edges[2, 0], edges[2, 1] = xy, xz, yz
        return cls(low, edges, periodic)

    @classmethod
    def from_edges(cls, edges: np.ndarray, periodic: tuple[bool, bool, bool]) -> Self:
        """Return a box whose origin is zero.

        Parameters
        ----------
        edges : ndarray, shape (3,) or (3, 3) [length]    of an upright box, or rows a, b, c
        periodic : tuple of three bool

        Returns
        -------
        Box

        Raises
        ------
        ValueError    if a, b, c, in this order, are not right-handed, or too long for the volume to be a number
        """
        edges = np.array(np.diag(edges) if edges.ndim == 1 else edges, np.float64)
        if not (np.abs(edges).max() < LONGEST and np.linalg.det(edges) > 0):
            raise ValueError("the box has no volume, or no finite one")
        return cls(np.zeros(3), edges, periodic)

    @property
    def volume(self) -> float:
        """[length^3]."""
        return float(np.linalg.det(self.edges))

    def scaled(self, positions: np.ndarray) -> np.ndarray:
        """Return coordinates along the edges, 0 to 1 within the box, of positions (n, 3)."""
        return (positions - self.origin) @ np.linalg.inv(self.edges)

    def unscaled(self, scaled: np.ndarray) -> np.ndarray:
        """Return positions (n, 3) [length] of coordinates along the edges."""
        return self.origin + scaled @ self.edges

    def wrapped(self, scaled: np.ndarray) -> np.ndarray:
        """Return the image within the box of coordinates (n, 3) along the edges: 0 <= s < 1 where it is periodic."""
        inside = scaled - np.floor(scaled)
        inside[inside == 1] = 0  # what lies below zero by less than the round-off of 1
        return np.where(self.periodic, inside, scaled)
