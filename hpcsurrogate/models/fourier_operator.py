"""A Fourier neural operator from velocity to acceleration, for comparison with the literature.

    v_0 = P u,    v_(l+1) = v_l + tanh( W_l v_l + K_l v_l ),    force = Q v_L less its mean
    (K v)^(k) = R(k) v^(k) on the modes |m_i| <= modes, 0 on the others

Legend: m_i = k_i L_i / 2 pi mode number along axis i; W pointwise, R(k) a complex matrix of the channels for each mode;
P, Q pointwise.

Source: Z. Li et al., Fourier neural operator for parametric partial differential equations, ICLR 2021, equations 2 and
4; with a residual around each layer, as later versions have it, and tanh, which traps in no host.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FourierOperator(nn.Module):
    """Velocity in, acceleration on the same points out, both physical, in two or three dimensions.

    Parameters
    ----------
    num_dims : int              2 or 3
    channels : int              of the hidden fields
    hidden_layers : int         at least 1
    modes : int                 along each axis that a layer's matrices act on, below half of the points
    velocity_scale : float      root mean square of a component of the input [m/s]
    force_scale : float         root mean square of a component of the output [m/s^2]

    Notes
    -----
    Commutes with translations by whole cells and conserves momentum, both to round-off; other symmetries of the grid
    it has to learn. The matrices belong to modes, not to points, so that the same weights act on other grids of the
    same domain (tests/unit/models/test_fourier_operator.py).
    """

    def __init__(
        self,
        num_dims: int,
        channels: int,
        hidden_layers: int,
        modes: int,
        velocity_scale: float = 1.0,
        force_scale: float = 1.0,
    ):
        super().__init__()
        self.num_dims, self.modes = num_dims, modes
        # Signed modes -modes ... modes along all axes but the last.
        self.table = [2 * modes + 1] * (num_dims - 1) + [modes + 1]
        pointwise = nn.Conv2d if num_dims == 2 else nn.Conv3d
        self.lift = pointwise(num_dims, channels, 1)
        self.layers = nn.ModuleList(pointwise(channels, channels, 1) for _ in range(hidden_layers))
        self.lower = pointwise(channels, num_dims, 1)
        size = [hidden_layers, channels, channels, *self.table, 2]
        self.matrices = nn.Parameter(torch.randn(size) / channels)
        nn.init.zeros_(self.lower.bias)
        self.register_buffer("velocity_scale", torch.tensor(float(velocity_scale)))
        self.register_buffer("force_scale", torch.tensor(float(force_scale)))

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, d, nx, ny[, nz]) [m/s^2] of a velocity of the same shape [m/s]."""
        hidden = self.lift(velocity / self.velocity_scale)
        matrices = torch.view_as_complex(self.matrices)
        for number, pointwise in enumerate(self.layers):
            if self.num_dims == 2:
                carried = self.convolve_2d(hidden, matrices[number])
            else:
                carried = self.convolve_3d(hidden, matrices[number])
            hidden = hidden + torch.tanh(pointwise(hidden) + carried)
        force = self.lower(hidden)
        axes = [2, 3] if self.num_dims == 2 else [2, 3, 4]
        return (force - force.mean(axes, keepdim=True)) * self.force_scale

    def convolve_2d(self, field: Tensor, matrix: Tensor) -> Tensor:
        """K of a field (b, c, nx, ny) by matrices (c, c, 2 modes + 1, modes + 1)."""
        nx, ny = field.shape[2], field.shape[3]
        coefficients = self.signed_modes(torch.fft.rfft2(field)[:, :, :, : self.modes + 1], 2)
        mixed = torch.einsum("bixy,ioxy->boxy", coefficients, matrix)
        return torch.fft.irfft2(F.pad(self.whole_axis(mixed, 2, nx), [0, ny // 2 - self.modes]), s=[nx, ny])

    def convolve_3d(self, field: Tensor, matrix: Tensor) -> Tensor:
        """K of a field (b, c, nx, ny, nz) by matrices (c, c, 2 modes + 1, 2 modes + 1, modes + 1)."""
        nx, ny, nz = field.shape[2], field.shape[3], field.shape[4]
        coefficients = torch.fft.rfftn(field, dim=[2, 3, 4])[:, :, :, :, : self.modes + 1]
        coefficients = self.signed_modes(self.signed_modes(coefficients, 2), 3)
        mixed = torch.einsum("bixyz,ioxyz->boxyz", coefficients, matrix)
        whole = F.pad(self.whole_axis(self.whole_axis(mixed, 3, ny), 2, nx), [0, nz // 2 - self.modes])
        return torch.fft.irfftn(whole, s=[nx, ny, nz], dim=[2, 3, 4])

    def signed_modes(self, coefficients: Tensor, axis: int) -> Tensor:
        """Modes 0 ... modes, -modes ... -1 of an axis."""
        points = coefficients.shape[axis]
        low = coefficients.narrow(axis, 0, self.modes + 1)
        return torch.cat((low, coefficients.narrow(axis, points - self.modes, self.modes)), axis)

    def whole_axis(self, coefficients: Tensor, axis: int, points: int) -> Tensor:
        """All modes of an axis of so many points from those of `signed_modes`, zero between."""
        low = coefficients.narrow(axis, 0, self.modes + 1)
        high = coefficients.narrow(axis, self.modes + 1, self.modes)
        between = torch.zeros_like(low.narrow(axis, 0, 1)).repeat_interleave(points - 2 * self.modes - 1, axis)
        return torch.cat((low, between, high), axis)
