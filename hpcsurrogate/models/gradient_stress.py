"""The gradient model of a cell of any shape: the classical closure that knows the most of a stress."""

import torch
from torch import Tensor, nn


class GradientStress(nn.Module):
    """tau_dev = (Delta^2 / 12 G G^T)_dev, the first term of a box filter's Taylor series.

    With G the gradient scaled by the shape of the cell (core/fields.py) it is that of a cell of any shape: exact for
    a velocity that is linear in the cell (tests/unit/models/test_gradient_stress.py).
    Clark, Ferziger and Reynolds 1979, doi:10.1017/S002211207900001X.
    """

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        """Deviatoric stress (n, 6) [m^2/s^2] of gradients (n, 9) [1/s], row by row, and widths (n,) [m]."""
        x, y, z = velocity_gradient[:, 0:3], velocity_gradient[:, 3:6], velocity_gradient[:, 6:9]
        xx, yy, zz = (x * x).sum(1), (y * y).sum(1), (z * z).sum(1)
        mean = (xx + yy + zz) / 3
        tensor = torch.stack((xx - mean, (x * y).sum(1), (x * z).sum(1), yy - mean, (y * z).sum(1), zz - mean), 1)
        return (filter_width.square() / 12).unsqueeze(1) * tensor
