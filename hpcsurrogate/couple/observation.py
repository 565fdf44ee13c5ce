"""What is kept of a flow at each snapshot time; the same for a coarse run and for the filtered DNS it is held against.

Axes: t = snapshot times, b = starts, x, y[, z] = points of the experiment's own host grid, k = shells, q = quantiles;
d = dimensions of space. < > = mean over the box; S = strain rate [1/s], |S| = sqrt(2 S_ij S_ij).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.config import ConstantPowerForcing
from hpcsurrogate.physics.forcing import LargeScaleDrive
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import AnyHost
from hpcsurrogate.physics.spectra import energy_spectrum

NUM_QUANTILES = 256
DISTRIBUTIONS = ("vorticity", "strain")
# Of the energy and of the enstrophy: what the body force brings and what the resolved viscous stress takes.
RATES = ("injection", "viscous", "enstrophy_injection", "enstrophy_viscous")


@dataclass(frozen=True)
class Statistics:
    """Numbers of a batch of fields at one time, or a stack of them with leading axes.

    Energy, its rates and its spectrum are those of the host's whole velocity; all else is of the modes that are scored.
    """

    energy: Tensor  # (..., b) [m^2/s^2]
    enstrophy: Tensor  # (..., b) [1/s^2]
    spectrum: Tensor  # (..., b, k) [m^3/s^2]
    quantiles: Tensor  # (..., b, 2, q) [1/s], of the vorticity (all its components as one sample) and of |S|
    rates: Tensor  # (..., b, 4), those of `RATES` [m^2/s^3], [1/s^3]

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return the same with a function applied to every part."""
        return type(self)(**{part.name: function(getattr(self, part.name)) for part in fields(self)})

    @classmethod
    def combine(cls, function: Callable[[list[Tensor]], Tensor], observations: Sequence[Self]) -> Self:
        """Stack or concatenate observations part by part."""
        return cls(**{part.name: function([getattr(o, part.name) for o in observations]) for part in fields(cls)})

    @property
    def statistics(self) -> "Statistics":
        """The numbers without the fields."""
        return Statistics(**{part.name: getattr(self, part.name) for part in fields(Statistics)})


@dataclass(frozen=True)
class Observation(Statistics):
    """The same with the fields on the modes that are scored."""

    velocity: Tensor  # (..., b, d, x, y[, z]) [m/s]
    vorticity: Tensor  # (..., b, x, y) or (..., b, 3, x, y, z) [1/s]


class Observer:
    """Reduces velocities of a host to what is scored: the modes of `shape`, and shells below them.

    Parameters
    ----------
    host : AnyHost
    shape : tuple of int    points of the grid whose modes are scored
    whole : bool            without it quantiles and rates are NaN, and an observation takes half the time
    """

    def __init__(self, host: AnyHost, shape: tuple[int, ...], whole: bool = True):
        self.host = host
        self.shape = shape
        self.whole = whole
        self._axes = tuple(range(-len(shape), 0))
        self._force = BodyForce(host)
        self._steady: tuple[Tensor, Tensor] | None = None
        self._scored_k2 = Grid(shape, host.grid.lengths, host.grid.dtype, host.grid.device).k2
        # Just below the Nyquist wavenumber, so that round-off cannot let its shell in.
        self.cutoff = (1 - 1e-6) * min(math.pi * n / length for n, length in zip(shape, host.grid.lengths, strict=True))

    def observe(self, velocity: Tensor) -> Observation:
        """Observe velocities.

        Parameters
        ----------
        velocity : Tensor, shape (b, d, nx, ny[, nz]) [m/s]    at the points of the host

        Returns
        -------
        Observation without a time axis; not finite where the velocity is not
        """
        host, axes = self.host, self._axes
        vorticity = truncate(host.vorticity(velocity), self.shape)
        wavenumber, spectrum = energy_spectrum(velocity, host.grid)
        if self.whole:
            gradient = host.operators.velocity_gradient(velocity)
            strain = self._strain(gradient).flatten(1)
            samples = torch.stack((quantiles(vorticity.flatten(1)), quantiles(strain)), 1)
            rates = self._rates(velocity, gradient, vorticity)
        else:
            samples = velocity.new_full((len(velocity), len(DISTRIBUTIONS), NUM_QUANTILES), torch.nan)
            rates = velocity.new_full((len(velocity), len(RATES)), torch.nan)
        return Observation(
            energy=0.5 * velocity.square().mean(axes).sum(1),
            enstrophy=0.5 * vorticity.square().mean(axes).reshape(len(velocity), -1).sum(1),
            spectrum=spectrum[..., self._shells(wavenumber)],
            quantiles=samples,
            rates=rates,
            velocity=truncate(velocity, self.shape),
            vorticity=vorticity,
        )

    def wavenumbers(self, velocity: Tensor) -> Tensor:
        """Return the wavenumbers [rad/m] of the shells in `Observation.spectrum`, shape (k,)."""
        wavenumber, _ = energy_spectrum(velocity, self.host.grid)
        return wavenumber[self._shells(wavenumber)]

    def _shells(self, wavenumber: Tensor) -> Tensor:
        # The mean flow has no shell of its own on a logarithmic axis.
        return (wavenumber > 0) & (wavenumber < self.cutoff)

    def _rates(self, velocity: Tensor, gradient: tuple[Tensor, ...], vorticity: Tensor) -> Tensor:
        """Return those of `RATES`, shape (b, 4)."""
        axes, per_start = self._axes, (len(velocity), -1)
        force, force_vorticity = self._force_and_vorticity(velocity)
        rates = (
            (velocity * force).sum(1).mean(axes),
            -self.host.flow.viscosity * sum(part.square().mean(axes) for part in gradient),
            (vorticity * force_vorticity).mean(axes).reshape(per_start).sum(1),
            self._enstrophy_viscous(vorticity).reshape(per_start).sum(1),
        )
        return torch.stack(rates, 1)

    def _force_and_vorticity(self, velocity: Tensor) -> tuple[Tensor, Tensor]:
        """Return the body force on the host's points and its vorticity on the scored modes; a steady one is kept."""
        if self._steady is not None:
            return self._steady
        force = self._force(velocity)
        found = force, truncate(self.host.vorticity(force), self.shape)
        if self._force.is_steady:
            self._steady = found
        return found

    def _strain(self, gradient: tuple[Tensor, ...]) -> Tensor:
        """Return |S| at the centres of the scored grid."""
        d, to_centre = self.host.grid.num_dims, self.host.operators.to_centre
        diagonal = torch.stack([gradient[i * d + i] for i in range(d)])
        pairs = [(i, j) for i in range(d) for j in range(i + 1, d)]
        shear = torch.stack([to_centre(0.5 * (gradient[i * d + j] + gradient[j * d + i]), i, j) for i, j in pairs])
        parts = truncate(torch.cat((diagonal, shear)), self.shape).square()
        return (2 * parts[:d].sum(0) + 4 * parts[d:].sum(0)).sqrt()

    def _enstrophy_viscous(self, vorticity: Tensor) -> Tensor:
        """Return -nu <|grad omega|^2> of each component, from its modes."""
        modes = torch.fft.rfftn(vorticity, dim=self._axes, norm="forward").abs().square()
        # Every mode but those with none along the last axis stands for its conjugate too.
        modes[..., 1:] *= 2
        return -self.host.flow.viscosity * (self._scored_k2 * modes).sum(self._axes)


class BodyForce:
    """The body force of a host at its own points, free of divergence.

    Parameters
    ----------
    host : AnyHost

    Notes
    -----
    A force that follows the velocity does work at its power to round-off (tests/unit/couple/test_observation.py).
    """

    def __init__(self, host: AnyHost):
        grid, forcing = host.grid, host.flow.forcing
        self._axes = tuple(range(-grid.num_dims, 0))
        self._drive = LargeScaleDrive(forcing, grid.k, grid) if isinstance(forcing, ConstantPowerForcing) else None
        # What sets a fluid at rest in motion is the steady force.
        at_rest = torch.zeros(1, grid.num_dims, *grid.shape, dtype=grid.dtype, device=grid.device)
        self._steady = host.tendency(at_rest) if self._drive is None else None

    @property
    def is_steady(self) -> bool:
        """Whether the force is the same for all velocities."""
        return self._drive is None

    def __call__(self, velocity: Tensor) -> Tensor:
        """Return the force, shape (b, d, nx, ny[, nz]) or broadcast to it [m/s^2], on a velocity of that shape."""
        if self._drive is None:
            return self._steady
        modes = torch.fft.rfftn(velocity, dim=self._axes)
        force = self._drive.add_to(torch.zeros_like(modes), modes)
        return torch.fft.irfftn(force, s=velocity.shape[2:], dim=self._axes)


def quantiles(samples: Tensor) -> Tensor:
    """Return values at evenly spaced ranks: shape (b, n) in, (b, `NUM_QUANTILES`) out, ascending, same unit."""
    ranks = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES * samples.shape[1]
    # Of what torch and numpy offer, by far the faster sort.
    ordered = np.sort(samples.cpu().numpy(), axis=1)
    return torch.from_numpy(ordered[:, ranks.astype(int)]).to(samples.device)


def truncate(field: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Keep the modes |kx| < nx/2, |ky| < ny/2, ... of a coarser (or the same) grid; return the field on its points.

    Parameters
    ----------
    field : Tensor, shape (..., Nx, Ny[, Nz])
    shape : tuple of int    even numbers nx <= Nx, ny <= Ny[, nz <= Nz] of points

    Returns
    -------
    Tensor, shape (..., nx, ny[, nz]), same unit

    Notes
    -----
    Exact for a field that has only these modes; the Nyquist modes go, as a real field has only half of each
    (tests/unit/couple/test_observation.py).
    """
    axes = tuple(range(-len(shape), 0))
    modes = torch.fft.rfftn(field, dim=axes, norm="forward")
    for axis in axes:
        half = shape[axis] // 2
        parts = [modes.narrow(axis, 0, half), torch.zeros_like(modes.narrow(axis, 0, 1))]
        if axis != -1:
            parts.append(modes.narrow(axis, modes.shape[axis] - half + 1, half - 1))
        modes = torch.cat(parts, axis)
    return torch.fft.irfftn(modes, s=shape, dim=axes, norm="forward")
