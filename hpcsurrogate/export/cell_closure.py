"""The module that becomes a pointwise artifact of three inputs, guarded: a body force, a Reynolds stress, a law.

Legend: n cells in three dimensions; u velocity [m/s]; G_ij = du_i/dx_j [1/s], row by row; |G| its Frobenius norm;
Delta = width of the cell [m]; k = turbulent energy [m^2/s^2]; epsilon = its dissipation [m^2/s^3]; D = symmetric part
of G less its trace. A force takes u, G, Delta; a Reynolds stress takes G, k, epsilon; of a law see law_closure.py.
"""

import math
from typing import Dict, List  # noqa: UP035 TorchScript reads the annotations of attributes in this form alone

import torch
from torch import Tensor, nn

from hpcsurrogate.core.metadata import ValidityRange
from hpcsurrogate.export.grid_closure import SLACK
from hpcsurrogate.models.viscous_law import strain_rate

LARGEST = 1e12  # [1/s], [m^2/s]: products of two are finite in float32


class ForceLimits(nn.Module):
    """Whether velocity and gradient of a cell are within the trained range, and all of the input is finite."""

    def __init__(self, validity: ValidityRange):
        super().__init__()
        self.fastest = validity.velocity_magnitude[1] * SLACK
        self.steepest = validity.gradient_magnitude[1] * SLACK

    def forward(self, velocity: Tensor, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        """Whether the core may be asked, (n,), bool."""
        slow = velocity.square().sum(1).sqrt() <= self.fastest
        return slow & (velocity_gradient.square().sum(1).sqrt() <= self.steepest) & torch.isfinite(filter_width)


class NoForce(nn.Module):
    """Zero: what a cell gets whose force nobody knows."""

    def forward(self, velocity: Tensor, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        """Zeros, (n, 3) [m/s^2]."""
        return torch.zeros_like(velocity)


class ReynoldsLimits(nn.Module):
    """Whether |G| k/epsilon is within the trained range, k and epsilon are positive, and all is finite."""

    def __init__(self, validity: ValidityRange):
        super().__init__()
        self.steepest = validity.gradient_magnitude[1] * SLACK

    def forward(self, velocity_gradient: Tensor, turbulent_energy: Tensor, dissipation: Tensor) -> Tensor:
        """Whether the core may be asked, (n,), bool."""
        positive = (turbulent_energy > 0) & (dissipation > 0)
        known = torch.isfinite(turbulent_energy) & torch.isfinite(dissipation) & positive
        slope = velocity_gradient.square().sum(1).sqrt()
        return known & (slope * (turbulent_energy / dissipation) <= self.steepest)


class EddyViscosityStress(nn.Module):
    """R_dev = -2 Cmu k^2/epsilon D, the k-epsilon model's own.

    Parameters
    ----------
    cmu : float    [-]

    Notes
    -----
    Finite for every input: where k^2/epsilon is not, nothing acts (tests/unit/export/test_cell_closure.py).
    Launder and Spalding 1974, doi:10.1016/0045-7825(74)90029-2.
    """

    def __init__(self, cmu: float):
        super().__init__()
        self.cmu, self.largest = float(cmu), LARGEST

    def forward(self, velocity_gradient: Tensor, turbulent_energy: Tensor, dissipation: Tensor) -> Tensor:
        """Deviatoric stress (n, 6) [m^2/s^2]."""
        gradient = torch.nan_to_num(velocity_gradient, 0.0, 0.0, 0.0).clamp(-self.largest, self.largest)
        viscosity = self.cmu * turbulent_energy.square() / dissipation
        viscosity = torch.nan_to_num(viscosity, 0.0, 0.0, 0.0).clamp(0.0, self.largest)
        return -2 * viscosity.unsqueeze(1) * strain_rate(gradient)


class CellClosure(nn.Module):
    """A pointwise closure of three inputs with a classical one for all cells that it must not answer for.

    Parameters
    ----------
    core : Module        the three inputs to the output (n, c), each cell by itself
    limits : Module      the three inputs to (n,), bool: whether the core may be asked; false for what is not finite
    fallback : Module    as the core, and finite for every input

    Attributes
    ----------
    facts, golden    filled when the file is written: `ArtifactMetadata.facts()`; the inputs and the output
    """

    facts: Dict[str, str]  # noqa: UP006
    golden: List[Tensor]  # noqa: UP006

    def __init__(self, core: nn.Module, limits: nn.Module, fallback: nn.Module):
        super().__init__()
        self.core, self.limits, self.fallback = core, limits, fallback
        self.facts, self.golden = {}, []

    def forward(self, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        """Output (n, c) by the core."""
        return self.core(first, second, third)

    @torch.jit.export
    def classical(self, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        """Output (n, c) by the classical closure."""
        return self.fallback(first, second, third)

    @torch.jit.export
    def guarded(self, first: Tensor, second: Tensor, third: Tensor) -> tuple[Tensor, Tensor]:
        """Output by the core, cell by cell by the classical closure where the core must not be asked.

        Parameters
        ----------
        first, second, third : Tensor, shape (n,) or (n, c)    anything, NaN included

        Returns
        -------
        Tensor, shape (n, c)         always finite
        Tensor, shape (3,), int64    cells that got the classical closure because they are outside of the trained
                                     range; because an input is not finite; because the core's output is not. No cell
                                     counts twice

        Notes
        -----
        The same bits as `forward` if all cells are within the range (tests/unit/export/test_cell_closure.py).
        """
        inside = self.limits(first, second, third)
        if bool(inside.all()):
            output = self.core(first, second, third)
            if math.isfinite(float(output.sum())):
                return output, torch.zeros(3, dtype=torch.int64, device=output.device)
        else:
            output = self.core(harmless(first, inside), harmless(second, inside), harmless(third, inside))
        finite = all_finite(first) & all_finite(second) & all_finite(third)
        failed = inside & ~all_finite(output)
        output = torch.where((~inside | failed).unsqueeze(1), self.fallback(first, second, third), output)
        return output, torch.stack((finite & ~inside, ~finite, failed)).sum(1)


def harmless(values: Tensor, inside: Tensor) -> Tensor:
    """What the core is given: for cells that are outside vectors and tensors of zeros, numbers of one."""
    if values.dim() == 1:
        return torch.where(inside, values, torch.ones_like(values))
    return torch.where(inside.unsqueeze(1), values, torch.zeros_like(values))


def all_finite(values: Tensor) -> Tensor:
    """Whether all of a cell is finite, (n,), bool."""
    finite = torch.isfinite(values)
    return finite if values.dim() == 1 else finite.all(1)
