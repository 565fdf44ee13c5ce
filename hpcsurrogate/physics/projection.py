"""The divergence-free part of a vector field on a periodic grid of two or three dimensions, in Fourier space.

Legend: d symbol of the discrete divergence, div u = d . u for each mode, so that P u = u - conj(d) (d . u) / |d|^2.
"""

import torch
from torch import Tensor

from hpcsurrogate.physics.finite_volume import WEIGHTS
from hpcsurrogate.physics.grid import Grid


class DivergenceProjection:
    """Projection on fields whose discrete divergence vanishes.

    Parameters
    ----------
    grid : Grid
    order : int or None    2, 4 or 6: differences between the faces of a staggered layout; None: exact derivatives on a
                           collocated one

    Notes
    -----
    Keeps the mean, is its own square, and is the finite-volume host's projection in two dimensions
    (tests/physics/test_projection.py).
    """

    def __init__(self, grid: Grid, order: int | None):
        self.grid, self._axes = grid, tuple(range(-grid.num_dims, 0))
        self._divergence = _derivative_symbols(grid) if order is None else _difference_symbols(grid, order)
        norm2 = sum(d.abs() ** 2 for d in self._divergence)
        self._inverse_norm2 = torch.where(norm2 > 0, 1 / torch.where(norm2 > 0, norm2, 1.0), 0.0)

    def __call__(self, vector: Tensor) -> Tensor:
        """Divergence-free part of a field (b, d, nx, ny[, nz]) at the layout's velocity points; same shape and unit."""
        vector_hat = torch.fft.rfftn(vector, dim=self._axes)
        pairs = list(zip(self._divergence, vector_hat.unbind(1), strict=True))
        potential = sum(d * component for d, component in pairs) * self._inverse_norm2
        projected = torch.stack([component - d.conj() * potential for d, component in pairs], dim=1)
        return torch.fft.irfftn(projected, s=self.grid.shape, dim=self._axes)


def _derivative_symbols(grid: Grid) -> list[Tensor]:
    """i k along each axis; the Nyquist mode has no derivative on the grid."""
    symbols = []
    for axis, k in enumerate(grid.k):
        below = k.clone()
        below.select(axis, grid.shape[axis] // 2).zero_()
        symbols.append(1j * below)
    return symbols


def _difference_symbols(grid: Grid, order: int) -> list[Tensor]:
    """Differences from the faces, where the components lie, to the centres, half a cell before them."""
    symbols = []
    for k, h in zip(grid.k, grid.spacing, strict=True):
        difference = sum(w * 2j / (n * h) * torch.sin(n * k * h / 2) for n, w in WEIGHTS[order].items())
        symbols.append(difference * torch.exp(-0.5j * k * h))
    return symbols
