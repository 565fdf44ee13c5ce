"""The staggered finite-volume solver: exact discrete solutions, order in space and time, conservation, budgets."""

import math

import pytest
import torch

from hpcsurrogate.core.config import Flow, KolmogorovForcing, RingForcing
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.exact import StreamWaves, Wave, laminar_kolmogorov, taylor_green
from hpcsurrogate.physics.finite_volume import FiniteVolumeSolver
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectra import energy, energy_budget
from hpcsurrogate.physics.stress_operators import StaggeredOperators

DOMAIN = (2 * math.pi, 3 * math.pi)
GRID = Grid((24, 20), DOMAIN)
INVISCID = Flow(domain=DOMAIN, viscosity=0.0)
DECAYING = Flow(domain=DOMAIN, viscosity=0.03, drag=0.2)
FORCED = DECAYING.model_copy(update={"forcing": RingForcing(kind="ring", wavenumber=2, amplitude=0.8)})
KOLMOGOROV = DECAYING.model_copy(update={"forcing": KolmogorovForcing(kind="kolmogorov", wavenumber=2, amplitude=0.7)})
ROUND_OFF = 1e-13  # float64, fields of order 1
ORDERS = (2, 4, 6)
# Differences over n cells from faces to a centre, and second differences, as textbooks give them.
FACE_WEIGHTS = {2: {1: 1}, 4: {1: 9 / 8, 3: -1 / 8}, 6: {1: 75 / 64, 3: -25 / 128, 5: 3 / 128}}
SECOND_DIFFERENCE = {2: (-2, 1), 4: (-5 / 2, 4 / 3, -1 / 12), 6: (-49 / 18, 3 / 2, -3 / 20, 1 / 90)}


def divergence(velocity, order):
    """Discrete divergence by neighbours: n cells to the right less n cells to the left of the centre, n odd."""
    total = 0
    for component, axis in ((0, -2), (1, -1)):
        field, h = velocity[..., component, :, :], GRID.spacing[axis]
        for n, weight in FACE_WEIGHTS[order].items():
            right, left = torch.roll(field, -(n - 1) // 2, axis), torch.roll(field, (n + 1) // 2, axis)
            total = total + weight / (n * h) * (right - left)
    return total


def discrete_k2(order, k, h):
    """Eigenvalue of minus the second difference of a wave of wavenumber k."""
    centre, *others = SECOND_DIFFERENCE[order]
    return -(centre + 2 * sum(w * math.cos(m * k * h) for m, w in enumerate(others, start=1))) / h**2


def march(solver, velocity, dt, num_steps):
    state = solver.encode(velocity)
    for _ in range(num_steps):
        state = solver.step(state, dt)
    return solver.decode(state)


@pytest.mark.parametrize("order", ORDERS)
def test_advection_is_of_its_order_in_space(order):
    waves = StreamWaves(DOMAIN, [Wave(1.0, 1, 1, 0.3), Wave(-0.5, -1, 2, 1.1), Wave(0.4, 2, 0)])
    errors = []
    for n in (48, 96):
        grid = Grid((n, 5 * n // 6), DOMAIN)
        computed = FiniteVolumeSolver(grid, INVISCID, order).advection(waves.velocity(grid, "staggered"))
        errors.append((computed - waves.advection(grid, "staggered")).abs().max().item())
    # Measured at 12 points or more in the shortest product wave; the next term of the error is a few percent.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("order", ORDERS)
def test_projection_removes_the_discrete_divergence_and_nothing_else(order):
    solver = FiniteVolumeSolver(GRID, INVISCID, order)
    vector = torch.randn(2, 2, 24, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    projected = solver.project(vector)
    assert divergence(vector, order).abs().max() > 1
    assert divergence(projected, order).abs().max() < 1e-12  # differences of order-one values over h = 0.26
    torch.testing.assert_close(solver.project(projected), projected, rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(projected.mean((-2, -1)), vector.mean((-2, -1)), rtol=0, atol=ROUND_OFF)
    # Orthogonal: what is taken away does no work on what stays.
    assert ((vector - projected) * projected).mean().abs() < ROUND_OFF


@pytest.mark.parametrize("order", ORDERS)
def test_advection_conserves_energy_and_momentum(order):
    # White noise: the property belongs to the scheme, not to smooth fields.
    solver = FiniteVolumeSolver(GRID, INVISCID, order)
    noise = torch.randn(3, 2, 24, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    velocity = solver.project(noise)
    acceleration = solver.advection(velocity)
    assert acceleration.square().mean() > 1
    work = (velocity * acceleration).sum(1).mean((-2, -1))
    torch.testing.assert_close(work, torch.zeros(3).double(), rtol=0, atol=1e-12)  # terms of order 10
    assert acceleration.mean((-2, -1)).abs().max() < 1e-12
    # The projection is what makes it so: a field with divergence gains or loses energy.
    assert (noise * solver.advection(noise)).sum(1).mean((-2, -1)).abs().max() > 1e-3


@pytest.mark.parametrize("order", ORDERS)
def test_divergence_stays_at_round_off(order):
    solver = FiniteVolumeSolver(GRID, FORCED, order)
    noise = torch.randn(1, 2, 24, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    end = march(solver, solver.project(noise), 0.02, 100)
    assert end.abs().max() > 0.1
    assert divergence(end, order).abs().max() < 1e-12


@pytest.mark.parametrize("order", ORDERS)
def test_inviscid_energy_error_is_that_of_the_time_step(order, random_velocity):
    # RK4 loses energy at O(dt^5) over a fixed time, so halving dt leaves about 1/32 of the loss.
    solver = FiniteVolumeSolver(GRID, INVISCID, order)
    start = solver.project(random_velocity(GRID))
    losses = [abs((energy(march(solver, start, 0.4 / n, n)) - energy(start)).item()) for n in (4, 8)]
    assert losses[0] < 1e-3
    assert math.log2(losses[0] / losses[1]) == pytest.approx(5, abs=0.6)


@pytest.mark.parametrize("order", ORDERS)
def test_taylor_green_is_an_exact_solution_of_the_discrete_equations(order):
    """Decay at the discrete rate, by the polynomial of RK4 per step, to round-off.

    With 12 points to a wave along both axes the discrete advection term is a discrete gradient too.
    """
    grid = Grid((24, 36), DOMAIN)
    solver = FiniteVolumeSolver(grid, DECAYING, order)
    start = taylor_green(grid, DECAYING, 0.0, "staggered", num_waves=(2, 3))
    (hx, hy), dt, num_steps = grid.spacing, 0.5, 6
    rate = DECAYING.viscosity * (discrete_k2(order, 2, hx) + discrete_k2(order, 2, hy)) + DECAYING.drag
    z = -rate * dt
    amplification = 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24
    # Point values are not quite free of the discrete divergence where hx and hy differ; a mode projects onto a mode.
    start = solver.project(start)
    computed = march(solver, start, dt, num_steps)
    torch.testing.assert_close(computed, amplification**num_steps * start, rtol=0, atol=ROUND_OFF)


def test_taylor_green_decay_is_of_order_4_in_time():
    grid = Grid((24, 24), (2 * math.pi, 2 * math.pi))
    flow = Flow(viscosity=0.03, drag=0.2)
    solver = FiniteVolumeSolver(grid, flow)
    start = taylor_green(grid, flow, 0.0, "staggered", num_waves=(2, 2))
    rate = flow.viscosity * 2 * discrete_k2(2, 2, grid.spacing[0]) + flow.drag
    exact = math.exp(-4.0 * rate) * start
    errors = [(march(solver, start, 4.0 / n, n) - exact).norm().item() for n in (8, 16)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("order", ORDERS)
def test_taylor_green_decay_rate_is_of_its_order_in_space(order):
    # Time steps so small that 1e-12 of the error is theirs.
    flow = Flow(viscosity=0.05)
    errors = []
    for n in (12, 24):
        grid = Grid((n, n), (2 * math.pi, 2 * math.pi))
        start, exact = (taylor_green(grid, flow, time, "staggered") for time in (0.0, 0.2))
        errors.append((march(FiniteVolumeSolver(grid, flow, order), start, 0.02, 10) - exact).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("order", ORDERS)
def test_laminar_kolmogorov_flow_is_steady_at_its_discrete_amplitude(order):
    # Force averaged over the face: sinc(b h / 2); viscosity: the second difference of the wave.
    solver, (_, hy) = FiniteVolumeSolver(GRID, KOLMOGOROV, order), GRID.spacing
    b = 2 * math.pi * 2 / DOMAIN[1]
    averaged = math.sin(b * hy / 2) / (b * hy / 2)
    continuous = KOLMOGOROV.viscosity * b**2 + KOLMOGOROV.drag
    discrete = KOLMOGOROV.viscosity * discrete_k2(order, b, hy) + KOLMOGOROV.drag
    steady = laminar_kolmogorov(GRID, KOLMOGOROV, "staggered") * (averaged * continuous / discrete)
    assert solver.decode(solver.rhs(solver.encode(steady))).abs().max() < ROUND_OFF
    torch.testing.assert_close(march(solver, steady, 0.05, 20), steady, rtol=0, atol=10 * ROUND_OFF)
    # Second order away from the analytic amplitude, whatever the order: the face average differs from the point value.
    assert abs(averaged * continuous / discrete - 1) < (b * hy) ** 2 / 12


def test_energy_budget_is_closed_at_every_moment_and_over_steps(random_velocity):
    solver, operators = FiniteVolumeSolver(GRID, FORCED), StaggeredOperators(GRID)
    start = solver.project(random_velocity(GRID, wavenumber=2))
    force = solver.decode(solver.rhs(torch.zeros(2, 24, 11, dtype=torch.complex128)))
    rate = (start * solver.decode(solver.rhs(solver.encode(start)))).sum(1).mean((-2, -1))
    torch.testing.assert_close(rate, energy_budget(start, force, FORCED, operators).total, rtol=0, atol=ROUND_OFF)
    # Energy gained in two steps against Simpson's rule over the budget: both err by O(dt^5) or better.
    gaps = []
    for dt in (0.1, 0.05):
        states = [start, march(solver, start, dt, 1), march(solver, start, dt, 2)]
        totals = [energy_budget(velocity, force, FORCED, operators).total.item() for velocity in states]
        integral = dt / 3 * (totals[0] + 4 * totals[1] + totals[2])
        gaps.append(abs((energy(states[2]) - energy(states[0])).item() - integral))
    assert gaps[0] < 1e-5
    assert math.log2(gaps[0] / gaps[1]) > 4.5


@pytest.mark.parametrize("order, smallest", [(2, 4), (4, 4), (6, 6)])
def test_smallest_grid_of_each_order_works(order, smallest):
    grid = Grid((smallest, smallest), DOMAIN)
    solver = FiniteVolumeSolver(grid, DECAYING, order)
    noise = torch.randn(1, 2, smallest, smallest, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    velocity = solver.project(noise)
    assert (velocity * solver.advection(velocity)).sum(1).mean().abs() < ROUND_OFF


def test_a_grid_narrower_than_the_stencil_is_refused():
    with pytest.raises(ConfigError, match="order 6 needs at least 6 points"):
        FiniteVolumeSolver(Grid((16, 4), DOMAIN), DECAYING, 6)
