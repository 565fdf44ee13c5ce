"""What every closure that models the SGS stress has in common: the acceleration is -div(tau)."""

import math

from torch import Tensor

from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.stress_operators import StressOperators

# du_i/dx_j row by row, where the operators put it: diagonal at centres, the others on their edges.
VelocityGradient = tuple[Tensor, ...]


class StressClosure:
    """A closure given by its stress, in two or three dimensions; children implement `stress`.

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

    def stress(self, velocity: Tensor) -> tuple[Tensor, ...]:
        """Return the modelled tau_xx, tau_xy[, tau_xz], tau_yy[, tau_yz, tau_zz].

        Parameters
        ----------
        velocity : Tensor, shape (batch, d, nx, ny[, nz]) [m/s]

        Returns
        -------
        tuple of d(d+1)/2 Tensors, shape (batch, nx, ny[, nz]) [m^2/s^2]    diagonal at centres, others on their edges
        """
        raise NotImplementedError

    def __call__(self, velocity: Tensor) -> Tensor:
        """Return -div(tau), shape (batch, d, nx, ny[, nz]) [m/s^2], at the velocity's points."""
        return -self.operators.divergence(self.stress(velocity))


def mean_spacing(grid: Grid) -> float:
    """Return the geometric mean of the spacings of a grid [m]."""
    return math.prod(grid.spacing) ** (1 / grid.num_dims)
