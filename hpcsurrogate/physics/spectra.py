"""Energy spectrum, energy, enstrophy and the terms of the energy budget, for either layout.

Legend: E(k) = energy spectrum [m^3/s^2]; dk = 2 pi / max(Lx, Ly) shell width [rad/m]; nu = viscosity [m^2/s];
mu = drag [1/s]; < > = mean over the box.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hpcsurrogate.core.config import Flow
from hpcsurrogate.core.errors import ShapeError
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.stress_operators import StressOperators


def energy_spectrum(velocity_bcxy: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the energy of the fluctuations in shells of width dk around k = dk, 2 dk, ...; the mean flow has no shell.

    Parameters
    ----------
    velocity_bcxy : Tensor, shape (batch, 2, nx, ny) [m/s]    collocated or staggered: half a cell only turns phases
    grid : Grid

    Returns
    -------
    k : Tensor, shape (num_shells,) [rad/m]            num_shells = round(largest |k| of the grid / dk)
    spectrum : Tensor, shape (batch, num_shells) [m^3/s^2]

    Raises
    ------
    ShapeError    if the velocity is not on the grid

    Notes
    -----
    Parseval: sum(spectrum) dk equals `energy` of the velocity less its mean, to round-off, corner and Nyquist modes
    included (tests/physics/test_spectra.py).
    """
    if tuple(velocity_bcxy.shape[-3:]) != (2, *grid.shape):
        raise ShapeError(f"energy_spectrum: velocity {tuple(velocity_bcxy.shape)} is not (batch, 2) on {grid}")
    num_x, num_y = grid.shape
    shell_width = 2 * math.pi / max(grid.lengths)
    coefficients = torch.fft.rfft2(velocity_bcxy) / (num_x * num_y)
    mode_energy = 0.5 * coefficients.abs().square().sum(-3)
    # A mode with 0 < ky < Nyquist stands for itself and for its conjugate, which rfft2 leaves out.
    mode_energy[..., 1 : num_y // 2] *= 2
    shell = torch.round(grid.k2.sqrt() / shell_width).long().flatten()
    num_shells = int(shell.max())
    spectrum = mode_energy.new_zeros(mode_energy.shape[:-2] + (num_shells + 1,))
    spectrum = spectrum.index_add(-1, shell, mode_energy.flatten(-2))[..., 1:] / shell_width
    return shell_width * torch.arange(1, num_shells + 1, dtype=grid.dtype, device=grid.device), spectrum


def energy(velocity_bcxy: Tensor) -> Tensor:
    """Return <u^2 + v^2> / 2 of each sample: (batch, 2, nx, ny) [m/s] -> (batch,) [m^2/s^2]."""
    return 0.5 * velocity_bcxy.square().sum(-3).mean((-2, -1))


def enstrophy(vorticity_bxy: Tensor) -> Tensor:
    """Return <omega^2> / 2 of each sample: (batch, nx, ny) [1/s] -> (batch,) [1/s^2]."""
    return 0.5 * vorticity_bxy.square().mean((-2, -1))


class EnergyBudget(NamedTuple):
    """Rates of change of the kinetic energy per mass, each of shape (batch,) [m^2/s^3]; their sum is dE/dt."""

    injection: Tensor
    viscous: Tensor
    drag: Tensor

    @property
    def total(self) -> Tensor:
        """Rate of change of the energy, shape (batch,) [m^2/s^3]."""
        return self.injection + self.viscous + self.drag


def energy_budget(velocity_bcxy: Tensor, force_bcxy: Tensor, flow: Flow, operators: StressOperators) -> EnergyBudget:
    """Return injection <u.f>, viscous loss -nu <|grad u|^2> and drag loss -mu <|u|^2> of each sample.

    Parameters
    ----------
    velocity_bcxy : Tensor, shape (batch, 2, nx, ny) [m/s]
    force_bcxy : Tensor, same shape or broadcast to it [m/s^2]    body force at the velocity's points
    flow : core.config.Flow
    operators : StressOperators                                   of the velocity's layout

    Returns
    -------
    EnergyBudget

    Notes
    -----
    Advection moves energy but makes none, so it has no term. The viscous loss is that of the discrete Laplacian
    div(grad u) of the same operators, to round-off (tests/physics/test_spectra.py).
    """
    squared_gradient = sum(part.square().mean((-2, -1)) for part in operators.velocity_gradient(velocity_bcxy))
    return EnergyBudget(
        injection=(velocity_bcxy * force_bcxy).sum(-3).mean((-2, -1)),
        viscous=-flow.viscosity * squared_gradient,
        drag=-2 * flow.drag * energy(velocity_bcxy),
    )
