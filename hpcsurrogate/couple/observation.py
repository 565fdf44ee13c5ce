"""What is kept of a flow at each snapshot time; the same for a coarse run and for the filtered DNS it is held against.

Axes: t = snapshot times, b = starts, x, y = points of the experiment's own host grid, k = shells.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hpcsurrogate.physics.hosts import AnyHost
from hpcsurrogate.physics.spectra import energy, energy_spectrum, enstrophy


@dataclass(frozen=True)
class Observation:
    """A batch of fields at one time, or a stack of them with a leading time axis.

    Enstrophy is that of the vorticity kept here, energy that of the host's whole velocity.
    """

    vorticity: Tensor  # (..., b, x, y) [1/s]
    energy: Tensor  # (..., b) [m^2/s^2]
    enstrophy: Tensor  # (..., b) [1/s^2]
    spectrum: Tensor  # (..., b, k) [m^3/s^2]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Observation":
        """Return the observation with a function applied to every part."""
        return Observation(*(function(part) for part in self._parts()))

    @staticmethod
    def combine(function: Callable[[list[Tensor]], Tensor], observations: Sequence["Observation"]) -> "Observation":
        """Stack or concatenate observations part by part."""
        return Observation(*(function(list(parts)) for parts in zip(*(o._parts() for o in observations), strict=True)))

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.vorticity, self.energy, self.enstrophy, self.spectrum


class Observer:
    """Reduces velocities of a host to what is scored: vorticity on the modes of `shape`, and shells below them."""

    def __init__(self, host: AnyHost, shape: tuple[int, int]):
        self.host = host
        self.shape = shape
        # Just below the Nyquist wavenumber, so that round-off cannot let its shell in.
        self.cutoff = (1 - 1e-6) * min(math.pi * n / length for n, length in zip(shape, host.grid.lengths, strict=True))

    def observe(self, velocity: Tensor) -> Observation:
        """Observe velocities.

        Parameters
        ----------
        velocity : Tensor, shape (b, 2, nx, ny) [m/s]    at the points of the host

        Returns
        -------
        Observation without a time axis; not finite where the velocity is not
        """
        vorticity = truncate(self.host.vorticity(velocity), self.shape)
        wavenumber, spectrum = energy_spectrum(velocity, self.host.grid)
        return Observation(vorticity, energy(velocity), enstrophy(vorticity), spectrum[..., self._shells(wavenumber)])

    def wavenumbers(self, velocity: Tensor) -> Tensor:
        """Return the wavenumbers [rad/m] of the shells in `Observation.spectrum`, shape (k,)."""
        wavenumber, _ = energy_spectrum(velocity, self.host.grid)
        return wavenumber[self._shells(wavenumber)]

    def _shells(self, wavenumber: Tensor) -> Tensor:
        # The mean flow has no shell of its own on a logarithmic axis.
        return (wavenumber > 0) & (wavenumber < self.cutoff)


def truncate(field: Tensor, shape: tuple[int, int]) -> Tensor:
    """Keep the modes |kx| < nx/2, |ky| < ny/2 of a coarser (or the same) grid, and return the field on its points.

    Parameters
    ----------
    field : Tensor, shape (..., Nx, Ny)
    shape : tuple of int    even numbers nx <= Nx and ny <= Ny of points

    Returns
    -------
    Tensor, shape (..., nx, ny), same unit

    Notes
    -----
    Exact for a field that has only these modes; the Nyquist modes go, as a real field has only half of each
    (tests/unit/couple/test_observation.py).
    """
    half_x, half_y = shape[0] // 2, shape[1] // 2
    modes = torch.fft.rfft2(field, norm="forward")
    kept = modes.new_zeros((*field.shape[:-2], shape[0], half_y + 1))
    kept[..., :half_x, :half_y] = modes[..., :half_x, :half_y]
    kept[..., -(half_x - 1) :, :half_y] = modes[..., -(half_x - 1) :, :half_y]
    return torch.fft.irfft2(kept, s=shape, norm="forward")
