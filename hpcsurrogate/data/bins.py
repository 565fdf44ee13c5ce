"""Fields from atoms: density, velocity, temperature and stress in slices of equal width across one axis.

What adds up is kept (number, mass, momentum, energy, virial), averaged over stretches of time of equal length; fields
are functions of the sums. All peculiar motion is relative to the mean velocity of the slice over the whole run.

The stress is that of Irving and Kirkwood (J. Chem. Phys. 18, 817, 1950, doi:10.1063/1.1747782) but for where a pair's
virial lies: half at each of its two atoms, as `compute stress/atom` of LAMMPS has it, where theirs is spread evenly
over the line between the two (the zeroth-order form, IK1, of Todd, Evans and Daivis, Phys. Rev. E 52, 1627, 1995,
doi:10.1103/PhysRevE.52.1627). Total and centre are the same; the mean square distance from the centre, for a pair d
apart across the slices, is d^2/4 instead of d^2/12. The two stresses therefore differ by the second derivative of
sum(virial d^2)/12 per volume, and by higher even derivatives. So they agree in a homogeneous fluid, and wherever
gradients are small over the range of the force, as in the middle of a wide channel; where the fluid lies in layers they
do not, and the divergence of this stress is not the force there.

Legend: t stretches of time; n slices; tensors are xx, xy, xz, yy, yz, zz.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from hpcsurrogate.sources.lammps_units import UnitStyle

ROWS, COLUMNS = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2])  # of xx, xy, xz, yy, yz, zz
SUMS = ("number", "mass", "momentum", "heat", "stress")
LEAST_FILLING = 0.1  # of the fullest slice: what a stray atom touches now and then holds no fluid


@dataclass(frozen=True)
class SliceFields:
    """Means over a time; not a number where a slice was empty.

    Attributes
    ----------
    axis : int                               across which the slices lie: 0, 1, 2
    centres : ndarray, shape (n,)            [length] along it
    number : ndarray, shape (n,)             of atoms per volume
    density : ndarray, shape (n,)            of mass, in the style's unit
    velocity : ndarray, shape (n, 3)         of the centre of mass
    temperature : ndarray, shape (n,)        of the motion relative to that, three degrees of freedom an atom
    stress : ndarray, shape (n, 6)           Cauchy's, positive in tension: virial part, minus the flux of momentum
                                             relative to the slice's own velocity
    """

    axis: int
    centres: np.ndarray
    number: np.ndarray
    density: np.ndarray
    velocity: np.ndarray
    temperature: np.ndarray
    stress: np.ndarray

    def gradient(self) -> np.ndarray:
        """Derivative of the velocity along the axis by central differences, exact for parabolas.

        Returns
        -------
        ndarray, shape (n, 3) [1/time]    not a number in the first and the last slice
        """
        found = np.full(self.velocity.shape, np.nan)
        found[1:-1] = (self.velocity[2:] - self.velocity[:-2]) / (self.centres[2:] - self.centres[:-2])[:, None]
        return found


@dataclass(frozen=True)
class Slices:
    """What adds up, per volume, as means over stretches of time of equal length, one after the other.

    Attributes
    ----------
    units : UnitStyle
    axis : int                                  across which the slices lie: 0, 1, 2
    centres : ndarray, shape (n,)               [length] along it, evenly spaced
    number : ndarray, shape (t, n)              [1/length^3] atoms
    mass : ndarray, shape (t, n)                [mass/length^3]
    momentum : ndarray, shape (t, n, 3)         [mass velocity/length^3]
    heat : ndarray, shape (t, n)                [temperature/length^3] number times the temperature of all motion, the
                                                flow's too
    stress : ndarray, shape (t, n, 6)           [pressure] virial part, minus the flux of all momentum
    """

    units: UnitStyle
    axis: int
    centres: np.ndarray
    number: np.ndarray
    mass: np.ndarray
    momentum: np.ndarray
    heat: np.ndarray
    stress: np.ndarray

    def _sums(self, change: Callable[[np.ndarray], np.ndarray]) -> Self:
        return replace(self, **{name: change(getattr(self, name)) for name in SUMS})

    def at(self, slices: np.ndarray) -> Self:
        """Return some slices, chosen by a mask or by their numbers."""
        return replace(self._sums(lambda values: values[:, slices]), centres=self.centres[slices])

    def blocks(self, count: int, discard: float = 0.0) -> Self:
        """Average stretches of time to a few of equal length.

        Parameters
        ----------
        count : int                   of blocks
        discard : float, optional     share of the stretches that is left out first; what does not fill a block follows

        Returns
        -------
        Slices    of `count` stretches

        Raises
        ------
        ValueError    if there are fewer stretches than blocks
        """
        first = int(discard * len(self.number))
        length = (len(self.number) - first) // count
        if length == 0:
            raise ValueError(f"{len(self.number) - first} averages do not make {count} blocks")
        kept = slice(len(self.number) - length * count, None)
        return self._sums(lambda values: values[kept].reshape(count, length, *values.shape[1:]).mean(1))

    def fields(self) -> SliceFields:
        """Return the fields over the whole time.

        Notes
        -----
        A moving frame changes the velocity alone; stress and temperature of a fluid in one slice are those that LAMMPS
        prints (tests/unit/data/test_bins.py).
        """
        number, mass, momentum, heat, stress = (
            values.mean(0) for values in (self.number, self.mass, self.momentum, self.heat, self.stress)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            velocity = momentum / mass[:, None]
            # sum m (v - V)(v - V) = sum m v v - M V V
            flow = momentum[:, ROWS] * velocity[:, COLUMNS]
            temperature = (heat - self.units.temperature * flow[:, ROWS == COLUMNS].sum(1) / 3) / number
        return SliceFields(
            self.axis, self.centres, number, self.units.density * mass, velocity, temperature,
            stress + self.units.pressure * flow,
        )  # fmt: skip

    def estimate(self, quantity: Callable[[SliceFields], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return a quantity over the whole time, and its standard error.

        The error is the jackknife's, from all stretches but each: fields are no linear functions of the sums. It is too
        small unless stretches are long beside the correlation time; see `blocks`.
        """
        count = len(self.number)
        without = [
            quantity(self._sums(lambda values, left_out=left_out: np.delete(values, left_out, 0)).fields())
            for left_out in range(count)
        ]
        return quantity(self.fields()), np.sqrt((count - 1) * np.var(without, axis=0))


def filled_slices(filling: np.ndarray) -> np.ndarray:
    """Which slices hold fluid, by the number of atoms in each, shape (n,), bool.

    Raises
    ------
    ValueError    if they are not one row
    """
    filled = filling > LEAST_FILLING * filling.max()
    if (np.diff(np.flatnonzero(filled)) != 1).any():
        raise ValueError("the fluid does not fill a row of slices")
    return filled


def inner_slices(centres: np.ndarray, wall_layer: float) -> np.ndarray:
    """Which slices of a fluid are at least so far from its outermost ones' edges, shape (n,), bool."""
    half = 0.5 * (centres[1] - centres[0])
    low, high = centres[0] - half, centres[-1] + half
    # A slice belongs to the layer by its centre.
    return (centres - low >= wall_layer) & (high - centres >= wall_layer)
