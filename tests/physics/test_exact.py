"""The analytic problems solve the equations they claim to solve."""

import math

import pytest
import torch

from hpcsurrogate.core.config import Flow, KolmogorovForcing
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.exact import StreamWaves, Wave, decaying_shear, laminar_kolmogorov, taylor_green
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectral import SpectralSolver
from hpcsurrogate.physics.stress_operators import SpectralOperators

DOMAIN = (2 * math.pi, 3 * math.pi)
GRID = Grid((24, 20), DOMAIN)
DECAYING = Flow(domain=DOMAIN, viscosity=0.03, drag=0.2)
FORCED = Flow(
    domain=DOMAIN, viscosity=0.03, drag=0.2, forcing=KolmogorovForcing(kind="kolmogorov", wavenumber=2, amplitude=0.7)
)
WAVES = StreamWaves(DOMAIN, [Wave(1.0, 2, 1, 0.3), Wave(-0.5, -1, 3, 1.1), Wave(0.4, 3, 0)])
ROUND_OFF = 1e-12  # float64, spectral derivatives of fields of order 1


def tendency(flow, velocity):
    """Right-hand side of the momentum equation by the spectral solver, exact for so few modes."""
    solver = SpectralSolver(GRID, flow)
    return solver.velocity(solver.rhs(solver.vorticity_hat_from_velocity(velocity)))


def test_waves_are_free_of_divergence_and_mean():
    velocity = WAVES.velocity(GRID, "collocated")
    ux, _, _, vy = SpectralOperators(GRID).velocity_gradient(velocity)
    torch.testing.assert_close(ux + vy, torch.zeros_like(ux), rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(velocity.mean((-2, -1)), torch.zeros(1, 2).double(), rtol=0, atol=ROUND_OFF)


def test_advection_of_waves_is_that_of_spectral_derivatives():
    velocity = WAVES.velocity(GRID, "collocated")
    u, v = velocity.unbind(1)
    ux, uy, vx, vy = SpectralOperators(GRID).velocity_gradient(velocity)
    expected = -torch.stack((u * ux + v * uy, u * vx + v * vy), dim=1)
    torch.testing.assert_close(WAVES.advection(GRID, "collocated"), expected, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("problem", [WAVES.velocity, WAVES.advection])
def test_staggered_values_are_the_collocated_field_moved_to_the_faces(problem):
    # A trigonometric polynomial is moved exactly by a turn of the phases of its coefficients.
    coefficients = torch.fft.rfft2(problem(GRID, "collocated"))
    hx, hy = GRID.spacing
    turn = [torch.exp(1j * (GRID.kx * hx * i + GRID.ky * hy * j)) for i, j in ((1, 0.5), (0.5, 1))]
    expected = torch.fft.irfft2(coefficients * torch.stack(turn), s=GRID.shape)
    torch.testing.assert_close(problem(GRID, "staggered"), expected, rtol=0, atol=ROUND_OFF)


def test_taylor_green_only_decays():
    kappa2 = 2**2 + (2 / 3 * 3) ** 2
    velocity = taylor_green(GRID, DECAYING, 0.0, num_waves=(2, 3))
    rate = -(DECAYING.viscosity * kappa2 + DECAYING.drag)
    torch.testing.assert_close(tendency(DECAYING, velocity), rate * velocity, rtol=0, atol=ROUND_OFF)
    later = taylor_green(GRID, DECAYING, 1.7, num_waves=(2, 3))
    torch.testing.assert_close(later, math.exp(1.7 * rate) * velocity, rtol=0, atol=ROUND_OFF)
    # U = 1: psi = U / kappa sin(a x) sin(b y), so <u^2 + v^2> = (a^2 + b^2) / (4 kappa^2).
    assert velocity.square().sum(1).mean().item() == pytest.approx(0.25, rel=ROUND_OFF)


def test_decaying_shear_solves_the_equations():
    # d/dt by a central difference: its error is (rate dt)^2 / 6 of order 1e-8.
    dt = 1e-4
    velocity = decaying_shear(GRID, DECAYING, 0.5, amplitudes=(1.0, 0.0, 0.6))
    before, after = (decaying_shear(GRID, DECAYING, 0.5 + s, amplitudes=(1.0, 0.0, 0.6)) for s in (-dt, dt))
    torch.testing.assert_close(tendency(DECAYING, velocity), (after - before) / (2 * dt), rtol=0, atol=1e-8)
    _, y = GRID.coordinates()
    start = decaying_shear(GRID, DECAYING, 0.0, amplitudes=(1.0, 0.0, 0.6))
    expected = torch.sin(2 / 3 * y) + 0.6 * torch.sin(2 * y)
    torch.testing.assert_close(start[0, 0], expected.expand(GRID.shape), rtol=0, atol=ROUND_OFF)
    assert start[0, 1].abs().max() == 0


def test_laminar_kolmogorov_flow_is_steady():
    velocity = laminar_kolmogorov(GRID, FORCED)
    torch.testing.assert_close(tendency(FORCED, velocity), torch.zeros_like(velocity), rtol=0, atol=ROUND_OFF)
    b = 2 * math.pi * 2 / DOMAIN[1]
    peak = 0.7 / (0.03 * b**2 + 0.2)
    _, y = GRID.coordinates()
    torch.testing.assert_close(velocity[0, 0], (peak * torch.sin(b * y)).expand(GRID.shape), rtol=0, atol=ROUND_OFF)


def test_a_flow_that_does_not_fit_the_problem_is_refused():
    with pytest.raises(ConfigError, match="decay unforced, not under kolmogorov"):
        taylor_green(GRID, FORCED, 0.0)
    with pytest.raises(ConfigError, match="decays unforced, not under kolmogorov"):
        decaying_shear(GRID, FORCED, 0.0)
    with pytest.raises(ConfigError, match="needs kolmogorov, not none"):
        laminar_kolmogorov(GRID, DECAYING)
    with pytest.raises(ConfigError, match="grows for ever"):
        laminar_kolmogorov(GRID, FORCED.model_copy(update={"viscosity": 0.0, "drag": 0.0}))
