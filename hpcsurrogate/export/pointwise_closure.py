"""The module that becomes an artifact of kind `pointwise`: a stress from the gradient of each cell, guarded.

For codes on any mesh: they have the velocity gradient and the filter width of a cell, and know no neighbours by index.

Legend: n cells; d = 2 or 3 dimensions; G_ij = du_i/dx_j [1/s]; |G| its Frobenius norm; Delta = filter width [m];
S_ij = (G_ij + G_ji) / 2 [1/s]; |S| = sqrt(2 S_ij S_ij) [1/s]; _dev = less its trace over d on the diagonal.
"""

import math
from typing import Dict, List  # noqa: UP035 TorchScript reads the annotations of attributes in this form alone

import torch
from torch import Tensor, nn

from hpcsurrogate.core.metadata import FallbackDescription, ValidityRange
from hpcsurrogate.export.grid_closure import SLACK

# [1/s], [m] No gradient is steeper, no cell wider; their products stay inside float32 in all but absurd corners.
STEEPEST = 1e12
WIDEST = 1e6


class SmagorinskyStress(nn.Module):
    """tau_dev = -2 (C Delta)^2 |S| S_dev, the classical closure of a cell.

    Parameters
    ----------
    num_dims : int      2 or 3
    constant : float    C [-]

    Notes
    -----
    Finite for every input: what is not finite counts as zero (tests/unit/export/test_pointwise_closure.py).
    Smagorinsky 1963, doi:10.1175/1520-0493(1963)091<0099:GCEWTP>2.3.CO;2.
    """

    def __init__(self, num_dims: int, constant: float):
        super().__init__()
        self.num_dims = num_dims
        self.constant = float(constant)
        self.steepest, self.widest = STEEPEST, WIDEST
        rows, columns = torch.triu_indices(num_dims, num_dims)
        # Columns of the gradient, row by row, that hold G_ij and G_ji for the components xx, xy, ... of the stress.
        self.register_buffer("upper", rows * num_dims + columns, persistent=False)
        self.register_buffer("lower", columns * num_dims + rows, persistent=False)
        self.register_buffer("on_diagonal", (rows == columns).float(), persistent=False)

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        """Deviatoric stress (n, d(d+1)/2) [m^2/s^2] of gradients (n, d*d) [1/s], row by row, and widths (n,) [m]."""
        gradient = torch.nan_to_num(velocity_gradient, 0.0, 0.0, 0.0).clamp(-self.steepest, self.steepest)
        width = torch.nan_to_num(filter_width, 0.0, 0.0, 0.0).clamp(-self.widest, self.widest)
        strain = 0.5 * (gradient[:, self.upper] + gradient[:, self.lower])
        # Off the diagonal a component stands for two, S_ij and S_ji.
        magnitude = (2 * (strain.square() * (2 - self.on_diagonal)).sum(1)).sqrt()
        mean = (strain * self.on_diagonal).sum(1) / self.num_dims
        deviator = strain - mean.unsqueeze(1) * self.on_diagonal
        viscosity = (self.constant * width).square() * magnitude
        return torch.nan_to_num(-2 * viscosity.unsqueeze(1) * deviator, 0.0, 0.0, 0.0)


class PointwiseClosure(nn.Module):
    """A pointwise stress with the classical closure for all cells that it must not answer for.

    Parameters
    ----------
    core : Module               velocity gradient (n, d*d) [1/s] and filter width (n,) [m] to deviatoric stress
                                (n, d(d+1)/2) [m^2/s^2], each cell by itself
    num_dims : int              2 or 3
    fallback : FallbackDescription    its width is None: that of the cell counts
    validity : ValidityRange    of the gradient; the velocity is not among the inputs

    Attributes
    ----------
    facts, golden               filled when the file is written: `ArtifactMetadata.facts()`; the inputs and the output
    """

    facts: Dict[str, str]  # noqa: UP006
    golden: List[Tensor]  # noqa: UP006

    def __init__(self, core: nn.Module, num_dims: int, fallback: FallbackDescription, validity: ValidityRange):
        super().__init__()
        self.core = core
        self.fallback = SmagorinskyStress(num_dims, fallback.constant)
        self.steepest = validity.gradient_magnitude[1] * SLACK
        self.facts, self.golden = {}, []

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        """Deviatoric stress (n, d(d+1)/2) [m^2/s^2] of gradients (n, d*d) [1/s] and widths (n,) [m] by the core."""
        return self.core(velocity_gradient, filter_width)

    @torch.jit.export
    def classical(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        """Deviatoric stress (n, d(d+1)/2) [m^2/s^2] of gradients (n, d*d) [1/s] and widths (n,) [m], classical."""
        return self.fallback(velocity_gradient, filter_width)

    @torch.jit.export
    def guarded(self, velocity_gradient: Tensor, filter_width: Tensor) -> tuple[Tensor, Tensor]:
        """Stress by the core, cell by cell by the classical closure where the core must not be asked.

        Parameters
        ----------
        velocity_gradient : Tensor, shape (n, d*d) [1/s]    row by row; anything, NaN included
        filter_width : Tensor, shape (n,) [m]               likewise

        Returns
        -------
        Tensor, shape (n, d(d+1)/2) [m^2/s^2]    always finite
        Tensor, shape (3,), int64                cells that got the classical closure because the norm of the gradient
                                                 is above the trained range; because gradient or width is not finite;
                                                 because the core's stress is not. No cell counts twice

        Notes
        -----
        The same bits as `forward` if all cells are within the range (tests/unit/export/test_pointwise_closure.py).
        """
        inside = self.within_range(velocity_gradient, filter_width)
        if bool(inside.all()):
            stress = self.core(velocity_gradient, filter_width)
            if math.isfinite(float(stress.sum())):
                return stress, torch.zeros(3, dtype=torch.int64, device=stress.device)
        else:
            gradient, width = self.harmless(velocity_gradient, filter_width, inside)
            stress = self.core(gradient, width)
        stress, cells = self.with_fallback(velocity_gradient, filter_width, inside, stress)
        return stress, cells.sum(1)

    def within_range(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        """Whether the input of a cell is finite and its gradient no steeper than the trained ones; (n,), bool."""
        return (velocity_gradient.square().sum(1).sqrt() <= self.steepest) & torch.isfinite(filter_width)

    def harmless(self, velocity_gradient: Tensor, filter_width: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """What the core is given: gradient and width of the cells inside, zeros for the others."""
        zero = torch.zeros_like(filter_width)
        gradient = torch.where(inside.unsqueeze(1), velocity_gradient, zero.unsqueeze(1))
        return gradient, torch.where(inside, filter_width, zero)

    def with_fallback(
        self, velocity_gradient: Tensor, filter_width: Tensor, inside: Tensor, stress: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Replace the core's stress where it must not stand.

        Parameters
        ----------
        velocity_gradient : Tensor, shape (n, d*d) [1/s]
        filter_width : Tensor, shape (n,) [m]
        inside : Tensor, shape (n,), bool                  from `within_range`
        stress : Tensor, shape (n, d(d+1)/2) [m^2/s^2]     of the core for what `harmless` returns

        Returns
        -------
        Tensor, shape (n, d(d+1)/2) [m^2/s^2]    always finite
        Tensor, shape (3, n), bool               cells that fell back: outside, not finite, failed

        Notes
        -----
        Without a branch that depends on the data, for what cannot express one.
        """
        finite = torch.isfinite(velocity_gradient).all(1) & torch.isfinite(filter_width)
        failed = inside & ~torch.isfinite(stress).all(1)
        fallen = ~inside | failed
        stress = torch.where(fallen.unsqueeze(1), self.fallback(velocity_gradient, filter_width), stress)
        return stress, torch.stack((finite & ~inside, ~finite, failed))
