"""What guards the artifact of a fluid's law, stress and its error from the state of each cell (cell_closure.py).

Legend: n cells; rho density, T temperature; G_ij = du_i/dx_j, row by row; D = symmetric part of G less its trace. All
in the units of the artifact's ports. Of the 12 columns of output six are the stress, xx, xy, xz, yy, yz, zz, six its
standard deviation.
"""

import torch
from torch import Tensor, nn

from hpcsurrogate.core.metadata import NewtonianDescription, ValidityRange
from hpcsurrogate.export.grid_closure import SLACK
from hpcsurrogate.models.viscous_law import strain_rate

LARGEST_GRADIENT = 1e30  # squares of it, and products with any viscosity, are finite in float64


class NewtonianLaw(nn.Module):
    """sigma = -p I + 2 eta D with p and log eta quadratic in the state, which is held inside the trained range.

    Notes
    -----
    Finite for every input: what is not finite counts as rest, and as the middle of the range
    (tests/unit/export/test_law.py). Its error is as large as its stress: nobody asked this law to be right here.
    """

    def __init__(self, constants: NewtonianDescription, validity: ValidityRange):
        super().__init__()
        self.middle = (constants.density, constants.temperature)
        self.density, self.temperature = validity.density, validity.temperature
        self.largest = LARGEST_GRADIENT
        for name in ("log_viscosity", "pressure"):
            self.register_buffer(name, torch.tensor(getattr(constants, name), dtype=torch.float64), persistent=False)
        self.register_buffer("on_diagonal", torch.tensor([1.0, 0, 0, 1, 0, 1], dtype=torch.float64), persistent=False)

    def forward(self, density: Tensor, temperature: Tensor, velocity_gradient: Tensor) -> Tensor:
        """Stress and error (n, 12) of densities (n,), temperatures (n,) and gradients (n, 9)."""
        density = torch.nan_to_num(density, self.middle[0]).clamp(self.density[0], self.density[1])
        temperature = torch.nan_to_num(temperature, self.middle[1]).clamp(self.temperature[0], self.temperature[1])
        gradient = torch.nan_to_num(velocity_gradient, 0.0, 0.0, 0.0).clamp(-self.largest, self.largest)
        a, t = density / self.middle[0] - 1, temperature / self.middle[1] - 1
        terms = torch.stack((torch.ones_like(a), a, t, a * a, a * t, t * t), 1)
        viscosity, pressure = (terms @ self.log_viscosity).exp(), terms @ self.pressure
        stress = 2 * viscosity.unsqueeze(1) * strain_rate(gradient) - pressure.unsqueeze(1) * self.on_diagonal
        return torch.cat((stress, stress.abs()), 1)


class LawLimits(nn.Module):
    """Whether density, temperature and gradient are within the trained range, and all of the input is finite."""

    def __init__(self, validity: ValidityRange):
        super().__init__()
        self.steepest = validity.gradient_magnitude[1] * SLACK
        self.density, self.temperature = (
            (low / SLACK, high * SLACK) for low, high in (validity.density, validity.temperature)
        )

    def forward(self, density: Tensor, temperature: Tensor, velocity_gradient: Tensor) -> Tensor:
        """Whether the core may be asked, (n,), bool."""
        return (
            (velocity_gradient.square().sum(1).sqrt() <= self.steepest)
            & (density >= self.density[0])
            & (density <= self.density[1])
            & (temperature >= self.temperature[0])
            & (temperature <= self.temperature[1])
        )
