"""Atoms at one step of a run, whatever file they come from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.lammps_box import Box

# Names of the three coordinates -> whether along the edges, whether without wrapping.
COORDINATES = {
    ("x", "y", "z"): (False, False),
    ("xs", "ys", "zs"): (True, False),
    ("xu", "yu", "zu"): (False, True),
    ("xsu", "ysu", "zsu"): (True, True),
}
IMAGES = ("ix", "iy", "iz")


@dataclass(frozen=True)
class Frame:
    """Atoms at one step, in the order of the file.

    Attributes
    ----------
    place : str              path, and line or step, at which the frame begins, for messages
    step : int
    time : float or None     [time] where the dump says it
    units : str or None      style of units where the dump says it, at its beginning
    box : Box
    num_atoms : int
    columns : dict           name -> ndarray, shape (num_atoms,), int64 if whole by its name, else float64, in the units
                             of the script
    """

    place: str
    step: int
    time: float | None
    units: str | None
    box: Box
    num_atoms: int
    columns: dict[str, np.ndarray]

    def vectors(self, names: Sequence[str]) -> np.ndarray:
        """Return columns side by side, (num_atoms, len(names)).

        Raises
        ------
        DataError    if one is not there
        """
        if missing := [name for name in names if name not in self.columns]:
            raise DataError(
                f"{self.place}: has no column {missing[0]} but {' '.join(self.columns)}; add it to the dump"
            )
        return np.stack([self.columns[name] for name in names], axis=1)

    def scaled(self) -> np.ndarray:
        """Return coordinates along the edges of the box, each atom's image within it, (num_atoms, 3).

        Raises
        ------
        DataError    if the dump has no three coordinates of a kind
        """
        coordinates, _ = self._coordinates()
        return self.box.wrapped(coordinates)

    def positions(self) -> np.ndarray:
        """Return positions within the box, (num_atoms, 3) [length]. Raises DataError as `scaled`."""
        return self.box.unscaled(self.scaled())

    def unwrapped(self) -> np.ndarray:
        """Return positions that do not jump when an atom leaves the box, (num_atoms, 3) [length].

        Raises
        ------
        DataError    if the dump has neither unwrapped coordinates nor all image flags
        """
        coordinates, is_unwrapped = self._coordinates()
        if not is_unwrapped:
            coordinates = coordinates + self.vectors(IMAGES)
        return self.box.unscaled(coordinates)

    def _coordinates(self) -> tuple[np.ndarray, bool]:
        for names, (along_edges, is_unwrapped) in COORDINATES.items():
            if all(name in self.columns for name in names):
                found = self.vectors(names)
                return found if along_edges else self.box.scaled(found), is_unwrapped
        raise DataError(
            f"{self.place}: has no x y z, nor xs, xu or xsu, but {' '.join(self.columns)}; add them to the dump"
        )
