"""Guard and classical closures of forces and Reynolds stresses: finite, counted by reason, silent if all is well."""

import math

import pytest
import torch
from torch import Tensor, nn

from hpcsurrogate.core.metadata import ValidityRange
from hpcsurrogate.export.cell_closure import CellClosure, EddyViscosityStress, ForceLimits, NoForce, ReynoldsLimits
from hpcsurrogate.export.script import script_module

FORCE_RANGE = ValidityRange(velocity_magnitude=(0.0, 3.0), gradient_magnitude=(0.0, 10.0))
REYNOLDS_RANGE = ValidityRange(velocity_magnitude=None, gradient_magnitude=(0.0, 5.0))
nan, inf = math.nan, math.inf


class Drag(nn.Module):
    """A core that fails in cells narrower than 0.01 m, and everywhere if it is shown what the guard must keep off."""

    def forward(self, velocity: Tensor, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        poisoned = 0.0 * (velocity.sum() + velocity_gradient.sum() + filter_width.sum())
        return -velocity / (filter_width > 0.01).unsqueeze(1) + poisoned


class Shear(nn.Module):
    """Half of Newton's law, which divides by epsilon."""

    def forward(self, velocity_gradient: Tensor, turbulent_energy: Tensor, dissipation: Tensor) -> Tensor:
        poisoned = 0.0 * (velocity_gradient.sum() + (turbulent_energy / dissipation).sum())
        viscosity = 0.09 * turbulent_energy.square() / dissipation
        return -viscosity.unsqueeze(1) * velocity_gradient[:, :6] + poisoned


def force_cells() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    velocity, gradient = torch.randn(6, 3, generator=generator), torch.randn(6, 9, generator=generator)
    return 2 * velocity / velocity.norm(dim=1, keepdim=True), gradient, torch.full((6,), 0.1)


def reynolds_cells() -> tuple[Tensor, Tensor, Tensor]:
    gradient = torch.randn(6, 9, generator=torch.Generator().manual_seed(1))
    return 2 * gradient / gradient.norm(dim=1, keepdim=True), torch.full((6,), 2.0), torch.full((6,), 1.0)


force = CellClosure(Drag(), ForceLimits(FORCE_RANGE), NoForce()).eval()
stress = CellClosure(Shear(), ReynoldsLimits(REYNOLDS_RANGE), EddyViscosityStress(0.09)).eval()
both = pytest.mark.parametrize(("closure", "cells"), [(force, force_cells()), (stress, reynolds_cells())])


@both
def test_within_the_range_the_guard_changes_no_bit(closure, cells):
    for module in (closure, script_module(closure)):
        output, counts = module.guarded(*cells)
        assert torch.equal(output, module(*cells)) and counts.tolist() == [0, 0, 0]


@both
@pytest.mark.parametrize("value", [nan, inf, -inf, -1e37, 1e37, 0.0, 1e-42])
def test_finite_whatever_the_input(closure, cells, value):
    for number in range(3):
        harmful = [values.clone() for values in cells]
        harmful[number][::2] = value
        output, counts = script_module(closure).guarded(*harmful)
        assert torch.isfinite(output).all() and counts.sum() <= 6
        assert torch.equal(output[1::2], closure(*cells)[1::2])
        assert math.isfinite(value) or counts.tolist() == [0, 3, 0]


def test_a_force_falls_back_to_none_and_is_counted_by_its_reason():
    velocity, gradient, width = force_cells()
    velocity[0] *= 2  # 4 m/s
    gradient[1] *= 100
    gradient[2, 3] = nan
    width[3] = 0.005
    output, counts = force.guarded(velocity, gradient, width)
    assert counts.tolist() == [2, 1, 1]
    assert (output[:4] == 0).all() and torch.equal(output[4:], -velocity[4:])


def test_a_stress_falls_back_to_the_eddy_viscosity_above_its_range_of_time_scales():
    """The range is of |G| k/epsilon: a steeper gradient in shorter turbulence is inside of it."""
    gradient, energy, dissipation = reynolds_cells()  # |G| k/epsilon = 4 of 5
    gradient[0], dissipation[0] = 100 * gradient[0], 100 * dissipation[0]
    energy[1] *= 2
    dissipation[2] = 0.0
    output, counts = stress.guarded(gradient, energy, dissipation)
    assert counts.tolist() == [2, 0, 0]
    expected = stress.classical(gradient, energy, dissipation)
    assert torch.equal(output[1:3], expected[1:3]) and (output[2] == 0).all() and (output[1] != 0).any()
    sound = [values[[0, 3, 4, 5]] for values in (gradient, energy, dissipation)]
    assert torch.equal(output[[0, 3, 4, 5]], stress(*sound))


def test_eddy_viscosity_in_simple_shear_by_hand():
    # du/dy = 3 /s, k = 2, epsilon = 4: nut = 0.09 4/4 = 0.09 m^2/s, R_xy = -0.09 3.
    gradient = torch.zeros(1, 9, dtype=torch.float64)
    gradient[0, 1] = 3.0
    energy, dissipation = torch.tensor([2.0], dtype=torch.float64), torch.tensor([4.0], dtype=torch.float64)
    expected = torch.tensor([[0, -0.27, 0, 0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(EddyViscosityStress(0.09)(gradient, energy, dissipation), expected)
