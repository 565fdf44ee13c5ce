"""The spectral solver in three dimensions: exact solutions, conservation, budgets, aliasing, moving between grids."""

import math

import pytest
import torch

from hpcsurrogate.core.config import (
    ConstantPowerForcing,
    Flow,
    Hyperviscosity,
    KolmogorovForcing,
    NoForcing,
    RingForcing,
)
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.exact import laminar_kolmogorov
from hpcsurrogate.physics.exact_3d import abc_flow, extruded
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectral import SpectralSolver
from hpcsurrogate.physics.spectral_3d import SpectralSolver3D
from hpcsurrogate.physics.transforms import LocalTransform, place_modes

DOMAIN = (2 * math.pi, 3 * math.pi, 5.0)
GRID = Grid((24, 20, 16), DOMAIN)
INVISCID = Flow(domain=DOMAIN, viscosity=0.0)
DECAYING = Flow(domain=DOMAIN, viscosity=0.03, drag=0.2)
ROUND_OFF = 1e-13  # float64, fields of order 1
SPACE = (-3, -2, -1)
FORCINGS = {
    "none": NoForcing(),
    "kolmogorov": KolmogorovForcing(kind="kolmogorov", wavenumber=2, amplitude=0.7),
    "shell": RingForcing(kind="ring", wavenumber=2, amplitude=0.8, seed=3),
    "constant power": ConstantPowerForcing(kind="constant_power", wavenumber=2, power=0.3),
}


def forced(name):
    return DECAYING.model_copy(update={"forcing": FORCINGS[name]})


def random_state(solver, wavenumber=3, batch=None):
    generator = torch.Generator().manual_seed(1)
    states = [solver.random_velocity_hat(wavenumber, 1.0, generator) for _ in range(batch or 1)]
    return torch.stack(states) if batch else states[0]


def march(solver, velocity_hat, dt, num_steps, **settings):
    for _ in range(num_steps):
        velocity_hat = solver.step(velocity_hat, dt, **settings)
    return velocity_hat


def work(first, second):
    """Mean of first . second over the box, shape of the batch."""
    return (first * second).sum(-4).mean(SPACE)


# --- exact solutions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dealias", ["two_thirds", "shift"])
@pytest.mark.parametrize("num_steps", [1, 10])
def test_a_beltrami_flow_decays_without_any_error_in_time(num_steps, dealias):
    # Advection is a gradient and the decay is integrated exactly: one step of 2 s is as good as ten.
    flow = Flow(domain=(2.0, 4.0, 6.0), viscosity=0.03, drag=0.2)
    solver = SpectralSolver3D(Grid((12, 20, 26), flow.domain), flow, dealias)
    state = march(solver, solver.encode(abc_flow(solver.grid, flow, 0.0)), 2.0 / num_steps, num_steps)
    exact = abc_flow(solver.grid, flow, 2.0)
    torch.testing.assert_close(solver.velocity(state), exact, rtol=0, atol=ROUND_OFF)
    # curl u = k u with k = 2 pi / 2
    torch.testing.assert_close(solver.vorticity(state), math.pi * exact, rtol=0, atol=20 * ROUND_OFF)


def test_a_box_that_a_beltrami_flow_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="multiples of the shortest"):
        abc_flow(GRID, DECAYING, 0.0)


def test_laminar_kolmogorov_flow_is_steady():
    flow = forced("kolmogorov")
    in_plane = flow.model_copy(update={"domain": DOMAIN[:2]})
    laminar = extruded(laminar_kolmogorov(Grid((24, 20), DOMAIN[:2]), in_plane), 16)
    solver = SpectralSolver3D(GRID, flow)
    assert solver.velocity(solver.rhs(solver.encode(laminar))).abs().max() < ROUND_OFF


@pytest.mark.parametrize("dealias", ["two_thirds", "shift"])
@pytest.mark.parametrize("forcing", ["kolmogorov", "constant power"])
def test_a_flow_that_does_not_vary_along_z_is_that_of_the_solver_in_two_dimensions(forcing, dealias):
    hyperviscosity = Hyperviscosity(rate=3.0, power=2)
    # The same coarsest spacing on both grids, or kmax would differ.
    flow, grid = forced(forcing), Grid((24, 20, 32), DOMAIN)
    plane = SpectralSolver(
        Grid((24, 20), DOMAIN[:2]), flow.model_copy(update={"domain": DOMAIN[:2]}), dealias, hyperviscosity
    )
    solver = SpectralSolver3D(grid, flow, dealias, hyperviscosity)
    state = plane.random_state(3, 1.0, torch.Generator().manual_seed(0))[None]
    deep_state = solver.encode(extruded(plane.velocity(state), 32))
    for _ in range(5):
        state, deep_state = plane.step(state, 0.05), solver.step(deep_state, 0.05)
    expected = extruded(plane.velocity(state), 32)
    torch.testing.assert_close(solver.velocity(deep_state), expected, rtol=0, atol=10 * ROUND_OFF)


# --- conservation and budgets --------------------------------------------------------------------------------------


def test_advection_conserves_energy_helicity_and_momentum_and_is_free_of_divergence():
    solver = SpectralSolver3D(GRID, INVISCID)
    state = random_state(solver, batch=3)
    rate_hat = solver.nonlinear(state)
    acceleration = solver.velocity(rate_hat)
    assert acceleration.square().mean() > 0.1  # advection does something
    # dE/dt = u . a; dH/dt = 2 omega . a
    for vector in (solver.velocity(state), solver.vorticity(state)):
        torch.testing.assert_close(work(vector, acceleration), torch.zeros(3).double(), rtol=0, atol=ROUND_OFF)
    assert acceleration.mean(SPACE).abs().max() < ROUND_OFF
    divergence = sum(k * part for k, part in zip(solver.transform.k, rate_hat.unbind(-4), strict=True))
    assert divergence.abs().max() < ROUND_OFF * rate_hat.abs().max()


@pytest.mark.parametrize("dealias", ["two_thirds", "shift"])
@pytest.mark.parametrize("forcing", ["shell", "constant power"])
def test_the_energy_budget_is_closed_at_every_moment(forcing, dealias):
    """dE/dt = power - nu <omega^2> - 2 drag E; with "shift" what aliasing adds is taken out by comparing rates."""
    flow = forced(forcing)
    solver, unforced = SpectralSolver3D(GRID, flow, dealias), SpectralSolver3D(GRID, INVISCID, dealias)
    state = random_state(solver, batch=2)
    velocity = solver.velocity(state)
    gained = work(velocity, solver.velocity(solver.rhs(state) - unforced.rhs(state)))
    if forcing == "shell":
        power = work(velocity, solver.velocity(solver.rhs(torch.zeros_like(state))))
    else:
        power = torch.full((2,), 0.3, dtype=torch.float64)
    dissipation = 0.03 * work(*[solver.vorticity(state)] * 2) + 0.2 * work(velocity, velocity)
    torch.testing.assert_close(gained, power - dissipation, rtol=0, atol=ROUND_OFF)


def test_without_viscosity_energy_and_helicity_drift_with_the_order_of_the_step():
    solver = SpectralSolver3D(GRID, INVISCID)
    state = random_state(solver, wavenumber=2)
    before, drifts = solver.velocity(state), []
    for num_steps in (4, 8):
        after_hat = march(solver, state, 0.4 / num_steps, num_steps)
        after = solver.velocity(after_hat)
        energy = work(after, after) - work(before, before)
        helicity = work(after, solver.vorticity(after_hat)) - work(before, solver.vorticity(state))
        drifts.append([energy.abs().item(), helicity.abs().item()])
    # Fifth order: the leading error of RK4 turns an oscillation and does not stretch it. Measured 5.0 and 4.9.
    for coarse, fine in zip(*drifts, strict=True):
        assert coarse < 1e-4 and math.log2(coarse / fine) > 4.5


@pytest.mark.parametrize("forcing", FORCINGS)
def test_the_step_is_of_fourth_order(forcing):
    solver = SpectralSolver3D(GRID, forced(forcing), "two_thirds", Hyperviscosity())
    start = random_state(solver, wavenumber=2)
    reference = march(solver, start, 0.4 / 64, 64)
    errors = [(march(solver, start, 0.4 / n, n) - reference).norm().item() for n in (4, 8)]
    assert errors[0] < 1e-2 * reference.norm().item()
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.3)


def test_constant_power_holds_over_a_run():
    """Energy after a time, without viscosity, is what was put in; steps of 0.02 leave 2e-8 of it, asserted is 1e-6."""
    flow = INVISCID.model_copy(update={"forcing": FORCINGS["constant power"]})
    solver = SpectralSolver3D(GRID, flow)
    state = random_state(solver, wavenumber=2)
    energies = [0.5 * solver.rms_velocity(moment).item() ** 2 for moment in (state, march(solver, state, 0.02, 20))]
    assert energies[1] - energies[0] == pytest.approx(0.3 * 0.4, rel=1e-6)


def test_hyperviscosity_and_extra_damping_act_at_their_rates():
    # Coarsest spacing 3 pi / 20, so kmax = 20 / 3; the wave 4 along x has k = 4 and is steady by itself.
    solver = SpectralSolver3D(GRID, INVISCID, "two_thirds", Hyperviscosity(rate=3.0, power=2))
    x, _, _ = GRID.coordinates()
    velocity = torch.zeros(3, *GRID.shape, dtype=torch.float64)
    velocity[1] = torch.cos(4 * x)
    rates = 0.1 * GRID.kx.abs().expand(GRID.k2.shape)
    damped = solver.with_damping(rates).with_damping(rates)
    end = damped.velocity(damped.step(damped.encode(velocity), 0.5))
    expected = velocity * math.exp(-(3.0 * (4 / (20 / 3)) ** 4 + 2 * 0.4) * 0.5)
    torch.testing.assert_close(end, expected, rtol=0, atol=ROUND_OFF)


# --- aliasing and grids --------------------------------------------------------------------------------------------


def kept_modes(coarse, finer):
    return coarse.refine(torch.ones_like(random_state(coarse)), finer)[0].real > 0


def test_two_thirds_rule_has_no_aliasing():
    coarse, finer = SpectralSolver3D(GRID, INVISCID), SpectralSolver3D(Grid((48, 40, 32), DOMAIN), INVISCID)
    state = random_state(coarse, wavenumber=5)
    rate = coarse.refine(coarse.nonlinear(state), finer)
    exact, kept = finer.nonlinear(coarse.refine(state, finer)), kept_modes(coarse, finer)
    torch.testing.assert_close(rate[:, kept], exact[:, kept], rtol=0, atol=ROUND_OFF * exact.abs().max().item())


@pytest.mark.parametrize("falloff, factor", [(0.0, 0.6), (1 / 9, 2e-3)])
def test_half_cell_shift_removes_most_aliasing(falloff, factor):
    """Mean of a plain and a shifted stage against the product without aliasing, formed on a grid twice as fine.

    What folds over along one axis, or along all three, changes sign with the shift and cancels; along two it does
    not. In the worst case, as much energy in every mode, the error falls to 0.44 of the plain one, asserted is 0.6;
    with a spectrum that falls off like exp(-k^2 / 9), to 6e-4 of it, asserted is 2e-3.
    """
    shifted = SpectralSolver3D(GRID, INVISCID, "shift")
    finer = SpectralSolver3D(Grid((48, 40, 32), DOMAIN), INVISCID)
    noise = torch.randn(3, *GRID.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    state = shifted.encode(noise) * torch.exp(-falloff * GRID.k2[..., : shifted.num_columns])
    plain = shifted.nonlinear(state, 0)
    paired = 0.5 * (plain + shifted.nonlinear(state, 1))
    exact, kept = finer.nonlinear(shifted.refine(state, finer)), kept_modes(shifted, finer)
    plain_error, paired_error = (
        (shifted.refine(rate, finer) - exact)[:, kept].norm().item() for rate in (plain, paired)
    )
    assert plain_error > 0.01 * exact[:, kept].norm().item()
    assert paired_error < factor * plain_error


@pytest.mark.parametrize("dealias", ["two_thirds", "shift"])
@pytest.mark.parametrize("shape", [(48, 40, 32), (36, 50, 26)])
def test_refine_keeps_the_field_at_the_points_that_both_grids_have(shape, dealias):
    coarse, finer = SpectralSolver3D(GRID, INVISCID, dealias), SpectralSolver3D(Grid(shape, DOMAIN), INVISCID)
    state = random_state(coarse, wavenumber=2)
    refined_state = coarse.refine(state, finer)
    refined = finer.velocity(refined_state)
    # The mean square does not depend on the grid, nor does the value at the origin.
    assert finer.rms_velocity(refined_state).item() == pytest.approx(coarse.rms_velocity(state).item(), rel=1e-13)
    torch.testing.assert_close(refined[:, 0, 0, 0], coarse.velocity(state)[:, 0, 0, 0], rtol=0, atol=ROUND_OFF)
    if shape == (48, 40, 32):
        torch.testing.assert_close(refined[:, ::2, ::2, ::2], coarse.velocity(state), rtol=0, atol=10 * ROUND_OFF)


def test_a_random_start_is_the_same_field_on_every_grid_with_the_spectrum_asked_for():
    # Modes up to six times the peak, along x 12, along y 18: both grids resolve them.
    grids = [Grid((28, 44, 30), DOMAIN), Grid((56, 88, 60), DOMAIN)]
    solvers = [SpectralSolver3D(grid, INVISCID, "shift") for grid in grids]
    coarse, fine = (random_state(solver, wavenumber=2) for solver in solvers)
    velocity = solvers[0].velocity(coarse)
    assert velocity.square().sum(0).mean().sqrt().item() == pytest.approx(1.0, rel=1e-12)
    torch.testing.assert_close(solvers[1].velocity(fine)[:, ::2, ::2, ::2], velocity, rtol=0, atol=10 * ROUND_OFF)
    # Energy ~ k^4 exp(-2 (k/2)^2): its mean square wavenumber is 5/4 of 2^2, within the scatter of one sample.
    mean_k2 = work(*[solvers[0].vorticity(coarse)] * 2) / work(velocity, velocity)
    assert mean_k2.item() == pytest.approx(5.0, rel=0.1)
    other = solvers[0].random_velocity_hat(2, 1.0, torch.Generator().manual_seed(2))
    assert not torch.allclose(other, coarse)


@pytest.mark.parametrize("columns", [6, 9])
def test_transforms_are_inverse_and_those_of_the_whole_spectrum(columns):
    transform = LocalTransform(GRID, columns)
    field = torch.randn(2, *GRID.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (field_hat,) = transform.to_spectral([field])
    torch.testing.assert_close(field_hat, torch.fft.rfftn(field, dim=SPACE)[..., :columns], rtol=0, atol=1e-11)
    (back,) = transform.to_spectral(transform.to_physical([field_hat]))
    torch.testing.assert_close(back, field_hat, rtol=0, atol=1e-11)


def test_modes_are_placed_by_their_number():
    part = tuple(k[(slice(None),) * axis + (slice(1, 4),)] for axis, k in enumerate(GRID.k))
    values = torch.randn(GRID.k2.shape, dtype=torch.complex128)
    torch.testing.assert_close(place_modes(values, GRID.shape, part, DOMAIN), values[1:4, 1:4, 1:4])


@pytest.mark.parametrize("forcing", ["kolmogorov", "shell", "constant power"])
def test_a_force_that_the_two_thirds_rule_would_drop_is_refused(forcing):
    flow = DECAYING.model_copy(update={"forcing": FORCINGS[forcing].model_copy(update={"wavenumber": 6})})
    with pytest.raises(ConfigError, match="6 waves need a grid of more than 18 points"):
        SpectralSolver3D(GRID, flow)
    SpectralSolver3D(GRID, flow, "shift")


# --- batches, precision, gradients ---------------------------------------------------------------------------------


def damping(velocity):
    """A closure, nonlinear and invariant under translations of the grid."""
    return -0.3 * velocity * velocity.square().sum(-4, keepdim=True)


@pytest.mark.parametrize("dealias", ["two_thirds", "shift"])
def test_an_ensemble_is_the_same_as_one_by_one(dealias):
    solver = SpectralSolver3D(GRID, forced("constant power"), dealias)
    states = random_state(solver, batch=6).unflatten(0, (2, 3))
    for function in (
        lambda state: march(solver, state, 0.05, 2, closure=damping),
        lambda state: march(solver, state, 0.05, 2, closure=damping, hold=True),
        solver.vorticity,
        solver.rms_velocity,
    ):
        together = function(states)
        alone = torch.stack([torch.stack([function(state) for state in row]) for row in states])
        torch.testing.assert_close(together, alone, rtol=1e-11, atol=ROUND_OFF)


def test_float32_agrees_with_float64():
    double = SpectralSolver3D(GRID, forced("shell"), "shift")
    single = SpectralSolver3D(GRID.to(torch.float32), forced("shell"), "shift")
    state = random_state(double)
    end = march(single, state.to(torch.complex64), 0.05, 10)
    assert end.dtype == torch.complex64
    expected = double.velocity(march(double, state, 0.05, 10))
    # 10 steps of round-off 6e-8 in fields of order 1, over a time in which the flow hardly amplifies it.
    torch.testing.assert_close(single.velocity(end).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dealias", ["two_thirds", "shift"])
@pytest.mark.parametrize("forcing", ["shell", "constant power"])
def test_a_step_is_differentiable_in_state_closure_and_damping(forcing, dealias):
    flow = DECAYING.model_copy(update={"forcing": FORCINGS[forcing].model_copy(update={"wavenumber": 1})})
    solver = SpectralSolver3D(Grid((6, 4, 4), DOMAIN), flow, dealias)
    generator = torch.Generator().manual_seed(0)
    velocity = torch.randn(3, 6, 4, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    strength, rate = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.3, 0.2))

    def step(velocity, strength, rate):
        damped = solver.with_damping(rate * solver.grid.k2)
        state = damped.encode(velocity)
        return damped.velocity(damped.step(state, 0.05, lambda u: -strength * u * u.square().sum(-4, keepdim=True)))

    assert torch.autograd.gradcheck(step, (velocity, strength, rate), fast_mode=True)


@pytest.mark.parametrize("dealias", ["two_thirds", "shift"])
def test_a_closure_enters_projected(dealias):
    solver = SpectralSolver3D(GRID, DECAYING, dealias)
    state = random_state(solver)
    expected = solver.rhs(state) + solver.encode(damping(solver.velocity(state)))
    torch.testing.assert_close(solver.rhs(state, 0, damping), expected, rtol=0, atol=1e-10)


def test_a_held_closure_is_the_same_if_it_does_not_see_the_velocity_and_else_of_first_order():
    solver = SpectralSolver3D(GRID, DECAYING)
    state = random_state(solver)
    steady = damping(solver.velocity(state))
    once, always = (solver.step(state, 0.05, lambda u: steady, hold=hold) for hold in (True, False))
    torch.testing.assert_close(once, always, rtol=0, atol=1e-10)
    assert (once - solver.step(state, 0.05)).norm() > 0.01 * once.norm()
    differences = []
    for n in (8, 16):
        held, called = (march(solver, state, 0.1 / n, n, closure=damping, hold=hold) for hold in (True, False))
        differences.append((held - called).norm().item())
    assert differences[0] / differences[1] == pytest.approx(2, rel=0.1)
