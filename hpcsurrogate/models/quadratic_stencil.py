"""Products of learned stencils: a small closure of second degree in the velocity, exactly D4-equivariant.

    a = A * u, b = B * u          (stencils on the staggered velocity, 8 orientations each)
    p = (a b, |a| b)              (the advective error of a discrete scheme is a sum of products; |a| b dissipates)
    force = D * (V p) / h         (few mixed maps; stencils whose weights sum to zero: momentum is conserved)

Legend: * periodic correlation; channels = learned stencil pairs, each in the 8 orientations of the square (a regular
representation); h = grid spacing [m]. Scaling the velocity by c > 0 scales the force by c^2, so no normalisation is
needed, and there is no exponential or division that could trap inside a host.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsurrogate.models.symmetry import PAIR_SIZE, orientation_matrix, relative_table


class QuadraticStencilNet(nn.Module):
    """Velocity on a staggered grid in, acceleration on the same points out, both physical.

    Parameters
    ----------
    spacing : float           grid spacing h, equal along x and y [m]
    channels : int            learned pairs of stencils; 16 times as many products
    output_channels : int     learned output stencils; 8 times as many mixed maps reach them

    Notes
    -----
    Equivariant under rotations by 90 degrees, reflections and translations of the grid, homogeneous of degree 2, and
    free of net momentum, all to round-off (tests/unit/models/test_quadratic_stencil.py).
    """

    reach = 4  # cells away from a cell that its output depends on: two a stencil

    def __init__(self, spacing: float, channels: int, output_channels: int):
        super().__init__()
        self.inverse_spacing = 1.0 / spacing
        self.stencils = nn.Parameter(torch.randn(2 * channels, PAIR_SIZE) / PAIR_SIZE**0.5)
        self.mixing = nn.Parameter(torch.randn(output_channels, 2 * channels, 8) / (16 * channels) ** 0.5)
        self.output = nn.Parameter(0.01 * torch.randn(output_channels, 2, PAIR_SIZE // 2))
        self.register_buffer("lift", orientation_matrix(half_cell=-1), persistent=False)
        self.register_buffer("lower", orientation_matrix(half_cell=1), persistent=False)
        self.register_buffer("relative", relative_table(), persistent=False)

    def input_weight(self) -> Tensor:
        """All orientations of the stencils, (16 channels, 2, 5, 5), orientation fastest."""
        return (self.stencils @ self.lift).reshape(-1, 2, 5, 5)

    def mixing_weight(self) -> Tensor:
        """1 x 1 group convolution, (8 output_channels, 16 channels, 1, 1)."""
        return self.mixing[:, :, self.relative].permute(0, 2, 1, 3).reshape(8 * self.mixing.shape[0], -1, 1, 1)

    def output_weight(self) -> Tensor:
        """All orientations of the output stencils over h, (2, 8 output_channels, 5, 5); each stencil sums to zero."""
        centred = self.output - self.output.mean(dim=-1, keepdim=True)
        return self.inverse_spacing * (centred.flatten(1) @ self.lower).reshape(-1, 2, 5, 5).transpose(0, 1)

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, 2, nx, ny) [m/s^2] of a staggered velocity (b, 2, nx, ny) [m/s]."""
        halo = [2, 2, 2, 2]
        a, b = F.conv2d(F.pad(velocity, halo, mode="circular"), self.input_weight()).chunk(2, dim=1)
        products = torch.cat((a * b, a.abs() * b), dim=1)
        mixed = F.conv2d(products, self.mixing_weight())
        return F.conv2d(F.pad(mixed, halo, mode="circular"), self.output_weight())
