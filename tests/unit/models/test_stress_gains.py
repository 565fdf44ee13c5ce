"""Gains weigh what they say, and nothing else."""

import pytest
import torch

from hpcsurrogate.models.gradient_stress import GradientStress
from hpcsurrogate.models.stress_gains import StressGains
from hpcsurrogate.models.tensor_basis import TensorBasisStress
from hpcsurrogate.models.viscous_law import contraction, strain_rate

GENERATOR = torch.Generator().manual_seed(0)
GRADIENT = torch.randn(300, 9, generator=GENERATOR, dtype=torch.float64)
WIDTH = torch.rand(300, generator=GENERATOR, dtype=torch.float64) + 0.5
CORE = GradientStress()
STRAIN = strain_rate(GRADIENT)


def power(gains):
    stress = StressGains(CORE, *gains)(GRADIENT, WIDTH)
    return contraction(stress, STRAIN), stress


def test_gains_of_one_change_nothing():
    assert torch.allclose(power((1, 1, 1))[1], CORE(GRADIENT, WIDTH), rtol=1e-13, atol=1e-14)


def test_each_gain_weighs_its_part():
    before, whole = power((1, 1, 1))
    taking = before < 0
    assert 0.1 < taking.double().mean() < 0.9
    after, _ = power((2, 0.5, 3))
    assert after[taking].numpy() == pytest.approx(2 * before[taking].numpy())
    assert after[~taking].numpy() == pytest.approx(0.5 * before[~taking].numpy())
    without_work, rest = power((0, 0, 3))
    assert without_work.abs().max() < 1e-12 * whole.abs().max()
    along = whole - rest / 3
    assert contraction(along, along).numpy() == pytest.approx(
        (before**2 / contraction(STRAIN, STRAIN)).numpy(), rel=1e-9
    )


def test_rotations_of_the_core_are_kept():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        gained = StressGains(TensorBasisStress(3, 4, 1), 2.0, 0.5, 1.5).double()
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=GENERATOR, dtype=torch.float64))[0]

    def full(stress):
        return stress[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)

    turned = rotation @ GRADIENT.reshape(-1, 3, 3) @ rotation.T
    expected = rotation @ full(gained(GRADIENT, WIDTH)) @ rotation.T
    assert torch.allclose(full(gained(turned.reshape(-1, 9), WIDTH)), expected, atol=1e-6)


def test_a_cell_without_a_gradient_has_no_stress():
    assert StressGains(CORE, 2, 1, 1)(torch.zeros(1, 9), torch.ones(1)).abs().max() == 0
