"""Dynamic Smagorinsky in three dimensions: the identity of Germano for the flux of momentum.

Legend: hat = test filter, width 2 Delta; c = coefficient (C^2 of Smagorinsky) [-];
L_ij = hat(u_i u_j) - hat(u_i) hat(u_j), resolved stress between the two widths [m^2/s^2];
M_ij = 2 Delta^2 (hat(|S| S_ij) - 4 |hat(S)| hat(S_ij)), the same stress by the model with c = 1 [m^2/s^2].

Germano et al. 1991 (doi:10.1063/1.857955) with the least squares of Lilly 1992 (doi:10.1063/1.858280); in two
dimensions it is the flux of vorticity that counts (dynamic.py).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpcsurrogate.physics.closures.dynamic import WIDTH_RATIO_SQUARED, filter_test
from hpcsurrogate.physics.closures.eddy_viscosity import (
    DIAGONAL,
    SHEAR,
    EddyViscosity,
    root,
    strain_magnitude,
    strain_rates,
)
from hpcsurrogate.physics.closures.stress_closure import VelocityGradient
from hpcsurrogate.physics.differences import total

# Components xx, yy, zz, xy, xz, yz: which velocities are multiplied, and how often each counts in a full tensor.
ROWS, COLUMNS = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
COUNTS = (1, 1, 1, 2, 2, 2)


class DynamicSmagorinsky3D(EddyViscosity):
    """nu_t = c Delta^2 |S| with c = <L_ij M_ij> / <M_ij M_ij>, averaged over the periodic box, clipped to c >= 0.

    Every sample of the batch has its own coefficient. Products are formed at cell centres in both layouts.
    """

    def coefficient(self, velocity: Tensor) -> Tensor:
        """Return c of each sample.

        Parameters
        ----------
        velocity : Tensor, shape (batch, 3, nx, ny, nz) [m/s]

        Returns
        -------
        Tensor, shape (batch, 1, 1, 1) [-]    not negative; 0 for a flow without strain

        Notes
        -----
        Depends on neither a uniform velocity nor the amplitude of the flow (tests/physics/test_closures_3d.py).
        """
        strain = strain_rates(self.operators.velocity_gradient(velocity), 3)
        return self._coefficient(velocity, strain, strain_magnitude(self.operators, strain))

    def _coefficient(self, velocity: Tensor, rates: Sequence[Tensor], magnitude: Tensor) -> Tensor:
        # A uniform velocity cancels in L; taking it off first keeps the cancellation out of the round-off.
        fluctuation = velocity - velocity.mean((-3, -2, -1), keepdim=True)
        centred = self.operators.vector_to_centre(fluctuation)
        strain = self._trace_free_strain(rates)
        products = centred[:, ROWS] * centred[:, COLUMNS]
        fields = torch.cat((centred, products, strain, magnitude[:, None] * strain), 1)
        hat_velocity, hat_product, hat_strain, hat_flux = filter_test(fields, 3).split((3, 6, 6, 6), 1)
        counts = torch.tensor(COUNTS, dtype=strain.dtype, device=strain.device)[:, None, None, None]
        hat_magnitude = root(2 * (counts * hat_strain.square()).sum(1, keepdim=True))
        resolved = hat_product - hat_velocity[:, ROWS] * hat_velocity[:, COLUMNS]
        # Without a trace, so that the trace of L has no part in the products.
        model = 2 * self.delta**2 * (hat_flux - WIDTH_RATIO_SQUARED * hat_magnitude * hat_strain)
        weighted = counts * model
        numerator = (resolved * weighted).sum((1, 2, 3, 4))
        denominator = (model * weighted).sum((1, 2, 3, 4)).clamp_min(torch.finfo(model.dtype).tiny)
        return (numerator / denominator).clamp_min(0)[:, None, None, None]

    def _trace_free_strain(self, rates: Sequence[Tensor]) -> Tensor:
        """Return S_ij at centres less its trace, which the host's divergence leaves, (batch, 6, nx, ny, nz) [1/s]."""
        diagonal = [rates[place] for place in DIAGONAL[3]]
        mean = total(diagonal) / 3
        shear = [self.operators.to_centre(rates[place], row, column) / 2 for place, row, column in SHEAR[3]]
        return torch.stack([part - mean for part in diagonal] + shear, 1)

    def eddy_viscosity(self, velocity: Tensor, gradient: VelocityGradient, strain: Sequence[Tensor]) -> Tensor:
        """Return nu_t at centres, shape (batch, nx, ny, nz) [m^2/s]."""
        magnitude = strain_magnitude(self.operators, strain)
        return self._coefficient(velocity, strain, magnitude) * self.delta**2 * magnitude
