"""Closures that are no stress: none at all, and linear damping of the small scales."""

import math

import torch
from torch import Tensor

from hpcsurrogate.physics.grid import Grid


class NoClosure:
    """Adds nothing: the baseline of every comparison."""

    def __call__(self, velocity_bcxy: Tensor) -> Tensor:
        """Return zeros, shape (batch, 2, nx, ny) [m/s^2]."""
        return torch.zeros_like(velocity_bcxy)


class Hyperviscosity:
    """Damps every Fourier mode of both components at the rate r (k / kmax)^(2p), kmax = pi / h, h the larger spacing.

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
        self.shape = grid.shape
        highest_wavenumber = math.pi / max(grid.spacing)
        self.damping = -rate * (grid.k2 / highest_wavenumber**2) ** power

    def __call__(self, velocity_bcxy: Tensor) -> Tensor:
        """Return the damping of each mode, shape (batch, 2, nx, ny) [m/s^2]."""
        return torch.fft.irfft2(self.damping * torch.fft.rfft2(velocity_bcxy), s=self.shape)
