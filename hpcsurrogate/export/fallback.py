"""The classical closure inside an exported file: what a cell gets that the network must not answer for.

Plain modules that TorchScript can express, so that every host has the same one.
"""

import torch
from torch import Tensor, nn

from hpcsurrogate.physics.differences import (
    centres_to_edges,
    collocated_divergence,
    collocated_gradient,
    edges_to_centres,
    staggered_divergence,
    staggered_gradient,
    total,
)

# Cells away from a cell that the force below depends on, in both layouts (tests/unit/export/test_fallback.py).
FALLBACK_REACH = 2

# [m/s] No flow is faster, and products of two such speeds are far from the largest float32.
LARGEST_SPEED = 1e9


class SmagorinskyForce(nn.Module):
    """-div(tau) with tau_ij = -2 (C Delta)^2 |S| S_ij, by second-order differences.

    Parameters
    ----------
    constant : float            C [-]
    width : float               Delta [m]
    spacing : tuple of float    h along each axis, two or three [m]
    staggered : bool            the layout of velocity and force; collocated if not

    Notes
    -----
    On the staggered layout equal to physics.closures' `Smagorinsky` on that host; on the collocated one local, other
    than on the spectral host. Finite for every input (tests/unit/export/test_fallback.py).
    Smagorinsky 1963, doi:10.1175/1520-0493(1963)091<0099:GCEWTP>2.3.CO;2.
    """

    def __init__(self, constant: float, width: float, spacing: tuple[float, ...], staggered: bool):
        super().__init__()
        self.mixing_area = (constant * width) ** 2
        self.spacing = [float(h) for h in spacing]
        self.staggered = staggered
        self.largest_speed = LARGEST_SPEED

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, d, nx, ny[, nz]) [m/s^2] of a velocity of the same shape [m/s], at the velocity's points."""
        usable = torch.nan_to_num(velocity, 0.0, 0.0, 0.0).clamp(-self.largest_speed, self.largest_speed)
        if self.staggered:
            stress = self._stress(staggered_gradient(usable, self.spacing))
            force = -staggered_divergence(stress, self.spacing)
        else:
            stress = self._stress(collocated_gradient(usable, self.spacing))
            force = -collocated_divergence(stress, self.spacing)
        return torch.nan_to_num(force, 0.0, 0.0, 0.0)

    def _stress(self, gradient: list[Tensor]) -> list[Tensor]:
        """Components xx, xy, ..., each where that of the strain stands."""
        num_dims = len(self.spacing)
        normal: list[Tensor] = []
        shear: list[Tensor] = []
        for row in range(num_dims):
            diagonal = gradient[row * num_dims + row]
            normal.append(diagonal * diagonal)
            for column in range(row + 1, num_dims):
                doubled = gradient[row * num_dims + column] + gradient[column * num_dims + row]
                squared = doubled**2
                shear.append(edges_to_centres(squared, row, column, num_dims) if self.staggered else squared)
        nu_t = self.mixing_area * torch.sqrt(2 * total(normal) + total(shear))
        stress: list[Tensor] = []
        for row in range(num_dims):
            stress.append(-2 * nu_t * gradient[row * num_dims + row])
            for column in range(row + 1, num_dims):
                at_edge = centres_to_edges(nu_t, row, column, num_dims) if self.staggered else nu_t
                stress.append(-at_edge * (gradient[row * num_dims + column] + gradient[column * num_dims + row]))
        return stress
