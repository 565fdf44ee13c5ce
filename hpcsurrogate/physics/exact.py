"""Analytic problems: what a solver, a filter or a user's own code can be held against.

Legend: psi = stream function, u = dpsi/dy, v = -dpsi/dx; a, b = wavenumbers along x and y [rad/m]; nu = viscosity;
mu = drag.
All fields are evaluated at the velocity's own points of a layout (docs/architecture.md, Conventions), batch of one.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hpcsurrogate.core.config import Flow, KolmogorovForcing, NoForcing
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.grid import Grid, velocity_offset


class Wave(NamedTuple):
    """psi = amplitude sin(2 pi (num_x x / Lx + num_y y / Ly) + phase)."""

    amplitude: float  # [m^2/s]
    num_x: int  # waves across the domain
    num_y: int
    phase: float = 0.0  # [rad]


class StreamWaves:
    """A divergence-free field made of plane waves, with every derivative in closed form.

    Parameters
    ----------
    lengths : (float, float)      domain [m]
    waves : sequence of Wave

    Notes
    -----
    Free of divergence and of a mean (tests/physics/test_exact.py).
    """

    def __init__(self, lengths: tuple[float, float], waves: list[Wave]):
        self.lengths, self.waves = lengths, list(waves)

    def derivative(self, x: Tensor, y: Tensor, along_x: int, along_y: int) -> Tensor:
        """d^(along_x + along_y) psi / dx^along_x dy^along_y at points x (nx, 1) and y (1, ny), shape (nx, ny)."""
        total = torch.zeros_like(x * y)
        for wave in self.waves:
            a = 2 * math.pi * wave.num_x / self.lengths[0]
            b = 2 * math.pi * wave.num_y / self.lengths[1]
            # Each derivative turns sine into cosine, cosine into minus sine: a quarter of a period.
            turned = wave.phase + (along_x + along_y) * math.pi / 2
            total = total + wave.amplitude * a**along_x * b**along_y * torch.sin(a * x + b * y + turned)
        return total

    def velocity_at(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """u and v at points x (nx, 1) and y (1, ny), shape (nx, ny) each [m/s]."""
        return self.derivative(x, y, 0, 1), -self.derivative(x, y, 1, 0)

    def velocity(self, grid: Grid, layout: str) -> Tensor:
        """Velocity at its points of a "collocated" or "staggered" layout, shape (1, 2, nx, ny) [m/s]."""
        u, _ = self.velocity_at(*grid.coordinates(velocity_offset(layout, 0, 2)))
        _, v = self.velocity_at(*grid.coordinates(velocity_offset(layout, 1, 2)))
        return torch.stack((u, v))[None]

    def advection(self, grid: Grid, layout: str) -> Tensor:
        """-(u . grad) u at the velocity's points, pressure not included, shape (1, 2, nx, ny) [m/s^2]."""
        at_u, at_v = (grid.coordinates(velocity_offset(layout, component, 2)) for component in (0, 1))
        u, v = self.velocity_at(*at_u)
        along_x = -(u * self.derivative(*at_u, 1, 1) + v * self.derivative(*at_u, 0, 2))
        u, v = self.velocity_at(*at_v)
        along_y = u * self.derivative(*at_v, 2, 0) + v * self.derivative(*at_v, 1, 1)
        return torch.stack((along_x, along_y))[None]


def taylor_green(
    grid: Grid, flow: Flow, time: float, layout: str = "collocated", num_waves: tuple[int, int] = (1, 1)
) -> Tensor:
    """Decaying Taylor-Green vortices: psi = U / kappa sin(a x) sin(b y) exp(-(nu kappa^2 + mu) t), kappa^2 = a^2 + b^2.

    Parameters
    ----------
    grid : Grid
    flow : core.config.Flow       unforced
    time : float [s]
    layout : str                  "collocated" or "staggered"
    num_waves : (int, int)        waves across the domain along x and y

    Returns
    -------
    Tensor, shape (1, 2, nx, ny) [m/s], U = 1 m/s

    Raises
    ------
    ConfigError    if the flow is forced, since then the vortices do not only decay

    Notes
    -----
    Advection is a pure gradient in the continuum (tests/physics/test_exact.py); on a staggered grid too, if a wave has
    as many points along x as along y (tests/physics/test_finite_volume.py).
    """
    if not isinstance(flow.forcing, NoForcing):
        raise ConfigError(f"flow.forcing.kind: Taylor-Green vortices decay unforced, not under {flow.forcing.kind}")
    kappa2 = sum((2 * math.pi * n / length) ** 2 for n, length in zip(num_waves, grid.lengths, strict=True))
    # sin(ax) sin(by) = (cos(ax - by) - cos(ax + by)) / 2; a cosine is a sine a quarter of a period on.
    amplitude = 0.5 / math.sqrt(kappa2) * math.exp(-(flow.viscosity * kappa2 + flow.drag) * time)
    num_x, num_y = num_waves
    waves = [Wave(amplitude, num_x, -num_y, math.pi / 2), Wave(-amplitude, num_x, num_y, math.pi / 2)]
    return StreamWaves(grid.lengths, waves).velocity(grid, layout)


def decaying_shear(
    grid: Grid, flow: Flow, time: float, layout: str = "collocated", amplitudes: tuple[float, ...] = (1.0, 0.5)
) -> Tensor:
    """Parallel shear of several waves, u = sum_n U_n sin(n b y) exp(-(nu n^2 b^2 + mu) t) with b = 2 pi / Ly and v = 0.

    Parameters
    ----------
    grid : Grid
    flow : core.config.Flow              unforced
    time : float [s]
    layout : str                         "collocated" or "staggered"
    amplitudes : tuple of float [m/s]    U_1, U_2, ...

    Returns
    -------
    Tensor, shape (1, 2, nx, ny) [m/s]

    Raises
    ------
    ConfigError    if the flow is forced

    Notes
    -----
    Advection vanishes and every wave decays at a rate of its own (tests/physics/test_exact.py).
    """
    if not isinstance(flow.forcing, NoForcing):
        raise ConfigError(f"flow.forcing.kind: this shear decays unforced, not under {flow.forcing.kind}")
    waves = []
    for number, speed in enumerate(amplitudes, start=1):
        b = 2 * math.pi * number / grid.lengths[1]
        decay = math.exp(-(flow.viscosity * b**2 + flow.drag) * time)
        waves.append(Wave(-speed * decay / b, 0, number, math.pi / 2))
    return StreamWaves(grid.lengths, waves).velocity(grid, layout)


def laminar_kolmogorov(grid: Grid, flow: Flow, layout: str = "collocated") -> Tensor:
    """Steady flow under Kolmogorov forcing: u = A / (nu b^2 + mu) sin(b y), b = 2 pi wavenumber / Ly, v = 0.

    Parameters
    ----------
    grid : Grid
    flow : core.config.Flow    with Kolmogorov forcing of amplitude A
    layout : str               "collocated" or "staggered"

    Returns
    -------
    Tensor, shape (1, 2, nx, ny) [m/s]

    Raises
    ------
    ConfigError    if the forcing is not Kolmogorov's, or neither viscosity nor drag balances it

    Notes
    -----
    Steady, but unstable at a high Reynolds number (tests/physics/test_exact.py).
    """
    if not isinstance(flow.forcing, KolmogorovForcing):
        raise ConfigError(f"flow.forcing.kind: laminar Kolmogorov flow needs kolmogorov, not {flow.forcing.kind}")
    b = 2 * math.pi * flow.forcing.wavenumber / grid.lengths[1]
    damping = flow.viscosity * b**2 + flow.drag
    if damping == 0:
        raise ConfigError("flow: without viscosity and drag the forced flow grows for ever; set one of them")
    wave = Wave(-flow.forcing.amplitude / damping / b, 0, flow.forcing.wavenumber, math.pi / 2)
    return StreamWaves(grid.lengths, [wave]).velocity(grid, layout)
