"""The deconvolved quadratic term of deconvolution.py in three dimensions: the same tables, in velocities.

    acceleration = B N(A u) + D u + div(flux of the host)

Legend: as in deconvolution.py; the points are the centres of the cells at even stages, half a cell from each
component's own face, and their corners at odd ones. In a host with FFTs of its own, three to reach the points and five
back, since the trace of the product goes into the pressure; the host's own fluxes need three and three.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsurrogate.models.deconvolution import first_values, knots_per_kmax, sinc
from hpcsurrogate.models.spline import spline


class DeconvolutionNet3D(nn.Module):
    """Velocity on a staggered grid in, acceleration on the same points out, both physical.

    Parameters
    ----------
    shape : tuple of int        points along each axis of the grid that is fastest; others work too
    spacing : tuple of float    h along each axis [m]
    viscosity : float           of the flow [m^2/s]
    knots : int                 values of each function of the wavenumber, evenly spaced up to the largest; at least 2
    velocity_rms : float        root mean square of a velocity component of the training data [m/s]

    Notes
    -----
    Equivariant under the symmetries of the grid, free of net momentum, and zero for a uniform flow, all to round-off;
    in the host the untrained network gives the deconvolved Navier-Stokes equations
    (tests/unit/models/test_deconvolution_3d.py).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float],
        viscosity: float,
        knots: int,
        velocity_rms: float,
    ):
        super().__init__()
        self.nx, self.ny, self.nz = shape
        self.hx, self.hy, self.hz = (float(h) for h in spacing)
        self.viscosity = viscosity
        self.inverse_kmax = max(spacing) / math.pi
        self.knots_per_kmax = knots_per_kmax(spacing, knots)
        self.values = nn.Parameter(first_values(self.knots_per_kmax, knots))
        self.register_buffer("rate_scale", torch.tensor(velocity_rms / max(spacing)))

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, 3, nx, ny, nz) [m/s^2] of a staggered velocity of the same shape [m/s]."""
        nx, ny, nz = velocity.shape[2], velocity.shape[3], velocity.shape[4]
        velocity_hat = torch.fft.rfftn(velocity, dim=[2, 3, 4])
        twice_hat = self.advection_hat(velocity_hat, nz, 0) + self.advection_hat(velocity_hat, nz, 1)
        rate = 0.5 * torch.fft.irfftn(twice_hat, s=[nx, ny, nz], dim=[2, 3, 4])
        return rate + flux_divergence(velocity, self.hx, self.hy, self.hz)

    def advection_hat(self, velocity_hat: Tensor, nz: int, stage: int) -> Tensor:
        """What stands in place of the host's -div(u u), both half-spectra (b, 3, nx, ny, nz // 2 + 1), not scaled.

        Products are taken at the cells' centres at even stages, at their corners at odd ones.
        """
        nx, ny = velocity_hat.shape[2], velocity_hat.shape[3]
        # Of its own grid everything but the velocity is constant, and computed once for an exported network.
        if nx == self.nx and ny == self.ny and nz == self.nz:
            to_points, from_points, k, along, linear = self.tables(self.nx, self.ny, self.nz)
        else:
            to_points, from_points, k, along, linear = self.tables(nx, ny, nz)
        grid, axes = stage % 2, [2, 3, 4]
        u, v, w = torch.fft.irfftn(to_points[grid] * velocity_hat, s=[nx, ny, nz], dim=axes, norm="forward").unbind(1)
        ww = w * w
        products = torch.stack((u * u - ww, v * v - ww, u * v, u * w, v * w), 1)
        xx, yy, xy, xz, yz = torch.fft.rfftn(products, dim=axes, norm="forward").unbind(1)
        kx, ky, kz = k.unbind(0)
        flux = torch.stack((kx * xx + ky * xy + kz * xz, kx * xy + ky * yy + kz * yz, kx * xz + ky * yz), 1)
        potential = (along * flux).sum(1, keepdim=True)
        return torch.addcmul(linear * velocity_hat, from_points[grid], flux - k * potential)

    def wavenumbers(self, nx: int, ny: int, nz: int) -> Tensor:
        """Wavenumbers of the half-spectrum, shape (3, nx, ny, nz // 2 + 1), of the dtype of the parameters [rad/m]."""
        # Not by fftfreq, which would have to be told a device, and a device may not stand in an artifact.
        mode_x = (torch.arange(nx) + nx // 2) % nx - nx // 2
        mode_y = (torch.arange(ny) + ny // 2) % ny - ny // 2
        mode_z = torch.arange(nz // 2 + 1)
        kx = mode_x.type_as(self.values) * (2 * math.pi / (nx * self.hx))
        ky = mode_y.type_as(self.values) * (2 * math.pi / (ny * self.hy))
        kz = mode_z.type_as(self.values) * (2 * math.pi / (nz * self.hz))
        return torch.stack(torch.broadcast_tensors(kx[:, None, None], ky[:, None], kz))

    def tables(self, nx: int, ny: int, nz: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Symbols of all linear parts on a grid.

        Returns
        -------
        Tensor, shape (2, 3, nx, ny, nz // 2 + 1), complex    from the state to point values at the centres, the corners
        Tensor, same shape, complex                           from k_j T_ij at the centres, at the corners, to the state
        Tensor, shape (3, nx, ny, nz // 2 + 1) [rad/m]        k
        Tensor, same shape [m/rad]                            k / k^2
        Tensor, shape (nx, ny, nz // 2 + 1) [1/s]             D
        """
        k = self.wavenumbers(nx, ny, nz)
        k2 = k.square().sum(0)
        place = k2.sqrt() * (self.inverse_kmax * self.knots_per_kmax)
        before, after, damping = spline(self.values, place).unbind(3)
        kx, ky, kz = k.unbind(0)
        half = torch.stack((0.5 * self.hx * kx, 0.5 * self.hy * ky, 0.5 * self.hz * kz))
        half_x, half_y, half_z = half.unbind(0)
        # Below the Nyquist frequencies, whose waves no shift by half a cell can carry.
        below = (half_x.abs() < 0.5 * math.pi - 0.25 / nx) & (half_y.abs() < 0.5 * math.pi - 0.25 / ny)
        kept = (below & (half_z < 0.5 * math.pi - 0.25 / nz)).to(k2.dtype)
        sx, sy, sz = sinc(half_x), sinc(half_y), sinc(half_z)
        face_average = torch.stack((sy * sz, sx * sz, sx * sy))
        phase = torch.stack((half, half + half_x + half_y + half_z))
        ones = torch.ones_like(phase)
        to_points = torch.polar(ones / (nx * ny * nz), -phase) * (kept * (1 + before) / face_average)
        from_points = torch.polar(ones * (nx * ny * nz), phase - 0.5 * math.pi) * (kept * (1 + after) * face_average)
        host_k2 = (
            (2 - 2 * torch.cos(2 * half_x)) / self.hx**2
            + (2 - 2 * torch.cos(2 * half_y)) / self.hy**2
            + (2 - 2 * torch.cos(2 * half_z)) / self.hz**2
        )
        linear = self.viscosity * (host_k2 - k2) - self.rate_scale * damping.square() * (k2 > 0)
        return to_points, from_points, k, k / k2.clamp_min(1e-30), linear


def flux_divergence(velocity: Tensor, hx: float, hy: float, hz: float) -> Tensor:
    """div(u u) of the staggered scheme of second order, (b, 3, nx, ny, nz) [m/s^2].

    Minus `FiniteVolumeSolver.advection` to round-off (tests/unit/models/test_deconvolution_3d.py).
    """
    u, v, w = F.pad(velocity, [1, 1, 1, 1, 1, 1], mode="circular").unbind(1)
    # Twice the averages. An edge carries two components, each along the other's axis.
    xy = inner(pairs(u[:, :-1], 2) * pairs(v[:, :, :-1], 1), 3)
    xz = inner(pairs(u[:, :-1], 3) * pairs(w[:, :, :, :-1], 1), 2)
    yz = inner(pairs(v[:, :, :-1], 3) * pairs(w[:, :, :, :-1], 2), 1)
    xx, yy, zz = pairs(u, 1).square(), pairs(v, 2).square(), pairs(w, 3).square()
    along_x, along_y, along_z = 0.25 / hx, 0.25 / hy, 0.25 / hz
    of_u = differences(inner(inner(xx, 2), 3), 1) * along_x
    of_v = differences(inner(inner(yy, 1), 3), 2) * along_y
    of_w = differences(inner(inner(zz, 1), 2), 3) * along_z
    of_u = of_u + differences(xy, 2)[:, 1:] * along_y + differences(xz, 3)[:, 1:] * along_z
    of_v = of_v + differences(xy, 1)[:, :, 1:] * along_x + differences(yz, 3)[:, :, 1:] * along_z
    of_w = of_w + differences(xz, 1)[:, :, :, 1:] * along_x + differences(yz, 2)[:, :, :, 1:] * along_y
    return torch.stack((of_u, of_v, of_w), 1)


def pairs(field: Tensor, axis: int) -> Tensor:
    """Sum of neighbours along an axis; one point fewer."""
    size = field.shape[axis] - 1
    return field.narrow(axis, 0, size) + field.narrow(axis, 1, size)


def differences(field: Tensor, axis: int) -> Tensor:
    """Difference of neighbours along an axis; one point fewer."""
    size = field.shape[axis] - 1
    return field.narrow(axis, 1, size) - field.narrow(axis, 0, size)


def inner(field: Tensor, axis: int) -> Tensor:
    """Without the first and the last point of an axis."""
    return field.narrow(axis, 1, field.shape[axis] - 2)
