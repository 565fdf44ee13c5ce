"""Spectrum, energy, enstrophy and budget on fields whose values are known."""

import math

import pytest
import torch

from hpcsurrogate.core.config import Flow
from hpcsurrogate.core.errors import ShapeError
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectra import energy, energy_budget, energy_spectrum, enstrophy
from hpcsurrogate.physics.stress_operators import SpectralOperators, StaggeredOperators

ROUND_OFF = 1e-12


@pytest.mark.parametrize("shape", [(16, 16), (12, 20), (20, 8)])
@pytest.mark.parametrize("lengths", [(2 * math.pi, 2 * math.pi), (1.0, 3.0)])
def test_parseval_holds_for_noise_in_any_box(shape, lengths):
    # White noise fills the corner and Nyquist modes, where a wrong weight would show.
    grid = Grid(shape, lengths)
    velocity = torch.randn(3, 2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.7
    k, spectrum = energy_spectrum(velocity, grid)
    assert spectrum.shape == (3, len(k))
    fluctuation = velocity - velocity.mean((-2, -1), keepdim=True)
    torch.testing.assert_close(spectrum.sum(-1) * (k[1] - k[0]), energy(fluctuation), rtol=ROUND_OFF, atol=0)


@pytest.mark.parametrize("u_place, v_place", [((0, 0), (0, 0)), ((1, 0.5), (0.5, 1))])
def test_a_single_wave_fills_one_shell_in_either_layout(u_place, v_place):
    # u = 3 sin(3x + 4y) with |k| = 5, v = cos(2x): <u^2>/2 = 9/4 and <v^2>/2 = 1/4, dk = 1.
    grid = Grid((16, 16), (2 * math.pi, 2 * math.pi))
    (ux, uy), (vx, vy) = grid.coordinates(u_place), grid.coordinates(v_place)
    velocity = torch.stack((3 * torch.sin(3 * ux + 4 * uy), torch.cos(2 * vx) + 0 * vy))[None]
    k, spectrum = energy_spectrum(velocity, grid)
    expected = torch.zeros_like(spectrum)
    expected[0, k == 5] = 9 / 4
    expected[0, k == 2] = 1 / 4
    torch.testing.assert_close(spectrum, expected, rtol=0, atol=ROUND_OFF)


def test_spectrum_of_another_grid_is_refused():
    with pytest.raises(ShapeError, match="is not"):
        energy_spectrum(torch.zeros(1, 2, 8, 8), Grid((8, 16), (1.0, 1.0)))


def test_energy_and_enstrophy_of_a_sinusoidal_shear():
    # u = A sin(ky): E = A^2 / 4, omega = -A k cos(ky), Z = A^2 k^2 / 4.
    grid = Grid((8, 16), (2 * math.pi, 2 * math.pi))
    x, y = grid.coordinates()
    amplitude, wavenumber = 1.7, 3
    u = amplitude * torch.sin(wavenumber * y) + 0 * x
    assert energy(torch.stack((u, 0 * u))[None]).item() == pytest.approx(amplitude**2 / 4, rel=ROUND_OFF)
    omega = -amplitude * wavenumber * torch.cos(wavenumber * y) + 0 * x
    assert enstrophy(omega[None]).item() == pytest.approx((amplitude * wavenumber) ** 2 / 4, rel=ROUND_OFF)


def test_budget_of_laminar_kolmogorov_flow_is_closed():
    # u = F sin(ky) / (nu k^2 + mu) is steady: injection = viscous loss + drag loss, each known in closed form.
    flow = Flow(viscosity=0.05, drag=0.1)
    grid = Grid((8, 16), flow.domain)
    x, y = grid.coordinates()
    wavenumber, force = 2, torch.stack((torch.sin(2 * y) + 0 * x, 0 * x * y))[None]
    velocity = force / (flow.viscosity * wavenumber**2 + flow.drag)
    budget = energy_budget(velocity, force, flow, SpectralOperators(grid))
    amplitude = 1 / 0.3
    assert budget.injection.item() == pytest.approx(amplitude / 2, rel=ROUND_OFF)
    assert budget.viscous.item() == pytest.approx(-flow.viscosity * wavenumber**2 * amplitude**2 / 2, rel=ROUND_OFF)
    assert budget.drag.item() == pytest.approx(-flow.drag * amplitude**2 / 2, rel=ROUND_OFF)
    assert abs(budget.total.item()) < ROUND_OFF


@pytest.mark.parametrize("make", [StaggeredOperators, SpectralOperators])
def test_viscous_loss_is_the_work_of_the_discrete_laplacian(make):
    flow = Flow(viscosity=0.3)
    grid = Grid((12, 16), (1.0, 3.0))
    velocity = torch.randn(2, 2, 12, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    operators = make(grid)
    ux, uy, vx, vy = operators.velocity_gradient(velocity)
    # div of (ux, uy) is the first row of div of the stress (ux, uy, 0), and likewise for v.
    laplacian_u = operators.divergence(ux, uy, torch.zeros_like(ux))[:, 0]
    laplacian_v = operators.divergence(torch.zeros_like(vy), vx, vy)[:, 1]
    work = flow.viscosity * (velocity * torch.stack((laplacian_u, laplacian_v), 1)).sum(1).mean((-2, -1))
    budget = energy_budget(velocity, torch.zeros_like(velocity), flow, operators)
    torch.testing.assert_close(budget.viscous, work, rtol=ROUND_OFF, atol=0)
