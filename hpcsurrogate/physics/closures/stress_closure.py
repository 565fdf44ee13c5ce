"""What every closure that models the SGS stress has in common: the acceleration is -div(tau)."""

import math

from torch import Tensor

from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.stress_operators import StressOperators


class StressClosure:
    """A closure given by its stress; children implement `stress`.

    Parameters
    ----------
    operators : StressOperators    derivatives of the host's layout
    delta : float [m]              filter width Delta

    Notes
    -----
    Conserves momentum to round-off, whatever the stress (tests/physics/test_closures.py).
    """

    def __init__(self, operators: StressOperators, delta: float) -> None:
        self.operators = operators
        self.delta = delta

    def stress(self, velocity_bcxy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the modelled tau_xx at centres, tau_xy at corners, tau_yy at centres.

        Parameters
        ----------
        velocity_bcxy : Tensor, shape (batch, 2, nx, ny) [m/s]

        Returns
        -------
        tuple of three Tensors, shape (batch, nx, ny) [m^2/s^2]
        """
        raise NotImplementedError

    def __call__(self, velocity_bcxy: Tensor) -> Tensor:
        """Return -div(tau), shape (batch, 2, nx, ny) [m/s^2], at the velocity's points."""
        return -self.operators.divergence(*self.stress(velocity_bcxy))


def mean_spacing(grid: Grid) -> float:
    """Return the geometric mean of the two spacings of a grid [m]."""
    return math.sqrt(grid.spacing[0] * grid.spacing[1])
