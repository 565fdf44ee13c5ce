"""The quadratic term of the equations by FFTs, between learned transfer functions, in place of a host's own fluxes.

    acceleration = B N(A u) + D u + div(flux of the host)
    A = a(q) / F,   B = b(q) F,   D = -nu (k^2 - k_h^2) - R d(q)^2,   q = |k| h / pi    (as factors of a mode)

Legend: F face average, which is what the host means by its velocity: sinc(k h / 2) across each axis but the
component's own; N = -P div(v v), P projection, of point values v on two grids of the host's spacing, one half a cell
from the other along both axes; nu viscosity; k_h^2 what the host's second differences make of k^2; a, b, d learned,
cubics through their values at the knots, functions of |k| alone; R = u_rms / h of the training data; h the largest
spacing.

A product aliased along one axis has opposite signs on the two grids (G. S. Patterson and S. A. Orszag, Phys. Fluids 14,
2538 (1971)). `forward` takes the mean of both. A host takes one at even stages of its step and the other at odd ones,
which in the classical fourth-order step weigh as much, so that the aliases cancel from stage to stage. With FFTs of its
own, as ours has, it also saves those to and from the network: `advection_hat` is two to reach the points and two back,
as many as the host's own fluxes need, and those are neither computed nor taken out.

On a staggered grid of second order most of the commutator is the error of the host's own fluxes. They are taken out,
and the exact term is put in. Untrained, a = b = 1 and d^2 = START (k / kmax)^8: the deconvolved pseudo-spectral term
with hyperviscosity.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsurrogate.models.spline import spline

# The start of d: a rate of START R at kmax, in proportion to k^(2 START_POWER) up to START_TOP kmax, and level beyond,
# so that the corner modes do not set the time step.
START, START_POWER, START_TOP = 0.75, 4, 1.15
# The |k| / kmax up to which modes take part in the quadratic term. The fastest modes are those of the corners: without
# them the host bears a longer step and keeps with the flow as long. In three dimensions the corners hold too much.
CUT = 1.05


class DeconvolutionNet(nn.Module):
    """Velocity on a staggered grid in, acceleration on the same points out, both physical.

    Parameters
    ----------
    shape : tuple of int        points along x and y of the grid that is fastest; others work too
    spacing : tuple of float    h along each axis [m]
    viscosity : float           of the flow [m^2/s]
    knots : int                 values of each function of the wavenumber, evenly spaced up to the largest; at least 2
    velocity_rms : float        root mean square of a velocity component of the training data [m/s]

    Notes
    -----
    Equivariant under the symmetries of the grid, free of net momentum, and zero for a uniform flow, all to round-off;
    in the host the untrained network gives the deconvolved Navier-Stokes equations
    (tests/unit/models/test_deconvolution.py).
    """

    def __init__(
        self, shape: tuple[int, int], spacing: tuple[float, float], viscosity: float, knots: int, velocity_rms: float
    ):
        super().__init__()
        self.nx, self.ny = shape
        self.hx, self.hy = float(spacing[0]), float(spacing[1])
        self.viscosity = viscosity
        self.inverse_kmax = max(spacing) / math.pi
        self.knots_per_kmax = knots_per_kmax(spacing, knots)
        self.cut = (CUT * math.pi / 2) ** 2
        self.values = nn.Parameter(first_values(self.knots_per_kmax, knots))
        self.register_buffer("rate_scale", torch.tensor(velocity_rms / max(spacing)))

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, 2, nx, ny) [m/s^2] of a staggered velocity of the same shape [m/s]."""
        nx, ny = velocity.shape[2], velocity.shape[3]
        velocity_hat = torch.fft.rfft2(velocity)
        twice_hat = self.advection_hat(velocity_hat, ny, 0) + self.advection_hat(velocity_hat, ny, 1)
        return 0.5 * torch.fft.irfft2(twice_hat, s=[nx, ny]) + flux_divergence(velocity, self.hx, self.hy)

    def advection_hat(self, velocity_hat: Tensor, ny: int, stage: int) -> Tensor:
        """What stands in place of the host's -div(u u), both as half-spectra (b, 2, nx, ny // 2 + 1), not scaled.

        Products are taken at the cells' centres at even stages, at their corners at odd ones.
        """
        nx = velocity_hat.shape[2]
        # Of its own grid everything but the velocity is constant, and computed once for an exported network.
        if nx == self.nx and ny == self.ny:
            to_points, from_points, curl, linear = self.tables(self.nx, self.ny)
        else:
            to_points, from_points, curl, linear = self.tables(nx, ny)
        grid = stage % 2
        u, v = torch.fft.irfft2(to_points[grid] * velocity_hat, s=[nx, ny], norm="forward").unbind(1)
        products_hat = torch.fft.rfft2(torch.stack((u * v, (u - v) * (u + v)), 1), norm="forward")
        vorticity_rate_hat = (curl * products_hat).sum(1, keepdim=True)
        return torch.addcmul(linear * velocity_hat, from_points[grid], vorticity_rate_hat)

    def wavenumbers(self, nx: int, ny: int) -> tuple[Tensor, Tensor]:
        """Wavenumbers (nx, 1) and (1, ny // 2 + 1) of the half-spectrum, of the dtype of the parameters [rad/m]."""
        # Not by fftfreq, which would have to be told a device, and a device may not stand in an artifact.
        mode_x = (torch.arange(nx) + nx // 2) % nx - nx // 2
        mode_y = torch.arange(ny // 2 + 1)
        kx = mode_x.type_as(self.values) * (2 * math.pi / (nx * self.hx))
        ky = mode_y.type_as(self.values) * (2 * math.pi / (ny * self.hy))
        return kx.unsqueeze(1), ky.unsqueeze(0)

    def tables(self, nx: int, ny: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Symbols of all linear parts on a grid.

        Returns
        -------
        Tensor, shape (2, 2, nx, ny // 2 + 1), complex    from the state to point values at the centres, at the corners
        Tensor, same shape, complex [m]                   from a vorticity at the centres, at the corners, to the state
        Tensor, shape (2, nx, ny // 2 + 1) [1/m^2]        from u v and u^2 - v^2 to the rate of the vorticity
        Tensor, shape (nx, ny // 2 + 1) [1/s]             D
        """
        kx, ky = self.wavenumbers(nx, ny)
        k2 = kx.square() + ky.square()
        place = k2.sqrt() * (self.inverse_kmax * self.knots_per_kmax)
        before, after, damping = spline(self.values, place).unbind(2)
        half_x, half_y = 0.5 * self.hx * kx, 0.5 * self.hy * ky
        # Below the Nyquist frequencies, whose waves no shift by half a cell can carry, and without the corners.
        below = (half_x.abs() < 0.5 * math.pi - 0.25 / nx) & (half_y < 0.5 * math.pi - 0.25 / ny)
        kept = (below & (half_x.square() + half_y.square() < self.cut)).to(k2.dtype)
        face_average = torch.stack(torch.broadcast_tensors(sinc(half_y), sinc(half_x)))
        half = torch.stack(torch.broadcast_tensors(half_x, half_y))
        phase = torch.stack((half, half + half_x + half_y))
        ones = torch.ones_like(phase)
        to_points = torch.polar(ones / (nx * ny), -phase) * (kept * (1 + before) / face_average)
        curl = torch.stack((kept * (kx.square() - ky.square()), -kept * kx * ky))
        stream = kept * (1 + after) / k2.clamp_min(1e-30) * face_average
        along = torch.stack(torch.broadcast_tensors(ky, -kx))
        from_points = torch.polar(ones * (nx * ny), phase + 0.5 * math.pi) * (along * stream)
        host_k2 = (2 - 2 * torch.cos(2 * half_x)) / self.hx**2 + (2 - 2 * torch.cos(2 * half_y)) / self.hy**2
        linear = self.viscosity * (host_k2 - k2) - self.rate_scale * damping.square() * (k2 > 0)
        return to_points, from_points, curl, linear


def knots_per_kmax(spacing: tuple[float, ...], knots: int) -> float:
    """How many knots there are up to kmax, the last being at the largest wavenumber of the grid."""
    return (knots - 1) / math.hypot(*(max(spacing) / h for h in spacing))


def first_values(knots_per_kmax: float, knots: int) -> Tensor:
    """Values of a - 1, b - 1 and d before training, shape (knots, 3)."""
    ratio = (torch.arange(knots) / knots_per_kmax).clamp_max(START_TOP)
    values = torch.zeros(knots, 3)
    values[:, 2] = math.sqrt(START) * ratio**START_POWER
    return values


def flux_divergence(velocity: Tensor, hx: float, hy: float) -> Tensor:
    """div(u u) of the staggered scheme of second order, (b, 2, nx, ny) [m/s^2].

    Minus `FiniteVolumeSolver.advection` to round-off (tests/unit/models/test_deconvolution.py).
    """
    padded = F.pad(velocity, [1, 1, 1, 1], mode="circular")
    # Rows of the padded field end to end: a neighbour is one place on along y, a row along x. What runs across the ends
    # of the rows lies in the padding of the result. Everything is twice the average.
    row, size = padded.shape[3], velocity.shape[2] * padded.shape[3]
    line = padded.flatten(2)
    u_along_x, v_along_x = (line[:, :, row:] + line[:, :, :-row]).unbind(1)
    u_along_y, v_along_y = (line[:, :, 1 : 1 - row] + line[:, :, :-row]).unbind(1)
    uv = u_along_y * v_along_x
    across_x = torch.stack((u_along_x.square(), uv), 1)
    across_y = torch.stack((uv, v_along_y.square()), 1)
    difference_x = across_x[:, :, row:] - across_x[:, :, :size]
    difference_y = across_y[:, :, row:] - across_y[:, :, row - 1 : -1]
    divergence = torch.add(difference_x * (0.25 / hx), difference_y, alpha=0.25 / hy)
    return divergence.unflatten(2, [velocity.shape[2], row])[:, :, :, 1:-1]


def sinc(x: Tensor) -> Tensor:
    """sin(x) / x without a division by zero, which a host may trap."""
    zero = (x == 0).to(x.dtype)
    return (torch.sin(x) + zero) / (x + zero)
