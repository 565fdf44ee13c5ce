"""Closures that are no stress: none at all, and linear damping of the small scales."""

import torch
from torch import Tensor

from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.time_stepping import hyperviscous_rates


class NoClosure:
    """Adds nothing: the baseline of every comparison."""

    def __call__(self, velocity: Tensor) -> Tensor:
        """Return zeros, shape (batch, d, nx, ny[, nz]) [m/s^2]."""
        return torch.zeros_like(velocity)


class Hyperviscosity:
    """Damps every Fourier mode of all components at the rate r (k / kmax)^(2p), kmax = pi / h, h the largest spacing.

    Linear and translation-invariant, so it is the same operator on the collocated and the staggered layout,
    and keeps a divergence-free field divergence-free.

    Parameters
    ----------
    grid : Grid
    rate : float [1/s]    r; the acceleration is linear in it
    power : int           p
    """

    constant_power = 1

    def __init__(self, grid: Grid, rate: float, power: int) -> None:
        self.rate, self.power = rate, power
        self.spacing = grid.spacing
        self.shape, self.axes = grid.shape, tuple(range(-grid.num_dims, 0))
        self.damping = -self.damping_rates(grid)

    def damping_rates(self, grid: Grid) -> Tensor:
        """Return the rate of each mode, shape of the half-spectrum of the grid [1/s].

        A host takes it into its linear term (`with_damping`), where it costs nothing.
        """
        return hyperviscous_rates(grid.k2, self.spacing, self.rate, self.power)

    def __call__(self, velocity: Tensor) -> Tensor:
        """Return the damping of each mode, shape (batch, d, nx, ny[, nz]) [m/s^2]."""
        coefficients = torch.fft.rfftn(velocity, dim=self.axes)
        return torch.fft.irfftn(self.damping * coefficients, s=self.shape, dim=self.axes)
