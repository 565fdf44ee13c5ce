"""Spectrum, energy, enstrophy and budget on fields whose values are known."""

import math

import pytest
import torch

from hpcsurrogate.core.config import Flow
from hpcsurrogate.core.errors import ShapeError
from hpcsurrogate.physics.differences import symmetric_index
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectra import energy, energy_budget, energy_spectrum, enstrophy, transfer_spectrum
from hpcsurrogate.physics.stress_operators import SpectralOperators, StaggeredOperators

ROUND_OFF = 1e-12


def noise(grid, batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, grid.num_dims, *grid.shape, dtype=torch.float64, generator=generator)


BOXES = [
    ((16, 16), (2 * math.pi, 2 * math.pi)),
    ((12, 20), (1.0, 3.0)),
    ((20, 8), (2.0, 2.0)),
    ((8, 8, 8), (1.0, 1.0, 1.0)),
    ((6, 8, 12), (1.0, 3.0, 2.0)),
]


@pytest.mark.parametrize("shape, lengths", BOXES)
def test_parseval_holds_for_noise_in_any_box(shape, lengths):
    # White noise fills the corner and Nyquist modes, where a wrong weight would show.
    grid = Grid(shape, lengths)
    velocity, acceleration = noise(grid, 3) + 0.7, noise(grid, 3, seed=1) - 0.2
    k, spectrum = energy_spectrum(velocity, grid)
    assert spectrum.shape == (3, len(k))
    box = tuple(range(-grid.num_dims, 0))
    fluctuation = velocity - velocity.mean(box, keepdim=True)
    torch.testing.assert_close(spectrum.sum(-1) * (k[1] - k[0]), energy(fluctuation), rtol=ROUND_OFF, atol=0)
    # The same for the work of an acceleration on the fluctuations.
    work = (fluctuation * acceleration).sum(1).mean(box)
    transfer = transfer_spectrum(velocity, acceleration, grid)[1]
    torch.testing.assert_close(transfer.sum(-1) * (k[1] - k[0]), work, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("shape, lengths", BOXES)
def test_a_linear_damping_takes_twice_its_rate_out_of_every_shell(shape, lengths):
    grid = Grid(shape, lengths)
    velocity = noise(grid, 2)
    spectrum, transfer = energy_spectrum(velocity, grid)[1], transfer_spectrum(velocity, -0.3 * velocity, grid)[1]
    torch.testing.assert_close(transfer, -0.6 * spectrum, rtol=ROUND_OFF, atol=0)


@pytest.mark.parametrize("num_points", [32, 64])
def test_white_noise_in_three_dimensions_fills_shells_like_their_surface(num_points):
    # Every mode has the same energy, so E(k) grows with the 4 pi (k / dk)^2 modes of a shell up to its Nyquist
    # wavenumber. The sum of 3000 modes and more scatters by 1.5 %, the number of points in a shell by as much.
    grid = Grid((num_points,) * 3, (2.0, 2.0, 2.0))
    k, spectrum = energy_spectrum(noise(grid, 1), grid)
    step = k[1] - k[0]
    middle = slice(num_points // 2 - 6, num_points // 2 - 1)
    expected = 1.5 / num_points**3 * 4 * math.pi * (k / step) ** 2 / step
    torch.testing.assert_close(spectrum[0, middle], expected[middle], rtol=0.06, atol=0)


def test_a_helical_wave_fills_one_shell_of_three_dimensions():
    # u = A (sin kz, cos kz, 0) is its own vorticity over k: E = A^2 / 2 and Z = A^2 k^2 / 2, all at k = 3.
    grid = Grid((4, 4, 16), (2 * math.pi, 2 * math.pi, 2 * math.pi))
    x, y, z = grid.coordinates()
    velocity = (
        1.3 * torch.stack([torch.sin(3 * z) + 0 * (x + y), torch.cos(3 * z) + 0 * (x + y), 0 * (x + y + z)])[None]
    )
    k, spectrum = energy_spectrum(velocity, grid)
    expected = torch.zeros_like(spectrum)
    expected[0, k == 3] = 1.3**2 / 2
    torch.testing.assert_close(spectrum, expected, rtol=0, atol=ROUND_OFF)
    assert enstrophy(3 * velocity).item() == pytest.approx((1.3 * 3) ** 2 / 2, rel=ROUND_OFF)


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
@pytest.mark.parametrize("shape, lengths", [((12, 16), (1.0, 3.0)), ((6, 8, 4), (1.0, 3.0, 2.0))])
def test_viscous_loss_is_the_work_of_the_discrete_laplacian(make, shape, lengths):
    flow = Flow(viscosity=0.3)
    grid = Grid(shape, lengths)
    velocity, operators, d = noise(grid, 2), make(grid), grid.num_dims
    gradient = operators.velocity_gradient(velocity)
    laplacian = []
    for row in range(d):
        # Row i of the divergence of a stress whose row i is grad(u_i), with zeros elsewhere.
        stress = [torch.zeros_like(gradient[0])] * (d * (d + 1) // 2)
        for axis in range(d):
            stress[symmetric_index(row, axis, d)] = gradient[row * d + axis]
        laplacian.append(operators.divergence(stress)[:, row])
    work = flow.viscosity * (velocity * torch.stack(laplacian, 1)).sum(1).flatten(1).mean(1)
    budget = energy_budget(velocity, torch.zeros_like(velocity), flow, operators)
    torch.testing.assert_close(budget.viscous, work, rtol=ROUND_OFF, atol=0)
