"""Gains on the parts of a cell's stress, which coarse runs decide: what a regression cannot know.

A closure is trained on averages of the fine run, and then asked about a coarse run's own flow, which differs. What its
stress does there is changed here part by part, without training it again.
"""

import torch
from torch import Tensor, nn

from hpcsurrogate.models.viscous_law import contraction, strain_rate


class StressGains(nn.Module):
    """tau = g (-2 nu S) + g_rest (tau_0 + 2 nu S), with nu = -(tau_0 : S) / (2 S : S) of the stress tau_0 of a core.

    Parameters
    ----------
    core : Module          gradient (n, 9) [1/s] and width (n,) [m] to deviatoric stress (n, 6) [m^2/s^2]
    dissipation : float    g of cells where nu > 0: the stress takes energy from the strain S of the gradient given
    backscatter : float    g of the others, where it gives energy back
    rest : float           of what does no work on S

    Notes
    -----
    The core itself if all gains are one; keeps every invariance of the core (tests/unit/models/test_stress_gains.py).
    """

    def __init__(self, core: nn.Module, dissipation: float, backscatter: float, rest: float):
        super().__init__()
        self.core = core
        self.dissipation, self.backscatter, self.rest = float(dissipation), float(backscatter), float(rest)
        self.smallest = torch.finfo(torch.float32).tiny

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        """Deviatoric stress (n, 6) [m^2/s^2] of gradients (n, 9) [1/s], row by row, and widths (n,) [m]."""
        stress = self.core(velocity_gradient, filter_width)
        strain = strain_rate(velocity_gradient)
        work = contraction(stress, strain)
        along = (work / contraction(strain, strain).clamp_min(self.smallest)).unsqueeze(1) * strain
        gain = torch.where(work < 0, self.dissipation, self.backscatter).unsqueeze(1)
        return gain * along + self.rest * (stress - along)
