"""Energy spectrum, energy, enstrophy and the terms of the energy budget, in two and three dimensions and either layout.

Legend: E(k) = energy spectrum [m^3/s^2]; T(k) = transfer spectrum [m^3/s^3]; dk = 2 pi / max(L) shell width [rad/m];
nu = viscosity [m^2/s]; mu = drag [1/s]; < > = mean over the box. A shell is a ring in two dimensions.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hpcsurrogate.core.config import Flow
from hpcsurrogate.core.errors import ShapeError
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.stress_operators import StressOperators


def energy_spectrum(velocity: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the energy of the fluctuations in shells of width dk around k = dk, 2 dk, ...; the mean flow has no shell.

    Parameters
    ----------
    velocity : Tensor, shape (batch, d, nx, ny[, nz]) [m/s]    collocated or staggered: half a cell only turns phases
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
    coefficients = _coefficients("energy_spectrum", velocity, grid)
    return _shell_sums(0.5 * coefficients.abs().square().sum(-1 - grid.num_dims), grid)


def transfer_spectrum(velocity: Tensor, acceleration: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the rate at which an acceleration brings energy into each shell of `energy_spectrum`.

    Parameters
    ----------
    velocity : Tensor, shape (batch, d, nx, ny[, nz]) [m/s]
    acceleration : Tensor, same shape [m/s^2]    at the velocity's points: a force, a closure, the exact SGS force
    grid : Grid

    Returns
    -------
    k : Tensor, shape (num_shells,) [rad/m]
    transfer : Tensor, shape (batch, num_shells) [m^3/s^3]    T(k): negative where energy is taken out

    Raises
    ------
    ShapeError    if one of the two is not on the grid

    Notes
    -----
    sum(transfer) dk is the work <u.a> less that on the mean flow, to round-off; of a linear damping at the rate r it
    is -2 r E(k) (tests/physics/test_spectra.py).
    """
    velocity_hat = _coefficients("transfer_spectrum", velocity, grid)
    acceleration_hat = _coefficients("transfer_spectrum", acceleration, grid)
    return _shell_sums((velocity_hat.conj() * acceleration_hat).real.sum(-1 - grid.num_dims), grid)


def _coefficients(name: str, field: Tensor, grid: Grid) -> Tensor:
    """Half-spectrum of a vector field, normalised so that a mode's square is its part of the mean square."""
    if tuple(field.shape[-1 - grid.num_dims :]) != (grid.num_dims, *grid.shape):
        raise ShapeError(f"{name}: the field {tuple(field.shape)} is not (batch, {grid.num_dims}) on {grid}")
    return torch.fft.rfftn(field, dim=tuple(range(-grid.num_dims, 0))) / math.prod(grid.shape)


def _shell_sums(of_modes: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return k and the sums over the modes of each shell over dk, (batch, half-spectrum) -> (batch, num_shells)."""
    shell_width = 2 * math.pi / max(grid.lengths)
    # A mode between zero and Nyquist on the last axis stands for its conjugate too, which the half-spectrum leaves out.
    of_modes[..., 1 : grid.shape[-1] // 2] *= 2
    shell = torch.round(grid.k2.sqrt() / shell_width).long().flatten()
    num_shells = int(shell.max())
    sums = of_modes.new_zeros(of_modes.shape[: -grid.num_dims] + (num_shells + 1,))
    sums = sums.index_add(-1, shell, of_modes.flatten(-grid.num_dims))[..., 1:] / shell_width
    return shell_width * torch.arange(1, num_shells + 1, dtype=grid.dtype, device=grid.device), sums


def energy(velocity: Tensor) -> Tensor:
    """Return <u_i u_i> / 2 of each sample: (batch, d, nx, ny[, nz]) [m/s] -> (batch,) [m^2/s^2]."""
    return 0.5 * _box_mean(velocity.square())


def enstrophy(vorticity: Tensor) -> Tensor:
    """Return <omega_i omega_i> / 2 of each sample [1/s^2], shape (batch,).

    Parameters
    ----------
    vorticity : Tensor, shape (batch, nx, ny) in two dimensions, (batch, 3, nx, ny, nz) in three [1/s]
    """
    if vorticity.dim() == 3:
        vorticity = vorticity[:, None]
    return 0.5 * _box_mean(vorticity.square())


def _box_mean(of_components: Tensor) -> Tensor:
    """Sum over components, mean over the box: (batch, components, nx, ny[, nz]) -> (batch,)."""
    return of_components.sum(1).flatten(1).mean(1)


class EnergyBudget(NamedTuple):
    """Rates of change of the kinetic energy per mass, each of shape (batch,) [m^2/s^3]; their sum is dE/dt."""

    injection: Tensor
    viscous: Tensor
    drag: Tensor

    @property
    def total(self) -> Tensor:
        """Rate of change of the energy, shape (batch,) [m^2/s^3]."""
        return self.injection + self.viscous + self.drag


def energy_budget(velocity: Tensor, force: Tensor, flow: Flow, operators: StressOperators) -> EnergyBudget:
    """Return injection <u.f>, viscous loss -nu <|grad u|^2> and drag loss -mu <|u|^2> of each sample.

    Parameters
    ----------
    velocity : Tensor, shape (batch, d, nx, ny[, nz]) [m/s]
    force : Tensor, same shape or broadcast to it [m/s^2]    body force at the velocity's points
    flow : core.config.Flow
    operators : StressOperators                              of the velocity's layout

    Returns
    -------
    EnergyBudget

    Notes
    -----
    Advection moves energy but makes none, so it has no term. The viscous loss is that of the discrete Laplacian
    div(grad u) of the same operators, to round-off (tests/physics/test_spectra.py).
    """
    squared_gradient = sum(part.square().flatten(1).mean(1) for part in operators.velocity_gradient(velocity))
    return EnergyBudget(
        injection=_box_mean(velocity * force),
        viscous=-flow.viscosity * squared_gradient,
        drag=-2 * flow.drag * energy(velocity),
    )
