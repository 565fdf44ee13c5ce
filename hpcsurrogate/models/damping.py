"""A damping rate for every Fourier mode, learned as a smooth function of the wavenumber.

    acceleration_hat(k) = - r velocity_hat(k)
    r = R s(|k| / kmax)^2 in training,    r = R max(s^2, F e^18) in use,    e^2 = sum_i (k_i h_i / pi)^2

Legend: kmax = pi / h, h the largest spacing, as in classical hyperviscosity, of which this is the calibrated form;
R = u_rms / h of the training data, so that the values of s are of order one; s cubics through its values at the knots;
F = 1 in two dimensions, 0 in three. The modes near e = 1 and in the corners beyond are the fastest of the grid, and in
two dimensions hold little. Training sees no use in damping them, but in moments twice as fast as the usual ones they
end a run: hence the floor, which training does not know of, since it would take elsewhere what the floor adds
(docs/calibration.md). In three dimensions these modes hold too much.

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
FLOOR = {2: 1.0, 3: 0.0}  # F, by the number of dimensions
HALF_FLOOR_POWER = 9  # of e


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
        coarsest = max(spacing)
        self.stretch = [coarsest / h for h in spacing]  # from a share of an axis's largest wavenumber to one of kmax
        # Of the corner mode, in units of kmax.
        largest = math.hypot(*self.stretch)
        self.knots_per_kmax = (knots - 1) / largest
        ratio = (torch.arange(knots) / self.knots_per_kmax).clamp_min(START_FLAT)
        self.values = nn.Parameter(math.sqrt(START) * ratio**START_POWER)
        self.floor, self.half_floor_power = FLOOR[self.num_dims], HALF_FLOOR_POWER
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
        shares = [k * (h / math.pi) for k, h in zip(grid.k, grid.spacing, strict=True)]
        return self.rates(shares).to(grid.dtype)

    def rates(self, shares: list[Tensor]) -> Tensor:
        """Rates [1/s] at wavenumbers given as k_i h_i / pi of each axis [-], shapes that broadcast."""
        ratio2, ellipse2 = torch.zeros_like(shares[0]), torch.zeros_like(shares[0])
        for axis in range(self.num_dims):
            square = shares[axis].square()
            ratio2 = ratio2 + square * self.stretch[axis] ** 2
            ellipse2 = ellipse2 + square
        place = ratio2.sqrt().to(self.values.dtype) * self.knots_per_kmax
        rates = spline(self.values.unsqueeze(1), place).squeeze(-1).square()
        if not self.training:
            rates = torch.maximum(rates, self.floor * ellipse2.to(self.values.dtype).pow(self.half_floor_power))
        return self.rate_scale * rates * (place > 0)

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, d, nx, ny[, nz]) [m/s^2] of a velocity of the same shape [m/s]."""
        # fftfreq of a spacing of 1/2 is k h / pi, whatever h.
        nx, ny = velocity.shape[2], velocity.shape[3]
        x = torch.fft.fftfreq(nx, 0.5, dtype=velocity.dtype, device=velocity.device)
        if self.num_dims == 2:
            y = torch.fft.rfftfreq(ny, 0.5, dtype=velocity.dtype, device=velocity.device)
            return torch.fft.irfft2(-self.rates([x.unsqueeze(1), y]) * torch.fft.rfft2(velocity), s=[nx, ny])
        nz = velocity.shape[4]
        y = torch.fft.fftfreq(ny, 0.5, dtype=velocity.dtype, device=velocity.device)
        z = torch.fft.rfftfreq(nz, 0.5, dtype=velocity.dtype, device=velocity.device)
        rates = self.rates([x.unsqueeze(1).unsqueeze(2), y.unsqueeze(1), z])
        velocity_hat = torch.fft.rfftn(velocity, dim=[2, 3, 4])
        return torch.fft.irfftn(-rates * velocity_hat, s=[nx, ny, nz], dim=[2, 3, 4])
