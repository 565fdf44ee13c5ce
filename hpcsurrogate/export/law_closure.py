"""The module that becomes the artifact of a fluid's law: stress and its error from the state of each cell, guarded.

Legend: n cells; rho density, T temperature; G_ij = du_i/dx_j, row by row; D = symmetric part of G less its trace. All
in the units of the artifact's ports. Of the 12 columns of output six are the stress, xx, xy, xz, yy, yz, zz, six its
standard deviation.
"""

import math
from typing import Dict, List  # noqa: UP035 TorchScript reads the annotations of attributes in this form alone

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


class LawClosure(nn.Module):
    """A fluid's law with Newton's for all cells that it must not answer for.

    Parameters
    ----------
    core : Module    density (n,), temperature (n,) and velocity gradient (n, 9) to stress and error (n, 12), float64
    fallback : NewtonianDescription
    validity : ValidityRange    of gradient, density and temperature

    Attributes
    ----------
    facts, golden    filled when the file is written: `ArtifactMetadata.facts()`; the inputs and the output
    """

    facts: Dict[str, str]  # noqa: UP006
    golden: List[Tensor]  # noqa: UP006

    def __init__(self, core: nn.Module, fallback: NewtonianDescription, validity: ValidityRange):
        super().__init__()
        self.core = core
        self.fallback = NewtonianLaw(fallback, validity)
        self.steepest = validity.gradient_magnitude[1] * SLACK
        self.density, self.temperature = (
            (low / SLACK, high * SLACK) for low, high in (validity.density, validity.temperature)
        )
        self.facts, self.golden = {}, []

    def forward(self, density: Tensor, temperature: Tensor, velocity_gradient: Tensor) -> Tensor:
        """Stress and error (n, 12) of densities (n,), temperatures (n,) and gradients (n, 9), by the core."""
        return self.core(density, temperature, velocity_gradient)

    @torch.jit.export
    def classical(self, density: Tensor, temperature: Tensor, velocity_gradient: Tensor) -> Tensor:
        """The same by Newton's law."""
        return self.fallback(density, temperature, velocity_gradient)

    @torch.jit.export
    def guarded(self, density: Tensor, temperature: Tensor, velocity_gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Stress and error by the core, cell by cell by Newton's law where the core must not be asked.

        Parameters
        ----------
        density, temperature : Tensor, shape (n,)     anything, NaN included
        velocity_gradient : Tensor, shape (n, 9)      likewise

        Returns
        -------
        Tensor, shape (n, 12)         always finite
        Tensor, shape (3,), int64     cells that got Newton's law because the state or the norm of the gradient is
                                      outside of the trained range; because an input is not finite; because the core's
                                      output is not. No cell counts twice

        Notes
        -----
        The same bits as `forward` if all cells are within the range (tests/unit/export/test_law.py).
        """
        inside = (
            (velocity_gradient.square().sum(1).sqrt() <= self.steepest)
            & (density >= self.density[0])
            & (density <= self.density[1])
            & (temperature >= self.temperature[0])
            & (temperature <= self.temperature[1])
        )
        if bool(inside.all()):
            output = self.core(density, temperature, velocity_gradient)
            if math.isfinite(float(output.sum())):
                return output, torch.zeros(3, dtype=torch.int64, device=output.device)
        else:
            output = self.core(
                torch.where(inside, density, torch.full_like(density, self.fallback.middle[0])),
                torch.where(inside, temperature, torch.full_like(temperature, self.fallback.middle[1])),
                torch.where(inside.unsqueeze(1), velocity_gradient, torch.zeros_like(velocity_gradient)),
            )
        finite = torch.isfinite(density) & torch.isfinite(temperature) & torch.isfinite(velocity_gradient).all(1)
        failed = inside & ~torch.isfinite(output).all(1)
        fallen = (~inside | failed).unsqueeze(1)
        output = torch.where(fallen, self.fallback(density, temperature, velocity_gradient), output)
        return output, torch.stack((finite & ~inside, ~finite, failed)).sum(1)
