"""A plain periodic convolutional network from velocity to acceleration, the yardstick of most of the literature."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsurrogate.models.features import PrincipalPatches, ScalarChannels


class PeriodicCnn(nn.Module):
    """Convolutions with tanh between them, periodic, any layout, in d = 2 or 3 dimensions.

    Parameters
    ----------
    channels : int
    hidden_layers : int       at least 1
    kernel_size : int         odd
    velocity_scale : float    root mean square of a velocity component of the training data [m/s]
    force_scale : float       root mean square of a component of the target [m/s^2]
    patches : PrincipalPatches or None    what the first layer sees instead of the velocity
    scalars : ScalarChannels or None      what it sees beside that
    dropout : float           probability with which a hidden channel of a sample is zero, while training alone
    num_dims : int            d; patches are of two dimensions

    Notes
    -----
    Equivariant under translations of the grid alone. The mean of the output is removed, so that momentum is conserved.
    The scales are buffers: they travel with the weights.
    """

    def __init__(
        self,
        channels: int,
        hidden_layers: int,
        kernel_size: int,
        velocity_scale: float = 1.0,
        force_scale: float = 1.0,
        patches: PrincipalPatches | None = None,
        scalars: ScalarChannels | None = None,
        dropout: float = 0.0,
        num_dims: int = 2,
    ):
        super().__init__()
        self.patches, self.scalars = patches, scalars
        of_velocity = num_dims if patches is None else len(patches.offsets)
        num_inputs = of_velocity + (0 if scalars is None else len(scalars.names))
        widths = [num_inputs, *[channels] * hidden_layers, num_dims]
        self.halo = [kernel_size // 2] * (2 * num_dims)
        self.axes = list(range(2, 2 + num_dims))
        self.dropout = dropout
        convolution = nn.Conv2d if num_dims == 2 else nn.Conv3d
        self.layers = nn.ModuleList(
            convolution(before, after, kernel_size) for before, after in zip(widths[:-1], widths[1:], strict=True)
        )
        self.register_buffer("velocity_scale", torch.tensor(velocity_scale))
        self.register_buffer("force_scale", torch.tensor(force_scale))

    def forward(self, velocity: Tensor, filter_width: Tensor | None = None) -> Tensor:
        """Acceleration (b, d, nx, ny[, nz]) [m/s^2] of a velocity of the same shape [m/s].

        `filter_width` (b,) [m] is that of each sample while training on several; else the network's own counts.
        """
        features = velocity / self.velocity_scale if self.patches is None else self.patches(velocity)
        if self.scalars is not None:
            features = self.scalars(features, velocity, filter_width)
        for i, layer in enumerate(self.layers):
            if i > 0:
                features = torch.tanh(features)
                # Whole channels: neighbouring points are so alike that single ones would be guessed from the others.
                # Not even an idle operation is left of it in the exported network (tests/unit/export/test_networks.py).
                if self.training and self.dropout > 0.0:
                    features = F.dropout2d(features.flatten(2).unsqueeze(-1), self.dropout, True).view_as(features)
            features = layer(F.pad(features, self.halo, mode="circular"))
        return self.force_scale * (features - features.mean(dim=self.axes, keepdim=True))
