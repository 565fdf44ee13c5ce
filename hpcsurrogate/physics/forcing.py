"""Steady body forces as Fourier coefficients, so that any grid and any layout can evaluate them exactly."""

import math

import torch
from torch import Tensor

from hpcsurrogate.core.config import Forcing, KolmogorovForcing, NoForcing
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.grid import Grid


def body_force_hat(forcing: Forcing, grid: Grid, points_per_wave: int = 2) -> Tensor | None:
    """`rfft2` coefficients of the body force on the collocated points of `grid`.

    Parameters
    ----------
    forcing : a section of core.config
    grid : Grid, must resolve the forcing
    points_per_wave : int    the solver keeps waves of more points than that: 2, or 3 under the 2/3 rule

    Returns
    -------
    Tensor, complex, shape (2, nx, ny // 2 + 1) [m/s^2], or None without forcing. Free of divergence and mean.

    Raises
    ------
    ConfigError    if the grid does not resolve the forcing wavenumber (the force would be lost without a word)
    """
    if isinstance(forcing, NoForcing):
        return None
    if points_per_wave * forcing.wavenumber >= min(grid.shape):
        raise ConfigError(
            f"flow.forcing.wavenumber: {forcing.wavenumber} waves need a grid of more than "
            f"{points_per_wave * forcing.wavenumber} points along each axis here, not {grid.shape}"
        )
    if isinstance(forcing, KolmogorovForcing):
        return _kolmogorov(forcing.wavenumber, forcing.amplitude, grid)
    return _ring(forcing.wavenumber, forcing.amplitude, forcing.seed, grid)


def _zeros(grid: Grid) -> Tensor:
    nx, ny = grid.shape
    complex_dtype = torch.complex64 if grid.dtype == torch.float32 else torch.complex128
    return torch.zeros(2, nx, ny // 2 + 1, dtype=complex_dtype, device=grid.device)


def _kolmogorov(wavenumber: int, amplitude: float, grid: Grid) -> Tensor:
    """f_x = amplitude sin(2 pi wavenumber y / Ly): one coefficient, -i/2 amplitude times the number of points."""
    force_hat = _zeros(grid)
    force_hat[0, 0, wavenumber] = -0.5j * amplitude * grid.shape[0] * grid.shape[1]
    return force_hat


def _ring(wavenumber: int, amplitude: float, seed: int, grid: Grid) -> Tensor:
    """Stream function of unit modes with random phases on the shell; phases depend on (seed, mode), not on the grid."""
    generator = torch.Generator().manual_seed(seed)
    stream_hat = _zeros(grid)[0]
    largest = wavenumber + 1
    phases = 2 * math.pi * torch.rand(2 * largest + 1, largest + 1, generator=generator, dtype=torch.float64)
    for mx in range(-largest, largest + 1):
        for my in range(0, largest + 1):
            on_shell = abs(math.hypot(mx, my) - wavenumber) <= 0.5
            if on_shell and (my > 0 or mx > 0):
                phase = phases[mx + largest, my].item()
                stream_hat[mx, my] = complex(math.cos(phase), math.sin(phase)) / math.hypot(mx, my)
                if my == 0:
                    stream_hat[-mx, 0] = stream_hat[mx, 0].conj()
    force_hat = torch.stack((1j * grid.ky * stream_hat, -1j * grid.kx * stream_hat))
    force = torch.fft.irfft2(force_hat, s=grid.shape)
    rms = force.square().sum(0).mean().sqrt()
    return force_hat * (amplitude / rms)
