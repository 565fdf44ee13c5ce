"""Exact derivatives of periodic fields by FFTs, as functions that TorchScript takes: what cell_stress.py is to a local
network, for one that works on the whole field of a spectral host.

Legend: b batch; c components; d = 2 or 3 dimensions; spacing = h of each axis [m], its length is d; other symbols as in
cell_stress.py. The Nyquist mode of an axis has no derivative along it: its sine part is invisible on the grid.
"""

import math

import torch
from torch import Tensor

from hpcsurrogate.physics.differences import symmetric_index


def derivatives(field: Tensor, spacing: list[float]) -> Tensor:
    """Derivatives along every axis, (b, c, d, nx, ny[, nz]), of a field (b, c, nx, ny[, nz]).

    Notes
    -----
    Those of physics/stress_operators.py `SpectralOperators` (tests/unit/models/test_spectral_cells.py).
    """
    num_dims = len(spacing)
    sizes = field.shape[2:]
    axes = [2, 3] if num_dims == 2 else [2, 3, 4]
    coefficients = torch.fft.rfftn(field, dim=axes)
    parts: list[Tensor] = []
    for axis in range(num_dims):
        wavenumber = wavenumbers(field, sizes[axis], spacing[axis], axis == num_dims - 1)
        for _ in range(num_dims - 1 - axis):
            wavenumber = wavenumber.unsqueeze(-1)
        symbol = torch.complex(torch.zeros_like(wavenumber), wavenumber)
        parts.append(torch.fft.irfftn(coefficients * symbol, s=sizes, dim=axes))
    return torch.stack(parts, 2)


def wavenumbers(like: Tensor, points: int, spacing: float, half: bool) -> Tensor:
    """Of the modes of an axis, or of the non-negative ones, with zero for Nyquist's, shape (modes,) [rad/m]."""
    # Not by fftfreq, which would have to be told a device, and a device may not stand in an artifact.
    modes = torch.arange(points // 2 + 1) if half else (torch.arange(points) + points // 2) % points - points // 2
    modes = modes * (2 * modes.abs() != points)
    return modes.type_as(like) * (2 * math.pi / (points * spacing))


def spectral_gradient(velocity: Tensor, spacing: list[float]) -> Tensor:
    """Velocity gradient (b, d*d, nx, ny[, nz]) [1/s], row by row, of a velocity (b, d, nx, ny[, nz]) [m/s]."""
    return derivatives(velocity, spacing).flatten(1, 2)


def spectral_force(stress: Tensor, spacing: list[float]) -> Tensor:
    """Minus the divergence (b, d, nx, ny[, nz]) [m/s^2] of a symmetric stress (b, d(d+1)/2, nx, ny[, nz]) [m^2/s^2]."""
    num_dims = len(spacing)
    slopes = derivatives(stress, spacing)
    force: list[Tensor] = []
    for row in range(num_dims):
        terms: list[Tensor] = []
        for axis in range(num_dims):
            terms.append(slopes[:, symmetric_index(row, axis, num_dims), axis])
        force.append(-torch.stack(terms, 0).sum(0))
    return torch.stack(force, 1)
