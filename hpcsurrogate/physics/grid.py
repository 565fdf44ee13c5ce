"""A periodic rectangular grid and its wavenumbers.

Legend: h = L / n spacing; k = 2 pi m / L wavenumber; arrays end in (x, y), half-spectra of `rfft2` in (kx, ky >= 0).
"""

import math
from functools import cached_property

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ShapeError


class Grid:
    """Uniform periodic grid in two dimensions.

    Parameters
    ----------
    shape : (int, int)          points along x and y, both even and at least 4
    lengths : (float, float)    domain [m]
    dtype : torch.dtype         float32 or float64, of coordinates and wavenumbers
    device : str

    Raises
    ------
    ShapeError    if a number of points is odd or below 4
    """

    def __init__(
        self,
        shape: tuple[int, int],
        lengths: tuple[float, float],
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ):
        if any(n < 4 or n % 2 for n in shape):
            raise ShapeError(f"grid {tuple(shape)}: give an even number of points of at least 4 along each axis")
        self.shape = (int(shape[0]), int(shape[1]))
        self.lengths = (float(lengths[0]), float(lengths[1]))
        self.spacing = (self.lengths[0] / self.shape[0], self.lengths[1] / self.shape[1])
        self.dtype = dtype
        self.device = torch.device(device)

    def _wavenumbers(self, axis: int, half: bool) -> Tensor:
        frequencies = torch.fft.rfftfreq if half else torch.fft.fftfreq
        k = 2 * math.pi * frequencies(self.shape[axis], d=self.spacing[axis], dtype=torch.float64)
        return k.to(device=self.device, dtype=self.dtype)

    @cached_property
    def kx(self) -> Tensor:
        """Signed wavenumbers along x, shape (nx, 1) [rad/m]."""
        return self._wavenumbers(0, half=False)[:, None]

    @cached_property
    def ky(self) -> Tensor:
        """Non-negative wavenumbers along y, shape (1, ny // 2 + 1) [rad/m]."""
        return self._wavenumbers(1, half=True)[None, :]

    @cached_property
    def k2(self) -> Tensor:
        """Squared wavenumber, shape (nx, ny // 2 + 1) [rad^2/m^2]."""
        return self.kx**2 + self.ky**2

    @cached_property
    def inverse_k2(self) -> Tensor:
        """1 / k^2 with zero for the mean, shape (nx, ny // 2 + 1) [m^2]."""
        return torch.where(self.k2 > 0, 1 / self.k2.clamp(min=torch.finfo(self.dtype).tiny), 0)

    @cached_property
    def resolved(self) -> Tensor:
        """Mask of the modes below the Nyquist frequency of both axes, shape (nx, ny // 2 + 1), bool."""
        nx, ny = self.shape
        mask = torch.ones(nx, ny // 2 + 1, dtype=torch.bool, device=self.device)
        mask[nx // 2, :] = False
        mask[:, ny // 2] = False
        return mask

    def coordinates(self, offset: tuple[float, float] = (0.0, 0.0)) -> tuple[Tensor, Tensor]:
        """Coordinates of the points shifted by `offset` cells: shapes (nx, 1) and (1, ny) [m]."""
        x, y = (
            (torch.arange(n, dtype=torch.float64, device=self.device) + shift) * h
            for n, shift, h in zip(self.shape, offset, self.spacing, strict=True)
        )
        return x.to(self.dtype)[:, None], y.to(self.dtype)[None, :]

    def to(self, dtype: torch.dtype, device: str | torch.device | None = None) -> "Grid":
        """The same grid with another precision or device."""
        return Grid(self.shape, self.lengths, dtype, self.device if device is None else device)

    def __repr__(self) -> str:
        return f"Grid(shape={self.shape}, lengths={self.lengths})"
