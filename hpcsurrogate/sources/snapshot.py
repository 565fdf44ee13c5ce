"""One instant of a flow, as every source yields it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Snapshot:
    """Velocity on the fine collocated grid at one time.

    Attributes
    ----------
    time : float           [s], counted from the first snapshot
    velocity : ndarray, shape (2, nx, ny) or (3, nx, ny, nz), float32 or float64    [m/s]
    """

    time: float
    velocity: np.ndarray
