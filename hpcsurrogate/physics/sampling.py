"""Exact ways from one periodic grid to another: padding to a wider one, and small real matrices that filter and sample.

Legend: m mode number, k = 2 pi m / L; K highest mode of a field, W highest mode that is wanted of a product of two.
A field on a grid of N points is a trigonometric polynomial of modes below N / 2, so its value, filtered value or
derivative at any point is a weighted sum of its N values along each axis: one matrix an axis, and grids need not
divide each other.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hpcsurrogate.physics.grid import Grid

# For each axis: where in the coarse cell (in cells), and whether the derivative along that axis is wanted.
Place = tuple[tuple[float, bool], ...]


def place(offset: Sequence[float], derivative: int | None = None) -> Place:
    """The points of a coarse grid shifted by `offset` cells; with `derivative`, of the derivative along that axis."""
    return tuple((shift, axis == derivative) for axis, shift in enumerate(offset))


def product_points(num_modes: int, wanted: int) -> int:
    """Points on which a product of two fields of modes up to `num_modes` has its modes up to `wanted` free of aliases.

    The product has modes up to 2 K; on M points, 2 K comes back as M - 2 K, which must lie above W. The number
    returned has no prime factor above 7, which suits the FFT.
    """
    points = 2 * num_modes + wanted + 1
    while not _suits_fft(points):
        points += 1
    return points


def _suits_fft(number: int) -> bool:
    for factor in (2, 3, 5, 7):
        while number % factor == 0:
            number //= factor
    return number == 1


def widen(coefficients: Tensor, transfers: Sequence[Tensor], wide_shape: Sequence[int]) -> Tensor:
    """Filter a field and evaluate it on another grid.

    Parameters
    ----------
    coefficients : Tensor, complex, shape (b, half-spectrum), of `rfftn(..., norm="forward")`
    transfers : Tensor for each axis, real, shape (K + 1,)    factors of the modes 0 to K; what lies above is dropped
    wide_shape : int for each axis, at least 2 K + 1

    Returns
    -------
    Tensor, real, shape (b, *wide_shape), unit of the field
    """
    num_dims = len(wide_shape)
    padded = coefficients.new_zeros(*coefficients.shape[:-num_dims], *wide_shape[:-1], wide_shape[-1] // 2 + 1)
    # Along all axes but the last the negative modes stand at the end.
    signs = [(1, -1) if len(transfer) > 1 else (1,) for transfer in transfers[:-1]]
    for block in itertools.product(*signs, (1,)):
        modes = (..., *(_modes(sign, len(transfer)) for sign, transfer in zip(block, transfers, strict=True)))
        source = coefficients[modes]
        for axis, (sign, transfer) in enumerate(zip(block, transfers, strict=True)):
            factors = transfer if sign > 0 else transfer[1:].flip(0)
            source = source * factors.reshape([-1] + [1] * (num_dims - 1 - axis))
        padded[modes] = source
    return torch.fft.irfftn(padded, s=tuple(wide_shape), dim=tuple(range(-num_dims, 0)), norm="forward")


def _modes(sign: int, number: int) -> slice:
    """Where the modes 0 to number - 1, or their negatives without 0, stand along an axis."""
    return slice(0, number) if sign > 0 else slice(1 - number, None)


class Sampler:
    """Filters fields of one grid and samples them, or their derivatives, at points of a coarse grid.

    Parameters
    ----------
    shape : tuple of int                  points of the fields to be sampled, over the box of `coarse`
    coarse : Grid                         its dtype is that of the fields
    transfers : Tensor for each axis      real, float64, shape (K + 1,): factors of the modes 0 to K, K below half the
                                          points; modes above are cut off

    Notes
    -----
    Exact for every mode up to K, whatever the two grids (tests/physics/test_filters.py).
    """

    def __init__(self, shape: Sequence[int], coarse: Grid, transfers: Sequence[Tensor]):
        self.shape, self.coarse, self.transfers = tuple(shape), coarse, tuple(transfers)
        self._matrices: dict[tuple[int, float, bool], Tensor] = {}

    def _matrix(self, axis: int, offset: float, derivative: bool) -> Tensor:
        """Weights (coarse points, points) of the values along one axis."""
        if (axis, offset, derivative) not in self._matrices:
            weights = self._weights(axis, offset, derivative).to(self.coarse.device, self.coarse.dtype)
            self._matrices[axis, offset, derivative] = weights
        return self._matrices[axis, offset, derivative]

    def _weights(self, axis: int, offset: float, derivative: bool) -> Tensor:
        transfer = self.transfers[axis].to("cpu", torch.float64)
        modes = torch.arange(len(transfer), dtype=torch.float64)
        # Every mode but the mean stands for a pair of opposite ones.
        factors = torch.where(modes > 0, 2.0, 1.0) * transfer / self.shape[axis]
        at_coarse = _phases(modes, offset, self.coarse.shape[axis])
        at_fine = _phases(modes, 0.0, self.shape[axis])
        if derivative:
            factors = factors * modes * (2 * math.pi / self.coarse.lengths[axis])
            # d/dx cos(k (x - x')) = k (cos(k x) sin(k x') - sin(k x) cos(k x')).
            return (at_coarse.cos() * factors) @ at_fine.sin().T - (at_coarse.sin() * factors) @ at_fine.cos().T
        return (at_coarse.cos() * factors) @ at_fine.cos().T + (at_coarse.sin() * factors) @ at_fine.sin().T

    def sample(self, field: Tensor, places: Sequence[Place]) -> list[Tensor]:
        """Filtered values of `field` at several places.

        Parameters
        ----------
        field : Tensor, shape (b, *shape)
        places : sequence of Place    those that begin with the same points along x share the work for that axis

        Returns
        -------
        list of Tensor, shape (b, *coarse.shape)
        """
        partial: dict[Place, Tensor] = {(): field}
        for wanted in places:
            for axis, (offset, derivative) in enumerate(wanted):
                if wanted[: axis + 1] not in partial:
                    matrix = self._matrix(axis, offset, derivative)
                    partial[wanted[: axis + 1]] = _contract(matrix, partial[wanted[:axis]], axis - len(wanted))
        return [partial[wanted] for wanted in places]


def _phases(modes: Tensor, offset: float, num_points: int) -> Tensor:
    """k x at the points (i + offset) h of an axis, reduced to one period before round-off can grow, (points, modes)."""
    points = torch.arange(num_points, dtype=torch.float64) + offset
    return 2 * math.pi / num_points * torch.remainder(points[:, None] * modes[None, :], num_points)


def _contract(matrix: Tensor, field: Tensor, axis: int) -> Tensor:
    """Matrix times field along `axis` (negative, from the end), as one product of matrices."""
    if axis == -1:
        return field @ matrix.T
    rest = field.shape[axis + 1 :]
    return (matrix @ field.flatten(axis + 1)).unflatten(-1, rest)
