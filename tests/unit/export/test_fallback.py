"""The classical closure inside the file: that of the host, local, and finite whatever comes."""

import math

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, Smagorinsky
from hpcsurrogate.export.fallback import FALLBACK_REACH, SmagorinskyForce
from hpcsurrogate.physics.closures import make_classical
from hpcsurrogate.physics.closures.stress_closure import mean_spacing
from hpcsurrogate.physics.hosts import make_host

NX, NY = 20, 16
FLOW = Flow(viscosity=1e-3)


def noise(dtype=torch.float64):
    return torch.randn(2, 2, NX, NY, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_hosts_smagorinsky_closure(dtype):
    host = make_host(FiniteVolumeHost(kind="finite_volume", grid=(NX, NY), time_step=0.01), FLOW, dtype)
    section = Smagorinsky(kind="smagorinsky", constant=0.17)
    fallback = SmagorinskyForce(0.17, mean_spacing(host.grid), host.grid.spacing, staggered=True)
    velocity = noise(dtype)
    # The host's root is held a hair above zero; nothing else differs.
    torch.testing.assert_close(fallback(velocity), make_classical(section, host)(velocity))


def test_a_collocated_shear_flow_gets_the_force_of_calculus():
    """u = sin(y): nu_t = (C Delta)^2 |cos y|, so that the force is 2 (C Delta)^2 |cos y| (-sin y), second order."""
    errors = []
    for ny in (32, 64):
        h = 2 * math.pi / ny
        y = (h * torch.arange(ny, dtype=torch.float64)).expand(8, ny)
        force = SmagorinskyForce(0.5, 0.2, (h, h), staggered=False)(torch.stack((y.sin(), 0 * y))[None])
        exact = -2 * 0.1**2 * y.cos().abs() * y.sin()
        assert force[:, 1].abs().max() == 0
        errors.append(float((force[0, 0] - exact).abs().mean()))
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize("staggered", [True, False])
def test_it_moves_momentum_about_and_takes_energy_out(staggered):
    velocity = noise()
    force = SmagorinskyForce(0.17, 0.1, (0.1, 0.12), staggered)(velocity)
    assert force.mean(dim=(-2, -1)).abs().max() < 1e-13 * force.abs().max()
    assert float((velocity * force).sum()) < 0


@pytest.mark.parametrize("staggered", [True, False])
def test_it_depends_on_cells_within_its_reach_and_on_no_other(staggered):
    closure, velocity = SmagorinskyForce(0.17, 0.1, (0.1, 0.1), staggered), noise()
    changed = velocity.clone()
    changed[:, :, 10, 8] += 1.0
    moved = (closure(changed) != closure(velocity)).any(0).any(0).nonzero()
    assert (moved - torch.tensor([10, 8])).abs().max() == FALLBACK_REACH


@pytest.mark.parametrize("staggered", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_finite_whatever_comes(staggered, dtype):
    velocity = noise(dtype)
    largest = torch.finfo(dtype).max
    bad = torch.tensor([float("nan"), float("inf"), -float("inf"), largest, -largest, 1e-45, 1e38], dtype=dtype)
    velocity[0, 0, :7, 3], velocity[1, 1, 2, :7] = bad, bad
    for spacing in (1e-6, 0.1, 1e6):
        closure = SmagorinskyForce(0.17, spacing, (spacing, spacing), staggered)
        for field in (velocity, torch.full_like(velocity, largest), largest * velocity.sign()):
            assert torch.isfinite(closure(field)).all()
