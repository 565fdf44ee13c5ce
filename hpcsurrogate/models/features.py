"""What a network sees instead of the bare velocity: principal components of its patches, and numbers of the flow.

Both are part of the network, so that they are exported with it: a solver hands over a velocity and nothing else.

Patches are of two dimensions; scalars stand beside fields of two or three.

Legend: d = 2 patch^2 values of a patch (component, x, y); m components kept; s scalars.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsurrogate.core.errors import ConfigError

# Directions with less than this part of the largest variance are noise of the data's float32.
NO_VARIANCE = 1e-12
NAMES = ("filter_width", "reynolds_number")  # in the order of their channels
SMALLEST = 1e-30  # a fluid at rest has Reynolds number 0, and its logarithm must be finite
NO_SPREAD = 1e-6  # of a logarithm: values that agree to so much are one value


def patch_covariance(velocity_bcxy: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of all patches of periodic velocity fields.

    Parameters
    ----------
    velocity_bcxy : Tensor, shape (b, 2, nx, ny) [m/s]
    patch : int    points along each axis, odd

    Returns
    -------
    Tensor, shape (d,), float64 [m/s] and Tensor, shape (d, d), float64 [m^2/s^2]

    Notes
    -----
    Every point is the centre of one patch, so that the result does not change when a field is translated
    (tests/unit/models/test_features.py).
    """
    halo = [patch // 2] * 4
    total, products, count = 0.0, 0.0, 0
    for velocity in velocity_bcxy.to(torch.float64).split(1):
        patches = F.unfold(F.pad(velocity, halo, mode="circular"), patch)[0]
        total, products, count = total + patches.sum(1), products + patches @ patches.T, count + patches.shape[1]
    mean = total / count
    return mean, products / count - torch.outer(mean, mean)


class PrincipalPatches(nn.Module):
    """The leading principal components of velocity patches, each with variance one: one fixed convolution.

    Parameters
    ----------
    patch : int         points along each axis, odd
    components : int    how many are kept, at most d

    Notes
    -----
    Over the data that `fit` saw, the components are uncorrelated, with mean 0 and variance 1
    (tests/unit/models/test_features.py). Jolliffe, Principal Component Analysis, 2nd ed. 2002, section 2.1.
    """

    def __init__(self, patch: int, components: int):
        super().__init__()
        self.halo = patch // 2
        self.register_buffer("kernels", torch.zeros(components, 2, patch, patch))
        self.register_buffer("offsets", torch.zeros(components))

    def fit(self, mean: Tensor, covariance: Tensor) -> None:
        """Take the components from the moments that `patch_covariance` returns.

        Raises
        ------
        ConfigError    if fewer directions have variance than components are to be kept
        """
        variances, directions = torch.linalg.eigh(covariance)
        variances, directions = variances.flip(0), directions.flip(1)
        available = int((variances > NO_VARIANCE * variances[0]).sum())
        wanted = len(self.offsets)
        if wanted > available:
            raise ConfigError(
                f"train.model.principal_components.components: {wanted}, but velocity patches vary in {available} "
                f"directions only; keep at most {available}"
            )
        kernels = (directions / variances.clamp_min(0).sqrt()).T[:wanted]
        # An eigenvector's sign is arbitrary; fixed, so that two machines fit the same network.
        largest = kernels.gather(1, kernels.abs().argmax(dim=1, keepdim=True))
        kernels = kernels * largest.sign()
        self.kernels.copy_(kernels.reshape(self.kernels.shape))
        self.offsets.copy_(-(kernels @ mean))

    def forward(self, velocity: Tensor) -> Tensor:
        """Components (b, m, nx, ny) [-] of a velocity (b, 2, nx, ny) [m/s]."""
        halo = [self.halo] * 4
        return F.conv2d(F.pad(velocity, halo, mode="circular"), self.kernels, self.offsets)


class ScalarChannels(nn.Module):
    """Numbers of the flow and the filter as constant channels beside the fields.

    Each enters as its logarithm with mean 0 and variance 1 over the training data, since they differ by factors.

    Parameters
    ----------
    names : tuple of str    "filter_width" [m]; "reynolds_number": rms velocity times filter width over viscosity [-]

    Notes
    -----
    The width is the network's own, that of the experiment it was trained for, unless the caller gives another.
    """

    def __init__(self, names: tuple[str, ...]):
        super().__init__()
        self.takes_width, self.takes_reynolds = "filter_width" in names, "reynolds_number" in names
        self.names = [name for name in NAMES if name in names]
        self.smallest = SMALLEST
        self.register_buffer("own_width", torch.tensor(1.0))
        self.register_buffer("viscosity", torch.tensor(1.0))
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("deviation", torch.ones(len(names)))

    def fit(self, own_width: float, viscosity: float, velocity_bcxy: Tensor, widths_b: Tensor) -> None:
        """Take the values of the experiment, and mean and deviation from training data.

        Parameters
        ----------
        own_width : float                      filter width that the host stands for [m]
        viscosity : float                      [m^2/s]
        velocity_bcxy : Tensor, (b, 2 or 3, nx, ny[, nz]) [m/s]
        widths_b : Tensor, (b,)                filter width that each of them was seen through [m]

        Raises
        ------
        ConfigError    if a scalar is the same in all training data: nothing can be learned from it
        """
        self.own_width.fill_(own_width)
        self.viscosity.fill_(viscosity)
        deviation, mean = torch.std_mean(self._logarithms(velocity_bcxy, widths_b).double(), dim=0, correction=0)
        for name, spread in zip(self.names, deviation.tolist(), strict=True):
            if spread < NO_SPREAD:
                raise ConfigError(
                    f"train.model.scalars: {name} is the same in all training data, so nothing can be learned from it; "
                    "leave it out, or add data (prepare.more_filters for filter_width)"
                )
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def _logarithms(self, velocity: Tensor, widths: Tensor) -> Tensor:
        """Logarithms of the scalars, (b, s)."""
        columns: list[Tensor] = []
        if self.takes_width:
            columns.append(widths)
        if self.takes_reynolds:
            columns.append(velocity.square().flatten(1).mean(1).sqrt() * widths / self.viscosity)
        return torch.stack(columns, dim=1).clamp_min(self.smallest).log()

    def forward(self, features: Tensor, velocity: Tensor, widths: Tensor | None) -> Tensor:
        """Append s channels to features (b, m, nx, ny[, nz]); velocity of that grid [m/s], widths (b,) [m] or None."""
        given = self.own_width.expand(velocity.shape[0]) if widths is None else widths.to(velocity.dtype)
        channels = (self._logarithms(velocity, given) - self.mean) / self.deviation
        everywhere = torch.ones_like(features.select(1, 0)).flatten(1).unsqueeze(1)
        fields = (channels.unsqueeze(-1) * everywhere).unflatten(2, features.shape[2:])
        return torch.cat((features, fields), dim=1)
