"""Mean velocity, resolved stresses and wall shear stress of runs on a mesh of cells, averaged over time and along
directions in which the flow does not change.

All runs are compared on the coarse mesh: a fine one is averaged onto it first, cell by cell and time by time, so that
its stresses too are those of the velocity that a coarse run resolves.

Legend: T times; g places, each the cells that differ only along the directions averaged over; components of symmetric
tensors xx, xy, xz, yy, yz, zz; B = blocks of consecutive times, which are drawn again to find how sure a mean is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from hpcsurrogate.core.fields import AXES
from hpcsurrogate.couple.bootstrap import RESAMPLES, interval
from hpcsurrogate.evaluate.cells import symmetric_pairs
from hpcsurrogate.physics.cell_mesh import CellMesh

NUM_BLOCKS = 8
PAIRS = symmetric_pairs(3)
TWICE = np.array([1.0, 2.0, 2.0, 1.0, 2.0, 1.0])  # how often a component stands in the whole tensor
SAME_PLACE = 1e-3  # of the smallest cell's width: centres so near each other differ by round-off


@dataclass(frozen=True)
class Places:
    """Which cells of a mesh are averaged together.

    Attributes
    ----------
    group : ndarray, shape (n,), integer      the place of each cell
    volume : ndarray, shape (n,) [m^3]
    centre : ndarray, shape (g, axes) [m]     along the directions that are left
    """

    group: np.ndarray
    volume: np.ndarray
    centre: np.ndarray

    @classmethod
    def of(cls, mesh: CellMesh, average_over: Sequence[str]) -> Self:
        """Cells whose centres agree in all but the directions `average_over`, some of x, y and z, are of one place."""
        kept = [axis for axis, name in enumerate(AXES) if name not in average_over]
        centre = mesh.centre[:, kept]
        keys = np.rint(centre / (SAME_PLACE * mesh.width.min())).astype(np.int64)
        _, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return cls(group.reshape(-1), mesh.volume, centre[first])

    @property
    def of_places(self) -> np.ndarray:
        """Volume of each place, shape (g,) [m^3]."""
        return np.bincount(self.group, self.volume)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Average over the cells of each place: (n, m) to (g, m)."""
        sums = [np.bincount(self.group, self.volume * column) for column in values.T]
        return np.stack(sums, axis=1) / self.of_places[:, None]


@dataclass(frozen=True)
class Moments:
    """What is kept of a run.

    Attributes
    ----------
    first : ndarray, shape (T, g, 3) [m/s]          mean velocity of each place at each time
    second : ndarray, shape (T, g, 6) [m^2/s^2]     mean of u_i u_j there
    wall : ndarray, shape (T, 3) [m^2/s^2]          mean over all walls of the shear stress over density
    """

    first: np.ndarray
    second: np.ndarray
    wall: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Put times one after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("first", "second", "wall")))

    @classmethod
    def of(cls, places: Places, velocity: np.ndarray, wall: np.ndarray) -> Self:
        """One time of cells' velocities (n, 3) [m/s] and the walls' mean shear stress (3,) [m^2/s^2]."""
        products = np.stack([velocity[:, i] * velocity[:, j] for i, j in PAIRS], axis=1)
        return cls(places.mean(velocity)[None], places.mean(products)[None], wall[None])

    def profile(self, weights: np.ndarray | None = None) -> "Profile":
        """Average over time, blocks weighted by rows of `weights`, shape (r, B), or all times alike.

        Returns
        -------
        Profile    with leading axis r, or without it
        """
        if weights is None:
            return Profile.of(self.first.mean(0), self.second.mean(0), self.wall.mean(0))
        blocks = [np.array_split(values, NUM_BLOCKS) for values in (self.first, self.second, self.wall)]
        means = [np.stack([block.mean(0) for block in of_one]) for of_one in blocks]
        return Profile.of(*(np.tensordot(weights, mean, 1) for mean in means))


@dataclass(frozen=True)
class Profile:
    """Averages over time: `velocity` (..., g, 3) [m/s], resolved `stress` (..., g, 6), `wall` (..., 3) [m^2/s^2]."""

    velocity: np.ndarray
    stress: np.ndarray
    wall: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray, wall: np.ndarray) -> Self:
        """From averages of the moments."""
        products = np.stack([first[..., i] * first[..., j] for i, j in PAIRS], axis=-1)
        return cls(first, second - products, wall)

    def errors(self, reference: Self, volume: np.ndarray) -> dict[str, np.ndarray]:
        """Differences from a reference over its own size, roots of means over the volume: 0 is right.

        Returns
        -------
        dict    "velocity", "stress", "wall_stress", each of shape (...)
        """

        def off(name: str, weights: np.ndarray | float, axes: tuple[int, ...]) -> np.ndarray:
            of_self, of_reference = getattr(self, name), getattr(reference, name)
            above = (weights * (of_self - of_reference) ** 2).sum(axes)
            return np.sqrt(above / (weights * of_reference**2).sum(axes))

        return {
            "velocity": off("velocity", volume[:, None], (-2, -1)),
            "stress": off("stress", volume[:, None] * TWICE, (-2, -1)),
            "wall_stress": off("wall", 1.0, (-1,)),
        }


def drawn_blocks(generator: np.random.Generator) -> np.ndarray:
    """Return weights of the blocks in each draw with replacement, shape (RESAMPLES, B), rows that sum to one."""
    return generator.multinomial(NUM_BLOCKS, np.full(NUM_BLOCKS, 1 / NUM_BLOCKS), RESAMPLES) / NUM_BLOCKS


@dataclass(frozen=True)
class Scores:
    """Errors of runs against a reference, and how sure they are.

    Attributes
    ----------
    errors : dict     name of the run -> name of the error -> value
    drawn : dict      the same, shape (RESAMPLES,), blocks of reference and run drawn again; the reference's draws are
                      the same for all runs, so that differences of two runs are compared in pairs
    noise : dict      name of the error -> what the reference is off itself if its blocks are drawn again
    """

    errors: dict[str, dict[str, float]]
    drawn: dict[str, dict[str, np.ndarray]]
    noise: dict[str, float]

    @classmethod
    def of(cls, runs: dict[str, Moments], reference: Moments, volume: np.ndarray) -> Self:
        """Score runs; each needs at least `NUM_BLOCKS` times."""
        generator = np.random.default_rng(0)
        exact, drawn_reference = reference.profile(), reference.profile(drawn_blocks(generator))
        errors, drawn = {}, {}
        for name, run in runs.items():
            errors[name] = {key: float(value) for key, value in run.profile().errors(exact, volume).items()}
            drawn[name] = run.profile(drawn_blocks(generator)).errors(drawn_reference, volume)
        noise = drawn_reference.errors(exact, volume)
        return cls(errors, drawn, {key: float(np.sqrt(np.mean(value**2))) for key, value in noise.items()})

    def interval(self, name: str, error: str) -> tuple[float, float]:
        """95 % interval of an error."""
        return interval(self.drawn[name][error])

    def difference(self, name: str, other: str, error: str) -> tuple[float, float]:
        """95 % interval of the error of one run less that of another."""
        return interval(self.drawn[name][error] - self.drawn[other][error])


def wall_shear_stress(
    mesh: CellMesh, viscosity: float, velocity: np.ndarray, on_boundary: dict[str, np.ndarray]
) -> np.ndarray:
    """Return the mean over all walls of the shear stress that a resolved flow exerts on them, over density.

    Parameters
    ----------
    mesh : CellMesh
    viscosity : float                         [m^2/s]
    velocity : ndarray, shape (n, 3) [m/s]
    on_boundary : dict                        patch name -> velocity on its faces, (faces, 3) [m/s]

    Returns
    -------
    ndarray, shape (3,) [m^2/s^2]    zero if there are no walls

    Notes
    -----
    The slope at a wall is the difference between cell and face over their distance along the normal, as OpenFOAM has
    it for a wall without a wall function (tests/openfoam/test_couple.py).
    """
    total, whole = np.zeros(3), 0.0
    for patch in mesh.patches:
        if patch.kind != "wall":
            continue
        area = np.linalg.norm(mesh.area[patch.faces], axis=1)
        normal = mesh.area[patch.faces] / area[:, None]
        inside = mesh.owner[patch.faces]
        distance = np.einsum("fi,fi->f", normal, mesh.face_centre[patch.faces] - mesh.centre[inside])
        slip = velocity[inside] - on_boundary[patch.name]
        along = slip - normal * np.einsum("fi,fi->f", normal, slip)[:, None]
        total += (area / distance) @ along * viscosity
        whole += area.sum()
    return total / whole if whole else total
