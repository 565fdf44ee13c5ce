"""A network on top of another that is good already: what it returns is added, and zero before training.

acceleration = base(u) + correction(u)
"""

import torch
from torch import Tensor, nn


class ResidualNet(nn.Module):
    """Velocity on the host's points in, acceleration on the same points out, both physical.

    Parameters
    ----------
    base, correction : nn.Module    both from velocity (b, d, nx, ny[, nz]) [m/s] to acceleration of that shape [m/s^2]
    last_layer : list of nn.Parameter    those of the correction that its output is linear in; set to zero
    num_dims : int                  d

    Notes
    -----
    Untrained it is the base, bit for bit, and every weight of the last layer has a gradient. It has the symmetries that
    both parts have, and conserves momentum if both do (tests/unit/models/test_residual.py).
    """

    def __init__(self, base: nn.Module, correction: nn.Module, last_layer: list[nn.Parameter], num_dims: int):
        super().__init__()
        self.base, self.correction = base, correction
        self.axes = list(range(2, 2 + num_dims))
        with torch.no_grad():
            for parameter in last_layer:
                parameter.zero_()

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, d, nx, ny[, nz]) [m/s^2] of a velocity of the same shape [m/s]."""
        return self.base(velocity) + self.correction(velocity)

    def advection_hat(self, velocity_hat: Tensor, last: int, stage: int) -> Tensor:
        """As DeconvolutionNet has it: that of the base and the correction."""
        velocity = velocity_hat
        for axis in self.axes[:-1]:
            velocity = torch.fft.ifft(velocity, dim=axis)
        velocity = torch.fft.irfft(velocity, n=last, dim=self.axes[-1])
        correction_hat = torch.fft.rfftn(self.correction(velocity), dim=self.axes)
        return self.base.advection_hat(velocity_hat, last, stage) + correction_hat
