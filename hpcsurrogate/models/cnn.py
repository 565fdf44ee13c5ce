"""A plain periodic convolutional network from velocity to acceleration, the yardstick of most of the literature."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PeriodicCnn(nn.Module):
    """Convolutions with tanh between them, periodic, any layout.

    Parameters
    ----------
    channels : int
    hidden_layers : int       at least 1
    kernel_size : int         odd
    velocity_scale : float    root mean square of a velocity component of the training data [m/s]
    force_scale : float       root mean square of a component of the target [m/s^2]

    Notes
    -----
    Equivariant under translations of the grid alone. The mean of the output is removed, so that momentum is conserved.
    The scales are buffers: they travel with the weights.
    """

    def __init__(
        self, channels: int, hidden_layers: int, kernel_size: int, velocity_scale: float = 1.0, force_scale: float = 1.0
    ):
        super().__init__()
        widths = [2, *[channels] * hidden_layers, 2]
        self.halo = kernel_size // 2
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size) for before, after in zip(widths[:-1], widths[1:], strict=True)
        )
        self.register_buffer("velocity_scale", torch.tensor(velocity_scale))
        self.register_buffer("force_scale", torch.tensor(force_scale))

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, 2, nx, ny) [m/s^2] of a velocity (b, 2, nx, ny) [m/s]."""
        features = velocity / self.velocity_scale
        halo = [self.halo] * 4
        for i, layer in enumerate(self.layers):
            if i > 0:
                features = torch.tanh(features)
            features = layer(F.pad(features, halo, mode="circular"))
        return self.force_scale * (features - features.mean(dim=(-2, -1), keepdim=True))
