"""Fields from atoms: density, velocity, temperature and stress in equal bins of the box, along one to three edges.

Mass, momentum, momentum flux and virial of the atoms of each bin are summed over frames; sums of bins are those of the
box to round-off. All fields follow from the sums at the end, so that frames, files and ranks can be added up.

Stress is the Cauchy stress of Irving and Kirkwood (J. Chem. Phys. 18, 817, 1950): virial, minus the flux of momentum
relative to the bin's own mean velocity. Of the virial each atom of a pair has half, as in `compute stress/atom`; theirs
is spread along the line between the two. Averages over bins wide beside the range of forces agree, and so do those of
homogeneous fluids; in bins narrower than it near walls this stress is not the one whose divergence balances forces.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.lammps_box import Box
from hpcsurrogate.sources.lammps_dump import Frame
from hpcsurrogate.sources.lammps_units import UnitStyle

ROWS, COLUMNS = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2])  # of xx, xy, xz, yy, yz, zz
FROM_LAMMPS = [0, 3, 4, 1, 5, 2]  # which writes xx, yy, zz, xy, xz, yz


@dataclass(frozen=True)
class BinFields:
    """Means over the frames, in the units of the script; not a number where a bin was empty.

    Attributes
    ----------
    number : ndarray, shape (bins...), float64           of atoms, mean over the frames
    density : ndarray, shape (bins...), float64
    velocity : ndarray, shape (bins..., 3), float64      of the centre of mass
    temperature : ndarray, shape (bins...), float64      of the velocities relative to that, three degrees of freedom an
                                                         atom
    stress : ndarray, shape (bins..., 6), float64        Cauchy stress xx, xy, xz, yy, yz, zz
    """

    number: np.ndarray
    density: np.ndarray
    velocity: np.ndarray
    temperature: np.ndarray
    stress: np.ndarray


@dataclass
class BinSums:
    """Sums over atoms and frames in each bin.

    Attributes
    ----------
    counts : tuple of three int                        of bins along the edges a, b, c
    frames : int
    volume : float [length^3]                          of the box, summed over the frames
    number : ndarray, shape (bins,), float64           of atoms
    mass : ndarray, shape (bins,), float64
    momentum : ndarray, shape (bins, 3), float64       [mass velocity]
    flux : ndarray, shape (bins, 6), float64           sum of m v_i v_j [mass velocity^2]
    virial : ndarray, shape (bins, 6), float64         stress times volume without the kinetic part [pressure volume]
    """

    counts: tuple[int, int, int]
    frames: int
    volume: float
    number: np.ndarray
    mass: np.ndarray
    momentum: np.ndarray
    flux: np.ndarray
    virial: np.ndarray

    @classmethod
    def empty(cls, counts: tuple[int, int, int]) -> Self:
        """Begin with nothing; a count of 1 is an edge along which all is averaged."""
        bins = int(np.prod(counts))
        arrays = [np.zeros(bins), np.zeros(bins), np.zeros((bins, 3)), np.zeros((bins, 6)), np.zeros((bins, 6))]
        return cls(tuple(counts), 0, 0.0, *arrays)

    def add(self, box: Box, scaled: np.ndarray, mass: np.ndarray, velocity: np.ndarray, virial: np.ndarray) -> None:
        """Add the n atoms of a frame.

        Parameters
        ----------
        box : Box
        scaled : ndarray, shape (n, 3)      along the edges of the box, 0 to 1; what lies outside belongs to the bin at
                                            that wall
        mass : ndarray, shape (n,)
        velocity : ndarray, shape (n, 3)
        virial : ndarray, shape (n, 6)      xx, xy, xz, yy, yz, zz, positive in tension, times volume
        """
        counts = np.array(self.counts)
        places = np.clip(np.floor(scaled * counts).astype(np.int64), 0, counts - 1)
        bins = np.ravel_multi_index(tuple(places.T), self.counts)
        momentum = mass[:, None] * velocity
        self.frames += 1
        self.volume += box.volume
        self.number += self._summed(bins, np.ones((len(mass), 1)))[:, 0]
        self.mass += self._summed(bins, mass[:, None])[:, 0]
        self.momentum += self._summed(bins, momentum)
        self.flux += self._summed(bins, momentum[:, ROWS] * velocity[:, COLUMNS])
        self.virial += self._summed(bins, virial)

    def _summed(self, bins: np.ndarray, values: np.ndarray) -> np.ndarray:
        size = len(self.mass)
        return np.stack([np.bincount(bins, column, size) for column in values.T], axis=1)

    def __add__(self, other: Self) -> Self:
        """Sums over the frames of both, such as of two files."""
        if self.counts != other.counts:
            raise ValueError(f"bins {self.counts} and {other.counts} do not match")
        sums = [a + b for a, b in zip(list(vars(self).values())[1:], list(vars(other).values())[1:], strict=True)]
        return type(self)(self.counts, *sums)

    def fields(self, units: UnitStyle) -> BinFields:
        """Return the means.

        Parameters
        ----------
        units : UnitStyle    of the script

        Notes
        -----
        A shift of all velocities changes the velocity alone (Galilean invariance); stress and pressure of the whole box
        are those that LAMMPS prints (tests/unit/data/test_bins.py).
        """
        volume = self.volume / len(self.mass)
        with np.errstate(invalid="ignore", divide="ignore"):
            velocity = self.momentum / self.mass[:, None]
            # sum m (v - V)(v - V) = sum m v v - M V V
            peculiar = self.flux - self.momentum[:, ROWS] * velocity[:, COLUMNS]
            trace = peculiar[:, ROWS == COLUMNS].sum(axis=1)
            temperature = units.kinetic_energy * trace / (3 * self.number * units.boltzmann)
            stress = (self.virial - units.kinetic_pressure * peculiar) / volume
        fields = BinFields(
            self.number / self.frames, units.mass_density * self.mass / volume, velocity, temperature, stress
        )
        return BinFields(*(values.reshape(*self.counts, *values.shape[1:]) for values in vars(fields).values()))


def add_frame(
    sums: BinSums,
    frame: Frame,
    units: UnitStyle,
    stress_columns: tuple[str, ...],
    has_kinetic: bool,
    masses: Mapping[int, float] | None = None,
) -> None:
    """Add the atoms of a dump.

    Parameters
    ----------
    sums : BinSums
    frame : Frame                    with vx vy vz, coordinates of any kind, and mass or type
    units : UnitStyle                of the script
    stress_columns : tuple of str    the six of `compute ID all stress/atom NULL [virial]` in LAMMPS's order
    has_kinetic : bool               whether they hold the kinetic part, as they do without `virial`
    masses : dict, optional          type -> mass, for a dump without masses

    Raises
    ------
    DataError    if a column, or the mass of a type, is missing
    """
    mass = _masses(frame, masses)
    velocity = frame.vectors(("vx", "vy", "vz"))
    virial = frame.vectors(stress_columns)[:, FROM_LAMMPS]
    if has_kinetic:
        virial = virial + units.kinetic_pressure * mass[:, None] * velocity[:, ROWS] * velocity[:, COLUMNS]
    sums.add(frame.box, frame.scaled(), mass, velocity, virial)


def _masses(frame: Frame, masses: Mapping[int, float] | None) -> np.ndarray:
    if "mass" in frame.columns or masses is None:
        return frame.vectors(("mass",))[:, 0]
    types, places = np.unique(frame.vectors(("type",))[:, 0], return_inverse=True)
    if missing := [int(kind) for kind in types if kind not in masses]:
        raise DataError(f"{frame.place}: holds atoms of type {missing[0]}, of which no mass is given; add it")
    return np.array([masses[int(kind)] for kind in types])[places]
