"""The two runs of molecular dynamics in a channel: their profiles, and where a continuum's walls stand.

Legend: y across the channel; u velocity along the walls; all in the units of the runs.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.bins import filled_slices, inner_slices
from hpcsurrogate.sources.lammps_chunks import read_chunk_averages

COLUMNS = ("Coord1", "Ncount", "density/number", "vx", "heat")  # heat: temperature of the motion along z
NUM_BLOCKS = 8  # of a run, of which standard errors are taken


@dataclass(frozen=True)
class Profile:
    """What `fix ave/chunk` left of a channel, averaged over equal blocks of the run.

    Attributes
    ----------
    y : ndarray, shape (n,)                 centres of the slices that hold fluid
    density, velocity, temperature : ndarray, shape (blocks, n)
    """

    y: np.ndarray
    density: np.ndarray
    velocity: np.ndarray
    temperature: np.ndarray

    def inner(self, wall_layer: float) -> np.ndarray:
        """Which slices are at least so far from the outermost fluid, shape (n,), bool."""
        return inner_slices(self.y, wall_layer)


def read_profile(path: Path) -> Profile:
    """Read the profile of a channel run.

    Raises
    ------
    DataError    if the file is missing or damaged, lacks a column, or holds too few frames or slices
    """
    chunks = read_chunk_averages(path)
    if len(chunks.steps) < NUM_BLOCKS:
        raise DataError(
            f"{path}: {len(chunks.steps)} frames are too few for {NUM_BLOCKS} blocks; give the run more steps"
        )
    y, count, density, velocity, temperature = (chunks.column(name) for name in COLUMNS)
    try:
        fluid = filled_slices(count.mean(0))
    except ValueError as error:
        raise DataError(f"{path}: {error}; see configs/lammps/channel.lmp") from None
    if fluid.sum() < NUM_BLOCKS:
        raise DataError(f"{path}: {fluid.sum()} slices hold fluid, too few; see configs/lammps/channel.lmp")
    length = len(chunks.steps) // NUM_BLOCKS

    def blocks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        shape = (NUM_BLOCKS, length, -1)
        values, weights = (part[-NUM_BLOCKS * length :, fluid].reshape(shape) for part in (values, weights))
        return (values * weights).sum(1) / weights.sum(1)

    return Profile(
        y[0, fluid], blocks(density, np.ones_like(count)), blocks(velocity, count), blocks(temperature, count)
    )


def find_walls(couette: Profile, speed: float, wall_layer: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where the velocity of the middle reaches -speed and +speed, and the standard error of both, (2,) each.

    Raises
    ------
    DataError    if the fluid does not follow the walls
    """
    inner = couette.inner(wall_layer)
    blocks = couette.velocity[:, inner]
    found = []
    # Of the mean, and for its error of all but each block (jackknife): one block is too noisy to divide by.
    for velocity in (blocks.mean(0), *((blocks.sum(0) - blocks) / (NUM_BLOCKS - 1))):
        slope, offset = np.polyfit(couette.y[inner], velocity, 1)
        found.append(((-speed - offset) / slope, (speed - offset) / slope) if slope > 0 else (np.nan, np.nan))
    if not np.isfinite(found).all():
        raise DataError("the fluid of the Couette run does not follow its walls; give it more steps or faster walls")
    return np.array(found[0]), np.sqrt((NUM_BLOCKS - 1) * np.var(found[1:], axis=0))
