"""Fourier transforms of the three-dimensional spectral solver, and Fourier modes moved between grids.

Legend: M kept columns along kz; a coefficient field has shape (..., nx, ny, M) and the normalisation of `rfftn`, a
physical field (..., nx, ny, nz). In memory kz runs slowest and ky fastest, as an FFT over x and y leaves its result;
sums over coefficients in mixed orders cost three times.

A transform is what a solver needs to know of where its field lies: here on this process, in slab_transform.py on many.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hpcsurrogate.physics.grid import Grid


class LocalTransform:
    """Transforms of whole fields on this process.

    Parameters
    ----------
    grid : Grid          of three dimensions
    num_columns : int    M; what `to_spectral` drops and `to_physical` takes as zero: the columns from M on

    Attributes
    ----------
    k : tuple of three Tensors    wavenumbers of the coefficients held here, shaped to broadcast against them [rad/m]

    Notes
    -----
    One pass of an FFT over kz never meets the dropped columns along x and y. The two methods are each other's inverse
    on fields without the dropped columns (tests/physics/test_spectral_3d.py).
    """

    def __init__(self, grid: Grid, num_columns: int):
        self.grid, self.num_columns = grid, num_columns
        self.k = (*grid.k[:2], grid.k[2][..., :num_columns])

    def to_physical(self, fields_hat: Sequence[Tensor]) -> list[Tensor]:
        """Coefficient fields (..., nx, ny, M) -> physical fields (..., nx, ny, nz) held here, one by one."""
        return [
            torch.fft.irfft(torch.fft.ifftn(field_hat, dim=(-3, -2)), n=self.grid.shape[2], dim=-1)
            for field_hat in fields_hat
        ]

    def to_spectral(self, fields: Sequence[Tensor]) -> list[Tensor]:
        """Physical fields -> coefficient fields; the inverse."""
        # The FFT over x and y reads the columns it needs where the real FFT left them: dropping them takes no copy.
        return [
            torch.fft.fftn(torch.fft.rfft(field, dim=-1).narrow(-1, 0, self.num_columns), dim=(-3, -2))
            for field in fields
        ]

    def sum(self, value: Tensor) -> Tensor:
        """Sum over all processes that share the field."""
        return value

    def max(self, value: Tensor) -> Tensor:
        """Largest over all processes that share the field."""
        return value


def largest_wave(points: int, dealias: str) -> int:
    """Largest number of waves along an axis that a dealiasing rule, "two_thirds" or "shift", keeps."""
    return (points - 1) // (3 if dealias == "two_thirds" else 2)


def spectrum_order(field_hat: Tensor) -> Tensor:
    """The same coefficients (..., nx, ny, M) with kz slowest and ky fastest in memory."""
    return field_hat.movedim(-1, -3).contiguous().movedim(-3, -1)


def mode_numbers(k: Sequence[Tensor], lengths: Sequence[float]) -> list[Tensor]:
    """Number of waves across the domain of each wavenumber, one int64 Tensor (n,) an axis."""
    return [
        (axis_k.double() * (length / (2 * math.pi))).round().long().flatten()
        for axis_k, length in zip(k, lengths, strict=True)
    ]


def place_modes(half_spectrum: Tensor, shape: Sequence[int], k: Sequence[Tensor], lengths: Sequence[float]) -> Tensor:
    """Coefficients of a field of one grid where another grid, or a part of it, holds the same modes; zero elsewhere.

    Parameters
    ----------
    half_spectrum : Tensor, shape (..., nx, ny, columns)    of a grid of `shape`, nz // 2 columns or fewer count
    shape : three ints                                      points of that grid
    k : three Tensors                                       wavenumbers of the target [rad/m]
    lengths : three floats                                  domain of both [m]

    Returns
    -------
    Tensor, shape (..., and one axis for each of k), not rescaled, kz slowest in memory. Nyquist modes are dropped.
    """
    targets, sources = [], []
    limits = [n // 2 for n in shape]
    limits[2] = min(limits[2], half_spectrum.shape[-1])
    for numbers, n, limit in zip(mode_numbers(k, lengths), shape, limits, strict=True):
        here = torch.nonzero(numbers.abs() < limit).flatten()
        targets.append(here)
        sources.append(numbers[here] % n)
    sizes = [axis_k.numel() for axis_k in k]
    placed = half_spectrum.new_zeros(*half_spectrum.shape[:-3], sizes[2], sizes[0], sizes[1]).movedim(-3, -1)
    placed[(..., *torch.meshgrid(*targets, indexing="ij"))] = half_spectrum[
        (..., *torch.meshgrid(*sources, indexing="ij"))
    ]
    return placed
