"""A periodic rectangular grid of two or three dimensions, its wavenumbers, and where a layout puts its points.

Legend: h = L / n spacing; k = 2 pi m / L wavenumber; arrays end in (x, y[, z]), half-spectra of `rfftn` hold only the
non-negative wavenumbers of their last axis.
"""

import math
from functools import cached_property

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ShapeError


def velocity_offset(layout: str, component: int, num_dims: int) -> tuple[float, ...]:
    """Where a velocity component lies in its cell, in cells, along each axis.

    Parameters
    ----------
    layout : str        "collocated": at the grid points; "staggered": at the cell's upper face across that axis
    component : int     0, 1 or 2
    num_dims : int      2 or 3

    Returns
    -------
    tuple of float, length num_dims, for `Grid.coordinates`
    """
    return _offset(layout, {component}, num_dims)


def stress_offset(layout: str, row: int, column: int, num_dims: int) -> tuple[float, ...]:
    """Where a tensor's component lies: on a staggered layout the diagonal at centres, xy at ((i+1)h, (j+1)h[, ...])."""
    return _offset(layout, set() if row == column else {row, column}, num_dims)


def _offset(layout: str, upper: set[int], num_dims: int) -> tuple[float, ...]:
    if layout == "collocated":
        return (0.0,) * num_dims
    return tuple(1.0 if axis in upper else 0.5 for axis in range(num_dims))


class Grid:
    """Uniform periodic grid in two or three dimensions.

    Parameters
    ----------
    shape : tuple of int        points along x, y[, z], all even and at least 4
    lengths : tuple of float    domain, one length for each axis [m]
    dtype : torch.dtype         float32 or float64, of coordinates and wavenumbers
    device : str

    Raises
    ------
    ShapeError    if a number of points is odd or below 4, or there are not two or three axes with a length each
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        lengths: tuple[float, ...],
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ):
        if any(n < 4 or n % 2 for n in shape):
            raise ShapeError(f"grid {tuple(shape)}: give an even number of points of at least 4 along each axis")
        if len(shape) not in (2, 3) or len(lengths) != len(shape):
            raise ShapeError(f"grid {tuple(shape)} in a domain of {tuple(lengths)}: give two or three of each")
        self.shape = tuple(int(n) for n in shape)
        self.lengths = tuple(float(length) for length in lengths)
        self.spacing = tuple(length / n for length, n in zip(self.lengths, self.shape, strict=True))
        self.dtype = dtype
        self.device = torch.device(device)

    @property
    def num_dims(self) -> int:
        """Number of axes, 2 or 3."""
        return len(self.shape)

    def along(self, axis: int, values: Tensor) -> Tensor:
        """One value for each point of an axis, shaped to broadcast against fields of this grid."""
        return values.reshape([-1 if other == axis else 1 for other in range(self.num_dims)])

    @cached_property
    def k(self) -> tuple[Tensor, ...]:
        """Wavenumbers along each axis, shaped to broadcast against a half-spectrum; the last not negative [rad/m]."""
        signed, last = range(self.num_dims - 1), self.num_dims - 1
        frequencies = [torch.fft.fftfreq(self.shape[a], d=self.spacing[a], dtype=torch.float64) for a in signed]
        frequencies.append(torch.fft.rfftfreq(self.shape[last], d=self.spacing[last], dtype=torch.float64))
        return tuple(
            self.along(axis, 2 * math.pi * f).to(device=self.device, dtype=self.dtype)
            for axis, f in enumerate(frequencies)
        )

    @property
    def kx(self) -> Tensor:
        """Signed wavenumbers along x, shape (nx, 1[, 1]) [rad/m]."""
        return self.k[0]

    @property
    def ky(self) -> Tensor:
        """Wavenumbers along y: non-negative, (1, ny // 2 + 1), in 2-D; signed, (1, ny, 1), in 3-D [rad/m]."""
        return self.k[1]

    @cached_property
    def k2(self) -> Tensor:
        """Squared wavenumber, shape of the half-spectrum [rad^2/m^2]."""
        return sum(k**2 for k in self.k)

    @cached_property
    def inverse_k2(self) -> Tensor:
        """1 / k^2 with zero for the mean, shape of the half-spectrum [m^2]."""
        return torch.where(self.k2 > 0, 1 / self.k2.clamp(min=torch.finfo(self.dtype).tiny), 0)

    @cached_property
    def resolved(self) -> Tensor:
        """Mask of the modes below the Nyquist frequency of every axis, shape of the half-spectrum, bool."""
        mask = torch.ones_like(self.k2, dtype=torch.bool)
        for axis, n in enumerate(self.shape):
            mask.select(axis, n // 2).fill_(False)
        return mask

    def coordinates(self, offset: tuple[float, ...] | None = None) -> tuple[Tensor, ...]:
        """Coordinates of the points shifted by `offset` cells, one Tensor an axis, shaped to broadcast [m]."""
        offset = (0.0,) * self.num_dims if offset is None else offset
        return tuple(
            self.along(axis, (torch.arange(n, dtype=torch.float64, device=self.device) + shift) * h).to(self.dtype)
            for axis, (n, shift, h) in enumerate(zip(self.shape, offset, self.spacing, strict=True))
        )

    def to(self, dtype: torch.dtype, device: str | torch.device | None = None) -> "Grid":
        """The same grid with another precision or device."""
        return Grid(self.shape, self.lengths, dtype, self.device if device is None else device)

    def __repr__(self) -> str:
        return f"Grid(shape={self.shape}, lengths={self.lengths})"
