"""Grids of two and three dimensions: wavenumbers, masks, coordinates, and where a layout puts its points."""

import math

import pytest
import torch

from hpcsurrogate.core.errors import ShapeError
from hpcsurrogate.physics.grid import Grid, stress_offset, velocity_offset

BOX = (2 * math.pi, 3 * math.pi, 4.0)


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 4)])
def test_wavenumbers_differentiate_waves_along_each_axis(shape):
    grid = Grid(shape, BOX[: len(shape)])
    axes = tuple(range(-len(shape), 0))
    for axis, (k, x, length) in enumerate(zip(grid.k, grid.coordinates(), grid.lengths, strict=True)):
        phase = (2 * math.pi / length * x).expand(shape)
        derivative_hat = 1j * k * torch.fft.rfftn(torch.sin(phase), dim=axes)
        derivative = torch.fft.irfftn(derivative_hat, s=shape, dim=axes)
        torch.testing.assert_close(derivative, 2 * math.pi / length * torch.cos(phase), rtol=0, atol=1e-13)
        assert k.shape[axis] == (shape[axis] if axis < len(shape) - 1 else shape[axis] // 2 + 1)


def test_spectral_masks_and_squares_in_three_dimensions():
    grid = Grid((6, 8, 4), BOX)
    assert grid.k2.shape == grid.resolved.shape == grid.inverse_k2.shape == (6, 8, 3)
    # Of 6, 8 and 3 modes along the axes, the one at the Nyquist frequency is not resolved.
    assert grid.resolved.sum() == 5 * 7 * 2
    kx, ky, kz = grid.k
    assert grid.k2[4, 5, 1] == kx[4] ** 2 + ky[0, 5] ** 2 + kz[0, 0, 1] ** 2
    assert grid.inverse_k2[0, 0, 0] == 0
    torch.testing.assert_close(grid.inverse_k2[1, 2, 1] * grid.k2[1, 2, 1], torch.ones((), dtype=torch.float64))


def test_coordinates_are_shifted_by_cells():
    grid = Grid((6, 8, 4), BOX)
    x, y, z = grid.coordinates((1, 0.5, 0))
    assert (x.shape, y.shape, z.shape) == ((6, 1, 1), (1, 8, 1), (1, 1, 4))
    assert (x[0].item(), y[0, 0].item(), z[0, 0, 0].item()) == pytest.approx((BOX[0] / 6, BOX[1] / 16, 0))


def test_a_layout_puts_velocities_on_faces_and_stresses_between_them():
    assert velocity_offset("staggered", 0, 2) == (1, 0.5)
    assert velocity_offset("staggered", 2, 3) == (0.5, 0.5, 1)
    assert stress_offset("staggered", 1, 1, 3) == (0.5, 0.5, 0.5)
    assert stress_offset("staggered", 0, 1, 2) == (1, 1)
    assert stress_offset("staggered", 0, 2, 3) == stress_offset("staggered", 2, 0, 3) == (1, 0.5, 1)
    assert velocity_offset("collocated", 1, 3) == stress_offset("collocated", 0, 1, 3) == (0, 0, 0)


def test_shapes_and_lengths_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="two or three of each"):
        Grid((8, 8, 8), BOX[:2])
    with pytest.raises(ShapeError, match="two or three of each"):
        Grid((8,), (1.0,))
    with pytest.raises(ShapeError, match="even number of points of at least 4"):
        Grid((8, 8, 2), BOX)
