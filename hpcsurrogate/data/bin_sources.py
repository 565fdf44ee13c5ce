"""Slices of atoms, as data/bins.py has them, from dumps and from what LAMMPS itself averaged in chunks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.bins import COLUMNS, ROWS, Slices
from hpcsurrogate.sources.lammps_chunks import read_chunk_averages
from hpcsurrogate.sources.lammps_dump import dump_frames
from hpcsurrogate.sources.lammps_frame import Frame
from hpcsurrogate.sources.lammps_units import UNIT_STYLES

NUM_STRETCHES = 128  # of a dump at least so many are kept, and fewer than twice as many
MASS_SPREAD = 1e-4  # between the mean masses of atoms in the slices: what the six digits of a file leave
VELOCITY = ("vx", "vy", "vz")


class _Stretches:
    """Means of equally many frames each: when there are too many stretches, neighbours are joined."""

    def __init__(self) -> None:
        self.means: list[np.ndarray] = []
        self.frames_of_each, self._frames, self._sum = 1, 0, 0.0

    def add(self, frame: np.ndarray) -> None:
        self._sum, self._frames = self._sum + frame, self._frames + 1
        if self._frames < self.frames_of_each:
            return
        self.means.append(self._sum / self._frames)
        self._sum, self._frames = 0.0, 0
        if len(self.means) == 2 * NUM_STRETCHES:
            self.means = [(a + b) / 2 for a, b in zip(self.means[::2], self.means[1::2], strict=True)]
            self.frames_of_each *= 2


def bin_dump(
    path: str | Path, axis: int, width: float, units: str, virial: Sequence[str], masses: Sequence[float] = ()
) -> Slices:
    """Average a dump in slices, frame by frame.

    Parameters
    ----------
    path : str or Path                  with coordinates of any kind, vx vy vz, mass or type, and the virial
    axis : int                          across which the slices lie: 0, 1, 2
    width : float [length]              of a slice, at most the box; rounded so that slices fill it
    units : str                         style of the script
    virial : six of str                 columns of `compute stress/atom NULL virial`, which is without the kinetic part,
                                        in the order xx, xy, xz, yy, yz, zz
    masses : list of float, optional    of types 1, 2, ..., for a dump without the column mass

    Returns
    -------
    Slices    frames at the end that fill no stretch, less than a 128th of them, are left out

    Raises
    ------
    DataError    if the file is missing or damaged, holds no frame, lacks a column or a mass, is of other units, or its
                 slices move, naming the line

    Notes
    -----
    Memory is that of a frame and of 256 stretches. Sums over the slices are those of all atoms to round-off, and the
    slices are those of LAMMPS's own averages of chunks (tests/unit/data/test_bins.py).
    """
    stretches, first = _Stretches(), None
    for frame in dump_frames(path):
        first = first or frame
        _require_same_slices(frame, first, axis)
        if frame.units not in (None, units):
            raise DataError(f"{frame.place}: is in units {frame.units}, not {units}; correct simulate.units")
        count = max(1, round(frame.box.edges[axis, axis] / width))
        stretches.add(_sums(frame, axis, count, virial, _masses(frame, masses)))
    if first is None:
        raise DataError(f"{path}: line 1: no frame follows; give the run more steps")
    centres = first.box.origin[axis] + (np.arange(count) + 0.5) / count * first.box.edges[axis, axis]
    number, mass, heat, *rest = np.moveaxis(np.stack(stretches.means), 2, 0)
    momentum, flux, potential = (np.stack(part, axis=2) for part in (rest[:3], rest[3:9], rest[9:]))
    style = UNIT_STYLES[units]
    return Slices(
        style, axis, centres, number, mass, momentum, style.temperature * heat / 3, potential - style.pressure * flux
    )


def bin_chunks(path: str | Path, axis: int, units: str, stress: Sequence[str]) -> Slices:
    """Read the slices that LAMMPS itself averaged.

    Parameters
    ----------
    path : str or Path       of `fix ave/chunk` with density/number, density/mass, vx, vy, vz, temp and the stress, in
                             chunks of style bin/1d in units box; atoms of one mass
    axis : int               across which the slices lie: 0, 1, 2
    units : str              style of the script
    stress : six of str      columns of `compute stress/atom NULL`, which holds the kinetic part with the whole
                             velocity, in the order xx, xy, xz, yy, yz, zz

    Returns
    -------
    Slices    a stretch for each row of chunks

    Raises
    ------
    DataError    if the file is missing or damaged, lacks a column, has no slices, or has atoms of several masses, whose
                 mean velocity is not that of the mass
    """
    chunks, style = read_chunk_averages(path), UNIT_STYLES[units]
    if "Coord1" not in chunks.columns or "Coord2" in chunks.columns:
        raise DataError(f"{path}: line 3: chunks are no slices; use compute chunk/atom bin/1d, without compress")
    number, mass = chunks.column("density/number"), chunks.column("density/mass") / style.density
    filled = number > 0
    masses = mass[filled] / number[filled]
    if filled.any() and np.ptp(masses) > MASS_SPREAD * masses.max():
        raise DataError(f"{path}: atoms have several masses, and vx is no mean over the mass; use ingest.kind: dump")
    velocity, per_atom = (np.stack([chunks.column(name) for name in names], 2) for names in (VELOCITY, stress))
    return Slices(
        style, axis, chunks.column("Coord1")[0], number, mass, mass[..., None] * velocity,
        number * chunks.column("temp"), number[..., None] * per_atom,
    )  # fmt: skip


def _sums(frame: Frame, axis: int, count: int, virial: Sequence[str], mass: np.ndarray) -> np.ndarray:
    """Per volume of each slice: atoms, mass, m v^2, m v_i (3), m v_i v_j (6), virial (6); shape (count, 18)."""
    velocity, volume = frame.vectors(VELOCITY), frame.box.volume / count
    # What stands on a wall, or a round-off behind it, belongs to the slice there.
    places = np.clip(np.floor(frame.scaled()[:, axis] * count).astype(np.int64), 0, count - 1)
    momentum = mass[:, None] * velocity
    flux = momentum[:, ROWS] * velocity[:, COLUMNS]
    energy = flux[:, ROWS == COLUMNS].sum(1)
    columns = (np.ones_like(mass), mass, energy, *momentum.T, *flux.T, *frame.vectors(virial).T)
    return np.stack([np.bincount(places, column, count) for column in columns], axis=1) / volume


def _masses(frame: Frame, masses: Sequence[float]) -> np.ndarray:
    if "mass" in frame.columns or not masses:
        return frame.vectors(("mass",))[:, 0]
    types = frame.vectors(("type",))[:, 0].astype(np.int64)
    if len(types) and not 1 <= types.min() <= types.max() <= len(masses):
        raise DataError(f"{frame.place}: has types up to {types.max()}, ingest.masses {len(masses)}; add the others")
    return np.asarray(masses, dtype=np.float64)[types - 1]


def _require_same_slices(frame: Frame, first: Frame, axis: int) -> None:
    edges, length = frame.box.edges, first.box.edges[axis, axis]
    if (np.delete(edges[:, axis], axis) != 0).any():
        raise DataError(f"{frame.place}: the box leans along axis {'xyz'[axis]}: slices across it are not flat")
    moved = max(abs(edges[axis, axis] - length), abs(frame.box.origin[axis] - first.box.origin[axis]))
    if moved > 1e-9 * length:
        raise DataError(
            f"{frame.place}: the box has not the place that it had at step {first.step} along {'xyz'[axis]}, so that"
            " slices move; hold it with `boundary p` or `f` and without a barostat"
        )
