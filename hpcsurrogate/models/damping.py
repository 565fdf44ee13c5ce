"""A damping rate for every Fourier mode, learned as a smooth function of the wavenumber.

    acceleration_hat(k) = - r(|k| / kmax) velocity_hat(k),    r = R s^2,    s cubics through its values at the knots

Legend: kmax = pi / h, h the largest spacing, as in classical hyperviscosity, of which this is the calibrated form;
R = u_rms / h of the training data, so that the values of s are of order one.

Linear and translation-invariant: the same operator on a collocated and a staggered layout, and a host that is told of
it takes it into its linear term, where it costs nothing (`damping_rates`).
"""

import math

import torch
from torch import Tensor, nn

from hpcsurrogate.models.spline import spline
from hpcsurrogate.physics.grid import Grid

# The start is hyperviscosity R / 2 (k / kmax)^8, and flat below this share of kmax: at s = 0 the rate has no slope.
START, START_POWER, START_FLAT = 0.5, 4, 0.4


class DampingNet(nn.Module):
    """Velocity in, damping of its modes out, both physical, on any layout of two or three dimensions.

    Parameters
    ----------
    spacing : tuple of float    of the grid, one length for each axis [m]
    knots : int                 values of s, evenly spaced from k = 0 to the largest |k|; at least 2
    velocity_rms : float        root mean square of a velocity component of the training data [m/s]

    Notes
    -----
    Never adds energy, conserves momentum, keeps a divergence-free field so, and is equivariant under rotations,
    reflections and translations of the grid, all to round-off (tests/unit/models/test_damping.py).
    """

    def __init__(self, spacing: tuple[float, ...], knots: int, velocity_rms: float = 1.0):
        super().__init__()
        self.num_dims = len(spacing)
        self.hx, self.hy, self.hz = (*(float(h) for h in spacing), 1.0)[:3]
        coarsest = max(spacing)
        self.inverse_kmax = coarsest / math.pi
        # Of the corner mode, in units of kmax.
        largest = math.sqrt(sum((coarsest / h) ** 2 for h in spacing))
        self.knots_per_kmax = (knots - 1) / largest
        ratio = (torch.arange(knots) / self.knots_per_kmax).clamp_min(START_FLAT)
        self.values = nn.Parameter(math.sqrt(START) * ratio**START_POWER)
        self.register_buffer("rate_scale", torch.tensor(velocity_rms / coarsest))

    def damping_rates(self, grid: Grid) -> Tensor:
        """Rates of a grid's modes, at the same |k| / kmax as on the grid of the training.

        Parameters
        ----------
        grid : Grid    whose cells have the shape of those of the training

        Returns
        -------
        Tensor, shape of the grid's half-spectrum, its dtype, not negative, zero for the mean [1/s]
        """
        return self.rates(grid.k2.sqrt() * (max(grid.spacing) / math.pi)).to(grid.dtype)

    def rates(self, ratio: Tensor) -> Tensor:
        """Rates [1/s] at wavenumbers given as |k| / kmax [-], of any shape."""
        place = ratio.to(self.values.dtype) * self.knots_per_kmax
        return self.rate_scale * spline(self.values.unsqueeze(1), place).squeeze(-1).square() * (place > 0)

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, d, nx, ny[, nz]) [m/s^2] of a velocity of the same shape [m/s]."""
        nx, ny = velocity.shape[2], velocity.shape[3]
        if self.num_dims == 2:
            kx, ky = self.signed(nx, self.hx, velocity), self.positive(ny, self.hy, velocity)
            k2 = kx.square().unsqueeze(1) + ky.square()
            rates = self.rates(k2.sqrt() * self.inverse_kmax)
            return torch.fft.irfft2(-rates * torch.fft.rfft2(velocity), s=[nx, ny])
        nz = velocity.shape[4]
        kx, ky = self.signed(nx, self.hx, velocity), self.signed(ny, self.hy, velocity)
        kz = self.positive(nz, self.hz, velocity)
        k2 = (kx.square().unsqueeze(1) + ky.square()).unsqueeze(2) + kz.square()
        rates = self.rates(k2.sqrt() * self.inverse_kmax)
        velocity_hat = torch.fft.rfftn(velocity, dim=[2, 3, 4])
        return torch.fft.irfftn(-rates * velocity_hat, s=[nx, ny, nz], dim=[2, 3, 4])

    def signed(self, points: int, spacing: float, like: Tensor) -> Tensor:
        """Wavenumbers of an FFT along an axis, shape (points,) [rad/m]."""
        return torch.fft.fftfreq(points, spacing / (2 * math.pi), dtype=like.dtype, device=like.device)

    def positive(self, points: int, spacing: float, like: Tensor) -> Tensor:
        """Wavenumbers of a real FFT along an axis, shape (points // 2 + 1,) [rad/m]."""
        return torch.fft.rfftfreq(points, spacing / (2 * math.pi), dtype=like.dtype, device=like.device)
