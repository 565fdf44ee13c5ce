"""Analytic velocity fields in three dimensions: what a solver, a filter or a user's own code can be held against.

All are evaluated at the velocity's own points of a layout (docs/architecture.md, Conventions), batch of one.
"""

import math

import torch
from torch import Tensor

from hpcsurrogate.core.config import Flow, NoForcing
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.grid import Grid, velocity_offset


def abc_flow(
    grid: Grid,
    flow: Flow,
    time: float,
    layout: str = "collocated",
    num_waves: int = 1,
    amplitudes: tuple[float, float, float] = (1.0, 0.7, 0.43),
) -> Tensor:
    """Decaying Arnold-Beltrami-Childress flow: curl u = k u, an exact solution of the Navier-Stokes equations.

    u = A sin kz + C cos ky, v = B sin kx + A cos kz, w = C sin ky + B cos kx, all times exp(-(nu k^2 + mu) t).

    Parameters
    ----------
    grid : Grid                                  each length a whole multiple of the shortest, Lmin
    flow : core.config.Flow                      unforced
    time : float [s]
    layout : str                                 "collocated" or "staggered"
    num_waves : int                              k = 2 pi num_waves / Lmin
    amplitudes : (float, float, float) [m/s]     A, B, C

    Returns
    -------
    Tensor, shape (1, 3, nx, ny, nz) [m/s]

    Raises
    ------
    ConfigError    if the flow is forced, or the wave does not fit the box

    Notes
    -----
    Vorticity parallel to velocity makes advection a gradient, so that it only decays
    (tests/physics/test_spectral_3d.py). T. Dombre et al., J. Fluid Mech. 167 (1986) 353.
    """
    if not isinstance(flow.forcing, NoForcing):
        raise ConfigError(f"flow.forcing.kind: an ABC flow decays unforced, not under {flow.forcing.kind}")
    shortest = min(grid.lengths)
    if any(abs(length / shortest - round(length / shortest)) > 1e-9 for length in grid.lengths):
        raise ConfigError(f"flow.domain: {grid.lengths}: an ABC flow needs lengths that are multiples of the shortest")
    k = 2 * math.pi * num_waves / shortest
    decay = math.exp(-(flow.viscosity * k**2 + flow.drag) * time)
    components = []
    for i in range(3):  # sines of the axis before, cosines of the one after
        points = grid.coordinates(velocity_offset(layout, i, 3))
        field = amplitudes[i] * torch.sin(k * points[i - 1]) + amplitudes[i - 1] * torch.cos(k * points[(i + 1) % 3])
        components.append(decay * field.expand(grid.shape))
    return torch.stack(components)[None]


def taylor_green_vortex(grid: Grid, layout: str = "collocated") -> Tensor:
    """Start of the Taylor-Green vortex: u = sin ax cos by cos cz, v = -(a/b) cos ax sin by cos cz, w = 0.

    Parameters
    ----------
    grid : Grid      a, b, c = 2 pi / Lx, 2 pi / Ly, 2 pi / Lz
    layout : str     "collocated" or "staggered"

    Returns
    -------
    Tensor, shape (1, 3, nx, ny, nz) [m/s]

    Notes
    -----
    Its dissipation later is published: M. E. Brachet et al., J. Fluid Mech. 130 (1983) 411
    (tests/physics/test_taylor_green.py).
    """
    (a, b, c), components = (2 * math.pi / length for length in grid.lengths), []
    x, y, z = grid.coordinates(velocity_offset(layout, 0, 3))
    components.append(torch.sin(a * x) * torch.cos(b * y) * torch.cos(c * z))
    x, y, z = grid.coordinates(velocity_offset(layout, 1, 3))
    components.append(-(a / b) * torch.cos(a * x) * torch.sin(b * y) * torch.cos(c * z))
    components.append(torch.zeros_like(components[0]))
    return torch.stack(components)[None]


def extruded(velocity_bcxy: Tensor, num_points: int) -> Tensor:
    """A two-dimensional velocity (b, 2, nx, ny) as one of three dimensions that does not vary along z.

    Parameters
    ----------
    velocity_bcxy : Tensor [m/s]    of either layout
    num_points : int                along z

    Returns
    -------
    Tensor, shape (b, 3, nx, ny, num_points) [m/s], w = 0
    """
    plane = torch.cat((velocity_bcxy, torch.zeros_like(velocity_bcxy[:, :1])), dim=1)
    return plane[..., None].expand(*plane.shape, num_points)
