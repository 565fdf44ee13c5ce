"""Products of learned stencils: a small closure that is quadratic in the velocity and exactly D4-equivariant.

    a = A * u, b = B * u              (stencils on the staggered velocity, 8 orientations each)
    p = a b                           (the advective error of a discrete scheme is quadratic in the velocity)
    s = mean |p|                      (local scale over all maps of a cell)
    r = W p,  q = s r / (s + |r|)     (hidden layers: mix channels and orientations, bounded, homogeneous of degree 2)
    force = D * (V (p, q)) / h        (few mixed maps; stencils whose weights sum to zero: momentum is conserved)

Legend: * periodic correlation; channels = learned stencils, each in the 8 orientations of the square (a regular
representation); h = grid spacing [m]. Scaling the velocity by c scales the force by c^2, so no normalisation is needed,
and there is no exponential that could overflow inside a host with floating-point traps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsurrogate.models.symmetry import ELEMENTS, IDENTITY, compose_index, transform_vector

LONG, SHORT = 5, 4  # points of a stencil along the odd and the even direction


def _embed(u: Tensor, v: Tensor, before: bool) -> Tensor:
    """Stack a u stencil (.., 4, 5) and a v stencil (.., 5, 4) as (.., 2, 5, 5), the even direction padded."""
    pad = [1, 0] if before else [0, 1]
    return torch.stack((F.pad(u, [0, 0] + pad), F.pad(v, pad)), dim=-3)


class QuadraticStencilNet(nn.Module):
    """Velocity on a staggered grid in, acceleration on the same points out, both physical.

    Parameters
    ----------
    spacing : float           grid spacing h, equal along x and y [m]
    channels : int            learned stencil pairs; 8 times as many feature maps
    hidden_layers : int       0 leaves the purely quadratic closure
    output_channels : int     learned output stencils; 8 times as many maps reach them

    Notes
    -----
    Equivariant under rotations by 90 degrees, reflections and translations of the grid, homogeneous of degree 2, and
    free of net momentum, all to round-off (tests/unit/models/test_quadratic_stencil.py).
    """

    def __init__(self, spacing: float, channels: int, hidden_layers: int, output_channels: int):
        super().__init__()
        self.channels, self.hidden_layers, self.output_channels = channels, hidden_layers, output_channels
        self.inverse_spacing = 1.0 / spacing
        self.elements = ELEMENTS  # as an attribute, since a scripted module sees no global list
        self.stencils = nn.Parameter(torch.randn(2 * channels, 2, SHORT, LONG) / (2 * SHORT * LONG) ** 0.5)
        self.hidden = nn.Parameter(torch.randn(hidden_layers, channels, channels, 8) / (8 * channels) ** 0.5)
        groups = 2 if hidden_layers else 1
        self.mixing = nn.Parameter(torch.randn(output_channels, groups * channels, 8) / (8 * channels) ** 0.5)
        self.output = nn.Parameter(0.01 * torch.randn(output_channels, 2, SHORT, LONG))
        table = compose_index()
        inverse = (table == IDENTITY).long().argmax(dim=1)
        # A kernel of a group convolution depends on g^-1 h alone.
        self.register_buffer("relative", table[inverse], persistent=False)

    def lifted_stencils(self) -> Tensor:
        """All orientations of the stencils: weight (16 channels, 2, 5, 5), orientation fastest."""
        u, v = self.stencils[:, 0], self.stencils[:, 1].transpose(-2, -1)
        return self._all_orientations(u, v, False)

    def group_matrix(self, kernel: Tensor) -> Tensor:
        """1 x 1 group convolution of kernel (out, in, 8) as a weight (8 out, 8 in, 1, 1)."""
        matrix = kernel[:, :, self.relative].permute(0, 2, 1, 3)
        return matrix.reshape(8 * kernel.shape[0], 8 * kernel.shape[1], 1, 1)

    def output_stencils(self) -> Tensor:
        """All orientations of the output stencils: weight (2, 8 output_channels, 5, 5); each sums to zero."""
        centred = self.output - self.output.mean(dim=(-2, -1), keepdim=True)
        u, v = centred[:, 0], centred[:, 1].transpose(-2, -1)
        return self._all_orientations(u, v, True).transpose(0, 1)

    def _all_orientations(self, u: Tensor, v: Tensor, before: bool) -> Tensor:
        """Stencil pairs (n, 4, 5), (n, 5, 4) as (8 n, 2, 5, 5), orientation fastest; a loop that TorchScript reads."""
        turned: list[Tensor] = []
        for element in self.elements:
            turned_u, turned_v = transform_vector(u, v, element)
            turned.append(_embed(turned_u, turned_v, before))
        return torch.stack(turned, dim=1).flatten(0, 1)

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, 2, nx, ny) [m/s^2] of a staggered velocity (b, 2, nx, ny) [m/s]."""
        width = 8 * self.channels
        features = F.conv2d(F.pad(velocity, (2, 2, 2, 2), mode="circular"), self.lifted_stencils())
        maps = features[:, :width] * features[:, width:]
        if self.hidden_layers > 0:
            scale = maps.abs().mean(dim=1, keepdim=True) + 1e-12
            hidden = maps
            for layer in range(self.hidden_layers):
                hidden = F.conv2d(hidden, self.group_matrix(self.hidden[layer]))
                hidden = hidden * (scale / (scale + hidden.abs()))
            maps = torch.cat((maps, hidden), dim=1)
        maps = F.conv2d(maps, self.group_matrix(self.mixing))
        return F.conv2d(F.pad(maps, (2, 2, 2, 2), mode="circular"), self.inverse_spacing * self.output_stencils())
