"""The small scales estimated from the large ones, and the SGS stress by its definition: for a sharp cut-off.

    w' = s K(w / s)                                     (a convolutional network; s = root mean square of w)
    tau_ij = [u_i u'_j + u'_i u_j + u'_i u'_j], cut off at the coarse grid, less its trace

Legend: u, w filtered velocity and its vorticity; u', w' the same of the small scales, which a grid twice as fine holds
from the cut-off k_c up to 1.5 k_c; k_c = pi / h of an axis.

What the coarse grid holds of u u is no part of the stress through a sharp filter at the grid's own cut-off. All of it
comes from scales that the grid does not hold, so that no series in the filter width has it. But nearly all is linear in
u', with u known, and of u' only those modes count that u carries across the cut-off, a few wavenumbers away. A network
that is asked for w' alone leaves products, derivatives and the cut-off to exact arithmetic. Estimating the velocity on
a finer grid, though by a formula: J. A. Domaradzki and E. M. Saiki, Phys. Fluids 9, 2148 (1997).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsurrogate.models.spectral_cells import spectral_force, spectral_gradient

LAST = 0.1  # on the first weights of the last layer: the estimate starts near zero


class ScaleEstimationNet(nn.Module):
    """Velocity in, acceleration out, both physical, of two dimensions and collocated; on the way the deviatoric stress.

    Parameters
    ----------
    spacing : tuple of float [m]    of the grid along each axis
    channels : int
    hidden_layers : int             each added to what it is given
    kernel_size : int               odd

    Notes
    -----
    For any weights: seen from a moving frame it returns the same, it is homogeneous of degree 2, free of net momentum,
    zero for a uniform flow, and moves with the flow by whole cells; with the true w' it is the true stress but for what
    lies beyond the band. Rotations and reflections it has to learn (tests/unit/models/test_scale_estimation.py).
    """

    def __init__(self, spacing: tuple[float, float], channels: int, hidden_layers: int, kernel_size: int):
        super().__init__()
        self.spacing = [float(h) for h in spacing]
        self.halo = [kernel_size // 2] * 4
        self.lift = nn.Conv2d(1, channels, kernel_size)
        self.layers = nn.ModuleList(nn.Conv2d(channels, channels, kernel_size) for _ in range(hidden_layers))
        self.lower = nn.Conv2d(channels, 4, kernel_size)  # the four points of the finer grid in a cell
        with torch.no_grad():
            self.lower.weight.mul_(LAST)

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, 2, nx, ny) [m/s^2] of a velocity of the same shape [m/s]."""
        return spectral_force(self.cell_stress(velocity), self.spacing)

    def cell_stress(self, velocity: Tensor) -> Tensor:
        """Deviatoric stress xx, xy, yy at the points, (b, 3, nx, ny) [m^2/s^2], of a velocity (b, 2, nx, ny) [m/s]."""
        gradient = spectral_gradient(velocity, self.spacing)
        vorticity = gradient[:, 2:3] - gradient[:, 1:2]
        return stress_with(velocity, self.small_vorticity(vorticity), self.spacing)

    def small_vorticity(self, vorticity: Tensor) -> Tensor:
        """w' (b, 1, 2 nx, 2 ny) [1/s] with all its modes, of w (b, 1, nx, ny) [1/s]; `stress_with` takes the band."""
        scale = vorticity.square().mean([1, 2, 3], keepdim=True).sqrt().clamp_min(1e-30)  # of a fluid at rest
        hidden = self.lift(F.pad(vorticity / scale, self.halo, mode="circular"))
        for layer in self.layers:
            hidden = hidden + layer(F.pad(torch.tanh(hidden), self.halo, mode="circular"))
        points = self.lower(F.pad(torch.tanh(hidden), self.halo, mode="circular"))
        # (b, 2 x 2, nx, ny): the points of a cell to their places.
        return scale * points.unflatten(1, [1, 2, 2]).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)


def stress_with(velocity: Tensor, small_vorticity: Tensor, spacing: list[float]) -> Tensor:
    """The deviatoric stress that small scales make together with a filtered velocity.

    Parameters
    ----------
    velocity : Tensor, shape (b, 2, nx, ny) [m/s]
    small_vorticity : Tensor, shape (b, 1, 2 nx, 2 ny) [1/s]    of its modes those of the band count
    spacing : list of float [m]                                 of the coarse grid

    Returns
    -------
    Tensor, shape (b, 3, nx, ny) [m^2/s^2]    xx, xy, yy
    """
    nx, ny = velocity.shape[2], velocity.shape[3]
    small = band_velocity(small_vorticity, spacing)
    u, v = (to_finer_points(velocity) + 0.5 * small).unbind(1)
    du, dv = small.unbind(1)
    half_difference, shear = to_coarse_points(torch.stack((u * du - v * dv, u * dv + v * du), 1), nx, ny).unbind(1)
    return torch.stack((half_difference, shear, -half_difference), 1)


def band_velocity(vorticity: Tensor, spacing: list[float]) -> Tensor:
    """Velocity (b, 2, 2 nx, 2 ny) [m/s] of the modes from k_c to 1.5 k_c of a vorticity (b, 1, 2 nx, 2 ny) [1/s].

    `spacing` [m] is that of the coarse grid. Beyond k_c is a mode that is so along an axis, beyond 1.5 k_c likewise.
    """
    mx, my = vorticity.shape[2], vorticity.shape[3]
    # Not by fftfreq, which would have to be told a device, and a device may not stand in an artifact.
    mode_x = ((torch.arange(mx) + mx // 2) % mx - mx // 2).unsqueeze(1)
    mode_y = torch.arange(my // 2 + 1).unsqueeze(0)
    small = (4 * mode_x.abs() >= mx) | (4 * mode_y >= my)
    # Products of two end below 3 k_c then, and on a grid of twice the points (4 k_c) what is aliased stays beyond k_c.
    held = (8 * mode_x.abs() < 3 * mx) & (8 * mode_y < 3 * my)
    kx = mode_x.type_as(vorticity) * (4 * math.pi / (mx * spacing[0]))
    ky = mode_y.type_as(vorticity) * (4 * math.pi / (my * spacing[1]))
    k2 = kx.square() + ky.square()
    stream = (small & held).type_as(k2) / (k2 + (k2 == 0).type_as(k2)) * torch.fft.rfft2(vorticity)
    along = torch.stack(torch.broadcast_tensors(ky, -kx))
    return torch.fft.irfft2(torch.complex(torch.zeros_like(along), along) * stream, s=[mx, my])


def to_finer_points(field: Tensor) -> Tensor:
    """The same trigonometric polynomial (b, c, 2 nx, 2 ny) of a field (b, c, nx, ny), less its Nyquist modes."""
    nx, ny = field.shape[2], field.shape[3]
    coefficients = torch.fft.rfft2(field, norm="forward")
    return torch.fft.irfft2(with_rows(coefficients, nx, ny, 2 * nx), s=[2 * nx, 2 * ny], norm="forward")


def to_coarse_points(field: Tensor, nx: int, ny: int) -> Tensor:
    """A field (b, c, 2 nx, 2 ny) on the coarse points (b, c, nx, ny), cut off below their Nyquist modes."""
    coefficients = torch.fft.rfft2(field, norm="forward")
    return torch.fft.irfft2(with_rows(coefficients, nx, ny, nx), s=[nx, ny], norm="forward")


def with_rows(coefficients: Tensor, nx: int, ny: int, rows: int) -> Tensor:
    """Modes below the Nyquist ones of nx times ny points, (b, c, rows, ny // 2), with zeros for the other rows."""
    inner = coefficients[:, :, :, : ny // 2]
    between = torch.zeros_like(inner[:, :, :1]).expand(-1, -1, rows - nx + 1, -1)
    return torch.cat((inner[:, :, : nx // 2], between, inner[:, :, inner.shape[2] - nx // 2 + 1 :]), 2)
