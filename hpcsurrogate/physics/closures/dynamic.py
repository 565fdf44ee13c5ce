"""Dynamic Smagorinsky in two dimensions: the coefficient is measured from the resolved flow itself at every call.

Legend: hat = test filter, width 2 Delta; omega = vorticity [1/s]; c = coefficient (C^2 of Smagorinsky) [-];
L_i = hat(u_i omega) - hat(u_i) hat(omega), resolved vorticity flux between the two widths [m/s^2];
M_i = Delta^2 (hat(|S| d_i omega) - 4 |hat(S)| hat(d_i omega)), the same flux by the model with c = 1 [m/s^2].

The identity of Germano et al. 1991 (doi:10.1063/1.857955) with the least squares of Lilly 1992 (doi:10.1063/1.858280),
for the flux of vorticity instead of momentum: in two dimensions it is enstrophy that cascades to small scales, while
energy goes to large ones. In forced two-dimensional turbulence the momentum form gave a negative coefficient in every
snapshot tried, so that clipping would switch the model off; this form gives C of about 0.08. In three dimensions it is
the momentum form that counts (dynamic_momentum.py).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpcsurrogate.physics.closures.eddy_viscosity import EddyViscosity, root, strain_magnitude, strain_rates
from hpcsurrogate.physics.closures.stress_closure import VelocityGradient

# Square of the ratio of the widths of the test filter and the grid filter.
WIDTH_RATIO_SQUARED = 4


def filter_test(field: Tensor, num_dims: int) -> Tensor:
    """Average with the weights 1/6, 2/3, 1/6 along all axes.

    Parameters
    ----------
    field : Tensor, shape (..., nx, ny[, nz])
    num_dims : int    2 or 3

    Returns
    -------
    Tensor, shape (..., nx, ny[, nz])

    Notes
    -----
    These three weights have the second moment h^2/3 of a box of width 2h; means are kept
    (tests/physics/test_closures.py).
    """
    for axis in range(-num_dims, 0):
        field = (4 * field + torch.roll(field, 1, axis) + torch.roll(field, -1, axis)) / 6
    return field


class DynamicSmagorinsky(EddyViscosity):
    """nu_t = c Delta^2 |S| with c = <L_i M_i> / <M_i M_i>, averaged over the periodic box, clipped to c >= 0.

    Every sample of the batch has its own coefficient. Products are formed at cell centres in both layouts.
    """

    def coefficient(self, velocity_bcxy: Tensor) -> Tensor:
        """Return c of each sample.

        Parameters
        ----------
        velocity_bcxy : Tensor, shape (batch, 2, nx, ny) [m/s]

        Returns
        -------
        Tensor, shape (batch, 1, 1) [-]    not negative; 0 for a flow without strain

        Notes
        -----
        Depends on neither a uniform velocity nor the amplitude of the flow (tests/physics/test_closures.py).
        """
        gradient = self.operators.velocity_gradient(velocity_bcxy)
        magnitude = strain_magnitude(self.operators, strain_rates(gradient, 2))
        return self._coefficient(velocity_bcxy, gradient, magnitude)

    def _coefficient(self, velocity_bcxy: Tensor, gradient: VelocityGradient, magnitude: Tensor) -> Tensor:
        # A uniform velocity cancels in L; taking it off first keeps the cancellation out of the round-off.
        fluctuation = velocity_bcxy - velocity_bcxy.mean((-2, -1), keepdim=True)
        velocity = self.operators.vector_to_centre(fluctuation)
        ux, uy, vx, vy = gradient
        vorticity = vx - uy
        slope = torch.stack(self.operators.gradient_of_edge(vorticity, 0, 1), 1)
        vorticity = self.operators.to_centre(vorticity, 0, 1)[:, None]
        # A traceless strain in two dimensions has two numbers: (xx - yy) / 2 and xy.
        strain = torch.stack(((ux - vy) / 2, self.operators.to_centre(uy + vx, 0, 1) / 2), 1)
        magnitude = magnitude[:, None]
        fields = torch.cat((velocity, slope, strain, velocity * vorticity, magnitude * slope, vorticity), 1)
        hat_velocity, hat_slope, hat_strain, hat_flux, hat_product, hat_vorticity = filter_test(fields, 2).split(2, 1)
        hat_magnitude = root(4 * hat_strain.square().sum(1, keepdim=True))
        resolved = hat_flux - hat_velocity * hat_vorticity
        model = self.delta**2 * (hat_product - WIDTH_RATIO_SQUARED * hat_magnitude * hat_slope)
        numerator = (resolved * model).sum((1, 2, 3))
        denominator = (model * model).sum((1, 2, 3)).clamp_min(torch.finfo(model.dtype).tiny)
        return (numerator / denominator).clamp_min(0)[:, None, None]

    def eddy_viscosity(self, velocity_bcxy: Tensor, gradient: VelocityGradient, strain: Sequence[Tensor]) -> Tensor:
        """Return nu_t at centres, shape (batch, nx, ny) [m^2/s]."""
        magnitude = strain_magnitude(self.operators, strain)
        return self._coefficient(velocity_bcxy, gradient, magnitude) * self.delta**2 * magnitude
