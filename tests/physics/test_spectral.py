"""The spectral solver: exact solutions, conservation, budgets, aliasing, and moving between grids."""

import math

import pytest
import torch

from hpcsurrogate.core.config import Flow, Hyperviscosity, KolmogorovForcing, RingForcing
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.exact import StreamWaves, Wave, decaying_shear, laminar_kolmogorov, taylor_green
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectra import energy, energy_budget, enstrophy
from hpcsurrogate.physics.spectral import SpectralSolver
from hpcsurrogate.physics.stress_operators import SpectralOperators

DOMAIN = (2 * math.pi, 3 * math.pi)
GRID = Grid((24, 20), DOMAIN)
INVISCID = Flow(domain=DOMAIN, viscosity=0.0)
DECAYING = Flow(domain=DOMAIN, viscosity=0.03, drag=0.2)
FORCED = DECAYING.model_copy(update={"forcing": RingForcing(kind="ring", wavenumber=2, amplitude=0.8)})
KOLMOGOROV = DECAYING.model_copy(update={"forcing": KolmogorovForcing(kind="kolmogorov", wavenumber=2, amplitude=0.7)})
ROUND_OFF = 1e-13  # float64, fields of order 1


def march(solver, velocity, dt, num_steps):
    omega_hat = solver.vorticity_hat_from_velocity(velocity)
    for _ in range(num_steps):
        omega_hat = solver.step(omega_hat, dt)
    return solver.velocity(omega_hat)


@pytest.mark.parametrize("dealias", ["two_thirds", "shift"])
@pytest.mark.parametrize("num_steps", [1, 40])
def test_taylor_green_decays_without_any_error_in_time(num_steps, dealias):
    # Advection is a gradient and the decay is integrated exactly: one step of 2 s is as good as forty.
    solver = SpectralSolver(GRID, DECAYING, dealias)
    computed = march(solver, taylor_green(GRID, DECAYING, 0.0, num_waves=(3, 2)), 2.0 / num_steps, num_steps)
    exact = taylor_green(GRID, DECAYING, 2.0, num_waves=(3, 2))
    torch.testing.assert_close(computed, exact, rtol=0, atol=ROUND_OFF)


def test_every_wave_of_a_shear_decays_at_its_own_rate():
    solver, amplitudes = SpectralSolver(GRID, DECAYING), (1.0, 0.5, 0.0, 0.7)
    computed = march(solver, decaying_shear(GRID, DECAYING, 0.0, amplitudes=amplitudes), 0.7, 3)
    exact = decaying_shear(GRID, DECAYING, 2.1, amplitudes=amplitudes)
    torch.testing.assert_close(computed, exact, rtol=0, atol=ROUND_OFF)


def test_hyperviscosity_damps_at_its_rate():
    # On this grid kmax = pi / hy = 20/3 (the coarser spacing); a shear of 6 waves has k = 4.
    hyperviscosity = Hyperviscosity(rate=3.0, power=2)
    solver = SpectralSolver(GRID, INVISCID, "two_thirds", hyperviscosity)
    start = decaying_shear(GRID, INVISCID, 0.0, amplitudes=(0, 0, 0, 0, 0, 1.0))
    expected = start * math.exp(-3.0 * (4 / (20 / 3)) ** 4 * 0.5)
    torch.testing.assert_close(march(solver, start, 0.5, 1), expected, rtol=0, atol=ROUND_OFF)


def test_laminar_kolmogorov_flow_stays_to_the_order_of_the_step():
    # Steady in the right-hand side to round-off. A step with integrating factor sees force and damping apart, so it
    # settles a fourth-order error away: 16 times less at half the time step.
    solver, laminar = SpectralSolver(GRID, KOLMOGOROV), laminar_kolmogorov(GRID, KOLMOGOROV)
    rate = solver.rhs(solver.vorticity_hat_from_velocity(laminar))
    assert solver.velocity(rate).abs().max() < ROUND_OFF
    drift = [(march(solver, laminar, 1.0 / n, n) - laminar).norm().item() for n in (2, 4)]
    assert drift[0] < 1e-4 * laminar.norm().item()
    assert math.log2(drift[0] / drift[1]) == pytest.approx(4, abs=0.1)


def test_advection_conserves_energy_enstrophy_and_momentum(random_velocity):
    solver = SpectralSolver(GRID, INVISCID)
    velocity = random_velocity(GRID, batch=3)
    omega_hat = solver.vorticity_hat_from_velocity(velocity)
    rate_hat = solver.nonlinear(omega_hat)
    acceleration, omega, omega_rate = solver.velocity(rate_hat), solver.vorticity(omega_hat), solver.vorticity(rate_hat)
    assert acceleration.square().mean() > 0.01  # advection does something
    for work in ((velocity * acceleration).sum(1).mean((-2, -1)), (omega * omega_rate).mean((-2, -1))):
        torch.testing.assert_close(work, torch.zeros(3).double(), rtol=0, atol=ROUND_OFF)
    assert acceleration.mean((-2, -1)).abs().max() < ROUND_OFF


def test_energy_and_enstrophy_budgets_are_closed_at_every_moment(random_velocity):
    solver, operators = SpectralSolver(GRID, FORCED), SpectralOperators(GRID)
    omega_hat = solver.vorticity_hat_from_velocity(random_velocity(GRID, batch=2))
    velocity, omega = solver.velocity(omega_hat), solver.vorticity(omega_hat)
    at_rest = torch.zeros_like(omega_hat[0])
    force, force_curl = solver.velocity(solver.rhs(at_rest)), solver.vorticity(solver.rhs(at_rest))
    rate_hat = solver.rhs(omega_hat)
    energy_rate = (velocity * solver.velocity(rate_hat)).sum(1).mean((-2, -1))
    budget = energy_budget(velocity, force, FORCED, operators)
    torch.testing.assert_close(energy_rate, budget.total, rtol=0, atol=ROUND_OFF)
    enstrophy_rate = (omega * solver.vorticity(rate_hat)).mean((-2, -1))
    palinstrophy = sum(part.square().mean((-2, -1)) for part in operators.gradient_of_centre(omega))
    injection = (omega * force_curl).mean((-2, -1))
    expected = injection - FORCED.viscosity * palinstrophy - 2 * FORCED.drag * enstrophy(omega)
    torch.testing.assert_close(enstrophy_rate, expected, rtol=0, atol=10 * ROUND_OFF)


def test_energy_budget_is_closed_over_steps_to_their_order(random_velocity):
    # Energy gained in two steps against Simpson's rule over the budget: both err by O(dt^5) or better.
    solver, operators = SpectralSolver(GRID, FORCED), SpectralOperators(GRID)
    start = random_velocity(GRID, wavenumber=2)
    force = solver.velocity(solver.rhs(torch.zeros(24, solver.num_columns, dtype=torch.complex128)))
    gaps = []
    for dt in (0.1, 0.05):
        states = [start, march(solver, start, dt, 1), march(solver, start, dt, 2)]
        totals = [energy_budget(velocity, force, FORCED, operators).total.item() for velocity in states]
        integral = dt / 3 * (totals[0] + 4 * totals[1] + totals[2])
        gaps.append(abs((energy(states[2]) - energy(states[0])).item() - integral))
    assert gaps[0] < 1e-5
    assert math.log2(gaps[0] / gaps[1]) > 4.5


def test_parseval_between_vorticity_and_velocity(random_velocity):
    # Sum of k^2 |u_hat|^2 over all modes is the enstrophy; a mode with ky > 0 stands for its conjugate too.
    velocity = random_velocity(GRID, batch=2)
    solver = SpectralSolver(GRID, INVISCID)
    velocity_hat = torch.fft.rfft2(velocity) / (24 * 20)
    twice = torch.full((11,), 2.0, dtype=torch.float64)
    twice[0] = twice[-1] = 1
    expected = 0.5 * (twice * GRID.k2 * velocity_hat.abs().square().sum(1)).sum((-2, -1))
    omega = solver.vorticity(solver.vorticity_hat_from_velocity(velocity))
    torch.testing.assert_close(enstrophy(omega), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("falloff, factor", [(0.0, 0.4), (1 / 9, 1e-3)])
def test_half_cell_shift_removes_most_aliasing(falloff, factor):
    """Mean of a plain and a shifted stage against the product without aliasing, formed on a grid twice as fine.

    What folds over along one axis changes sign with the shift and cancels; what folds over along both does not. The
    field has as much energy in every mode of the coarse grid, the worst case: there the error falls to 0.28 of the
    plain one, asserted is 0.4; with a spectrum that falls off like exp(-k^2 / 9), to 4e-5 of it, asserted is 1e-3.
    """
    shifted = SpectralSolver(GRID, INVISCID, "shift")
    finer = SpectralSolver(Grid((48, 40), DOMAIN), INVISCID)
    noise = torch.randn(8, 2, 24, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    omega_hat = shifted.vorticity_hat_from_velocity(noise) * torch.exp(-falloff * GRID.k2)
    plain = shifted.nonlinear(omega_hat, 0)
    paired = 0.5 * (plain + shifted.nonlinear(omega_hat, 1))
    exact = finer.nonlinear(shifted.refine(omega_hat, finer))
    refined = [shifted.refine(rate, finer) for rate in (plain, paired)]
    kept = shifted.refine(torch.ones_like(omega_hat[0]), finer).real > 0
    plain_error, paired_error = ((rate - exact)[..., kept].norm().item() for rate in refined)
    assert plain_error > 0.1 * exact[..., kept].norm().item()
    assert paired_error < factor * plain_error


def test_two_thirds_rule_has_no_aliasing(random_velocity):
    coarse, finer = SpectralSolver(GRID, INVISCID), SpectralSolver(Grid((48, 40), DOMAIN), INVISCID)
    omega_hat = coarse.vorticity_hat_from_velocity(random_velocity(GRID, wavenumber=5))
    rate = coarse.refine(coarse.nonlinear(omega_hat), finer)
    exact = finer.nonlinear(coarse.refine(omega_hat, finer))
    kept = coarse.refine(torch.ones_like(omega_hat[0]), finer).real > 0
    torch.testing.assert_close(rate[..., kept], exact[..., kept], rtol=0, atol=ROUND_OFF * exact.abs().max().item())


@pytest.mark.parametrize("dealias", ["two_thirds", "shift"])
@pytest.mark.parametrize("shape", [(48, 40), (36, 50), (26, 22)])
def test_refine_keeps_the_field(shape, dealias):
    waves = StreamWaves(DOMAIN, [Wave(1.0, 7, 1, 0.3), Wave(-0.5, -3, 6, 1.1), Wave(0.4, 2, 0), Wave(0.2, -7, 0, 0.5)])
    coarse, finer = SpectralSolver(GRID, INVISCID, dealias), SpectralSolver(Grid(shape, DOMAIN), INVISCID)
    omega_hat = coarse.vorticity_hat_from_velocity(waves.velocity(GRID, "collocated"))
    refined = finer.velocity(coarse.refine(omega_hat, finer))
    torch.testing.assert_close(refined, waves.velocity(finer.grid, "collocated"), rtol=0, atol=10 * ROUND_OFF)


def test_random_start_has_the_velocity_asked_for_and_follows_the_generator():
    solver = SpectralSolver(GRID, INVISCID)
    first, again, other = (
        solver.velocity(solver.random_vorticity_hat(3, 1.7, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)
    )
    assert first.square().sum(0).mean().sqrt().item() == pytest.approx(1.7, rel=ROUND_OFF)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_max_velocity_is_the_largest_component(random_velocity):
    solver = SpectralSolver(GRID, INVISCID)
    velocity = random_velocity(GRID)
    found = solver.max_velocity(solver.vorticity_hat_from_velocity(velocity))
    assert found == pytest.approx(velocity.abs().max().item(), rel=ROUND_OFF)


@pytest.mark.parametrize("kind", ["kolmogorov", "ring"])
def test_a_force_that_the_two_thirds_rule_would_drop_is_refused(kind):
    # 7 waves fit on 20 points, but 3 * 7 > 20: the force would vanish without a word.
    forcing = (KolmogorovForcing if kind == "kolmogorov" else RingForcing)(kind=kind, wavenumber=7)
    flow = DECAYING.model_copy(update={"forcing": forcing})
    with pytest.raises(ConfigError, match="7 waves need a grid of more than 21 points"):
        SpectralSolver(GRID, flow)
    kept = SpectralSolver(GRID, flow, "shift")
    assert kept.rhs(torch.zeros(24, kept.num_columns, dtype=torch.complex128)).abs().max() > 0
