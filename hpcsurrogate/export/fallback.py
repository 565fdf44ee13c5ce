"""The classical closure inside an exported file: what a cell gets that the network must not answer for.

Plain modules that TorchScript can express, so that every host has the same one.
"""

import torch
from torch import Tensor, nn

from hpcsurrogate.physics.differences import (
    centres_to_corners,
    collocated_divergence,
    collocated_gradient,
    corners_to_centres,
    staggered_divergence,
    staggered_gradient,
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
    spacing : (float, float)    hx, hy [m]
    staggered : bool            the layout of velocity and force; collocated if not

    Notes
    -----
    On the staggered layout equal to physics.closures' `Smagorinsky` on that host; on the collocated one local, other
    than on the spectral host. Finite for every input (tests/unit/export/test_fallback.py).
    Smagorinsky 1963, doi:10.1175/1520-0493(1963)091<0099:GCEWTP>2.3.CO;2.
    """

    def __init__(self, constant: float, width: float, spacing: tuple[float, float], staggered: bool):
        super().__init__()
        self.mixing_area = (constant * width) ** 2
        self.hx, self.hy = (float(h) for h in spacing)
        self.staggered = staggered
        self.largest_speed = LARGEST_SPEED

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, 2, nx, ny) [m/s^2] of a velocity (b, 2, nx, ny) [m/s], at the velocity's points."""
        usable = torch.nan_to_num(velocity, 0.0, 0.0, 0.0).clamp(-self.largest_speed, self.largest_speed)
        if self.staggered:
            ux, uy, vx, vy = staggered_gradient(usable, self.hx, self.hy)
            nu_t = self._eddy_viscosity(ux, vy, corners_to_centres((uy + vx) ** 2))
            shear_stress = -centres_to_corners(nu_t) * (uy + vx)
            force = -staggered_divergence(-2 * nu_t * ux, shear_stress, -2 * nu_t * vy, self.hx, self.hy)
        else:
            ux, uy, vx, vy = collocated_gradient(usable, self.hx, self.hy)
            nu_t = self._eddy_viscosity(ux, vy, (uy + vx) ** 2)
            shear_stress = -nu_t * (uy + vx)
            force = -collocated_divergence(-2 * nu_t * ux, shear_stress, -2 * nu_t * vy, self.hx, self.hy)
        return torch.nan_to_num(force, 0.0, 0.0, 0.0)

    def _eddy_viscosity(self, ux: Tensor, vy: Tensor, squared_shear: Tensor) -> Tensor:
        return self.mixing_area * torch.sqrt(2 * (ux * ux + vy * vy) + squared_shear)
