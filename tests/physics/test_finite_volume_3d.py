"""The staggered finite-volume solver in three dimensions, and its upwind fluxes in two and three."""

import math

import pytest
import torch

from hpcsurrogate.core.config import ConstantPowerForcing, Flow, KolmogorovForcing
from hpcsurrogate.physics.exact import StreamWaves, Wave
from hpcsurrogate.physics.exact_3d import abc_flow, extruded
from hpcsurrogate.physics.finite_volume import FiniteVolumeSolver
from hpcsurrogate.physics.grid import Grid

DOMAIN = (2 * math.pi, 4 * math.pi, 2 * math.pi)
GRID = Grid((12, 16, 14), DOMAIN)
INVISCID = Flow(domain=DOMAIN, viscosity=0.0)
DECAYING = Flow(domain=DOMAIN, viscosity=0.03, drag=0.2)
ORDERS = (2, 4, 6)
SCHEMES = [(order, advection) for order in ORDERS for advection in ("central", "upwind")]
ROUND_OFF = 1e-13  # float64, fields of order 1


def noise(shape, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, len(shape), *shape, dtype=torch.float64, generator=generator)


def mean(field):
    return field.mean((-3, -2, -1))


def work(velocity, acceleration):
    """Mean power of an acceleration on a flow, per sample."""
    return mean((velocity * acceleration).sum(1))


def flat(flow):
    return flow.model_copy(update={"domain": DOMAIN[:2]})


@pytest.mark.parametrize(("order", "advection"), SCHEMES)
def test_a_flow_without_a_third_dimension_is_that_of_the_two_dimensional_solver(order, advection):
    forcing = KolmogorovForcing(kind="kolmogorov", wavenumber=2, amplitude=0.7)
    flow = DECAYING.model_copy(update={"forcing": forcing})
    plane = FiniteVolumeSolver(Grid(GRID.shape[:2], DOMAIN[:2]), flat(flow), order, advection)
    solver = FiniteVolumeSolver(GRID, flow, order, advection)
    start = plane.project(noise(GRID.shape[:2]))
    state_2d, state_3d = plane.encode(start), solver.encode(extruded(start, GRID.shape[2]))
    for _ in range(4):
        state_2d, state_3d = plane.step(state_2d, 0.02), solver.step(state_3d, 0.02)
    expected = extruded(plane.decode(state_2d), GRID.shape[2])
    torch.testing.assert_close(solver.decode(state_3d), expected, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize(("order", "advection"), SCHEMES)
def test_advection_of_an_abc_flow_is_a_gradient_to_the_order_of_the_scheme(order, advection):
    """Its exact advection term is the gradient of a pressure, so what the projection leaves is the scheme's error."""
    errors = []
    for scale in (1, 2):
        # With cubic cells the central error would be a discrete gradient too.
        grid = Grid((16 * scale, 24 * scale, 20 * scale), DOMAIN)
        solver = FiniteVolumeSolver(grid, INVISCID, order, advection)
        velocity = solver.project(abc_flow(grid, INVISCID, 0.0, "staggered"))
        errors.append(solver.project(solver.advection(velocity)).square().mean().sqrt().item())
    # 16 points to a wave: the next term of the error is a few percent.
    expected = order if advection == "central" else order - 1
    assert math.log2(errors[0] / errors[1]) == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("order", ORDERS)
def test_advection_conserves_energy_and_momentum(order):
    # White noise: the property belongs to the scheme, not to smooth fields.
    solver = FiniteVolumeSolver(GRID, INVISCID, order)
    velocity = solver.project(noise(GRID.shape, batch=2))
    acceleration = solver.advection(velocity)
    assert acceleration.square().mean() > 1
    assert work(velocity, acceleration).abs().max() < 1e-12  # terms of order 10
    assert mean(acceleration).abs().max() < 1e-12


@pytest.mark.parametrize("shape", [GRID.shape, GRID.shape[:2]])
@pytest.mark.parametrize("order", ORDERS)
def test_upwind_fluxes_conserve_momentum_and_take_energy(order, shape):
    grid = Grid(shape, DOMAIN[: len(shape)])
    solver = FiniteVolumeSolver(grid, INVISCID.model_copy(update={"domain": grid.lengths}), order, "upwind")
    velocity = solver.project(noise(shape, batch=4))
    acceleration = solver.advection(velocity)
    axes = tuple(range(-len(shape), 0))
    assert acceleration.mean(axes).abs().max() < 1e-12
    assert (velocity * acceleration).sum(1).mean(axes).max() < -0.05


@pytest.mark.parametrize("order", ORDERS)
def test_what_upwind_adds_vanishes_one_order_earlier_than_the_central_error(order):
    domain = DOMAIN[:2]
    waves = StreamWaves(domain, [Wave(1.0, 1, 1, 0.3), Wave(-0.5, -1, 2, 1.1), Wave(0.4, 2, 0)])
    added = []
    for n in (48, 96):
        grid = Grid((n, 2 * n), domain)
        velocity = waves.velocity(grid, "staggered")
        upwind, central = (
            FiniteVolumeSolver(grid, flat(INVISCID), order, advection).advection(velocity)
            for advection in ("upwind", "central")
        )
        # The mean square: where a velocity changes sign its magnitude has a kink, and the largest value lies there.
        added.append((upwind - central).square().mean().sqrt().item())
    assert math.log2(added[0] / added[1]) == pytest.approx(order - 1, abs=0.1)


@pytest.mark.parametrize("order", ORDERS)
def test_upwind_adds_the_dissipation_of_textbooks(order):
    """A uniform wind carries noise along x: what upwind adds to central is the even difference that turns a central
    derivative of the same points into the upstream-biased one, by hand."""
    even = {  # weights of places -p/2, ..., p/2, times |u| / h
        2: [1 / 2, -1, 1 / 2],
        4: [-1 / 12, 4 / 12, -6 / 12, 4 / 12, -1 / 12],
        6: [1 / 60, -6 / 60, 15 / 60, -20 / 60, 15 / 60, -6 / 60, 1 / 60],
    }
    grid, wind = Grid((12, 8), DOMAIN[:2]), -1.7
    v = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    velocity = torch.stack((torch.full((12, 8), wind, dtype=torch.float64), v[:, None].expand(12, 8)))[None]
    upwind, central = (
        FiniteVolumeSolver(grid, flat(INVISCID), order, advection).advection(velocity)[0, 1, :, 0]
        for advection in ("upwind", "central")
    )
    places = range(-order // 2, order // 2 + 1)
    added = sum(weight * torch.roll(v, -place) for place, weight in zip(places, even[order], strict=True))
    torch.testing.assert_close(upwind - central, abs(wind) / grid.spacing[0] * added, rtol=0, atol=1e-12)


def test_power_of_the_drive_and_of_viscosity_is_the_change_of_energy():
    forcing = ConstantPowerForcing(kind="constant_power", wavenumber=2, power=0.3)
    solver = FiniteVolumeSolver(GRID, DECAYING.model_copy(update={"forcing": forcing}), 4)
    velocity = solver.project(noise(GRID.shape, batch=2))
    rate = solver.decode(solver.rhs(solver.encode(velocity)))
    unforced = FiniteVolumeSolver(GRID, DECAYING, 4)
    lost = unforced.decode(unforced.rhs(unforced.encode(velocity)))
    torch.testing.assert_close(
        work(velocity, rate - lost), torch.full((2,), 0.3, dtype=torch.float64), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(("order", "advection"), SCHEMES)
def test_divergence_stays_at_round_off_and_gradients_flow(order, advection):
    solver = FiniteVolumeSolver(GRID, DECAYING, order, advection)
    start = solver.project(noise(GRID.shape)).requires_grad_()
    state = solver.encode(start)
    for _ in range(3):
        state = solver.step(state, 0.01)
    velocity = solver.decode(state)
    torch.testing.assert_close(solver.project(velocity), velocity, rtol=0, atol=ROUND_OFF)
    (slope,) = torch.autograd.grad(velocity.square().sum(), start)
    direction = solver.project(noise(GRID.shape, seed=1))
    ends = []
    for sign in (1, -1):
        moved = solver.encode(start.detach() + sign * 1e-6 * direction)
        for _ in range(3):
            moved = solver.step(moved, 0.01)
        ends.append(solver.decode(moved).square().sum())
    # Central difference of a sum of order 1e3: its own error is 1e-4 of the slope.
    assert (slope * direction).sum().item() == pytest.approx((ends[0] - ends[1]).item() / 2e-6, rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("order", ORDERS)
def test_turning_the_box_turns_the_acceleration(order):
    """x -> y -> z -> x: no axis is special."""
    solver = FiniteVolumeSolver(GRID, INVISCID, order, "upwind")
    turned_grid = Grid(GRID.shape[-1:] + GRID.shape[:-1], DOMAIN[-1:] + DOMAIN[:-1])
    turned_solver = FiniteVolumeSolver(
        turned_grid, INVISCID.model_copy(update={"domain": turned_grid.lengths}), order, "upwind"
    )

    def turned(field):
        return torch.roll(field, 1, dims=1).permute(0, 1, 4, 2, 3)

    velocity = solver.project(noise(GRID.shape))
    computed = turned_solver.project(turned_solver.advection(turned(velocity)))
    expected = turned(solver.project(solver.advection(velocity)))
    torch.testing.assert_close(computed, expected, rtol=0, atol=1e-12)


def test_a_stiff_damping_is_exact():
    """Where only the damping acts, on a uniform flow and one varying across itself, each mode decays by its rate."""
    solver = FiniteVolumeSolver(GRID, INVISCID)
    rates = 3 + 4 * solver.grid.k2  # times dt: up to 20, far beyond the 2.8 that explicit Runge-Kutta bears
    damped = solver.with_damping(rates / 4).with_damping(rates * 3 / 4)
    y = GRID.coordinates((0.5, 0.5, 0.5))[1]
    shear = torch.zeros(1, 3, *GRID.shape, dtype=torch.float64)
    shear[:, 0], shear[:, 2] = 0.7 + torch.sin(2 * y), 0.4
    state = damped.encode(shear)
    end = damped.step(damped.step(state, 0.05), 0.05)
    expected = solver.decode(torch.exp(-0.1 * rates) * state)
    torch.testing.assert_close(damped.decode(end), expected, rtol=0, atol=1e-15)


def test_steps_with_damping_are_of_fourth_order_and_agree_with_the_tendency():
    solver = FiniteVolumeSolver(GRID, DECAYING, 4).with_damping(0.05 * GRID.k2)
    start = solver.encode(solver.project(abc_flow(GRID, DECAYING, 0.0, "staggered")))

    def end(num_steps):
        state = start
        for _ in range(num_steps):
            state = solver.step(state, 0.4 / num_steps)
        return solver.decode(state)

    reference = end(32)
    errors = [(end(n) - reference).abs().max().item() for n in (2, 4)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.4)
    tendency, dt = solver.decode(solver.rhs(start)), 1e-5
    change = (solver.decode(solver.step(start, dt)) - solver.decode(start)) / dt
    torch.testing.assert_close(change, tendency, rtol=0, atol=1e-3)  # second time derivative, of order 1e1, times dt/2
