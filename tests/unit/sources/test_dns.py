"""The DNS as a source: a pure function of its arguments, exact times, checked steps."""

import math

import numpy as np
import pytest
import torch

from hpcsurrogate.core.config import DnsSource, Flow, KolmogorovForcing, NoForcing, RingForcing
from hpcsurrogate.core.errors import ConfigError, DivergedError
from hpcsurrogate.physics.exact import taylor_green
from hpcsurrogate.physics.exact_3d import abc_flow, taylor_green_vortex
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectral import SpectralSolver
from hpcsurrogate.physics.spectral_3d import SpectralSolver3D
from hpcsurrogate.sources.dns import advance, dns_snapshots

FLOW = Flow(viscosity=5e-3, forcing=KolmogorovForcing(kind="kolmogorov", wavenumber=2))


def source_of(**changes) -> DnsSource:
    settings = {"kind": "dns", "grid": (32, 32), "duration": 0.3, "snapshot_interval": 0.1}
    return DnsSource.model_validate(settings | changes)


def run(source, realisation=0, seed=0, flow=FLOW):
    return list(dns_snapshots(flow, source, realisation, seed))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_snapshots_come_at_exact_multiples_in_the_precision_asked_for(precision):
    snapshots = run(source_of(precision=precision, spin_up=0.25, spin_up_coarse=0.5))
    assert [snapshot.time for snapshot in snapshots] == [0.0, 0.1, 0.2, 3 * 0.1]
    assert all(
        snapshot.velocity.shape == (2, 32, 32) and snapshot.velocity.dtype == precision for snapshot in snapshots
    )


def test_the_run_is_a_function_of_seed_and_realisation():
    first, again, other, reseeded = (run(source_of(), *key) for key in ((1, 5), (1, 5), (2, 5), (1, 6)))
    np.testing.assert_array_equal(first[-1].velocity, again[-1].velocity)
    for different in (other, reseeded):
        # Independent random fields of the same size: anything near zero would be a shared start.
        assert abs(np.corrcoef(first[0].velocity.ravel(), different[0].velocity.ravel())[0, 1]) < 0.5


def test_the_start_has_the_velocity_asked_for():
    velocity = run(source_of(initial_velocity=2.5, precision="float64"))[0].velocity
    # The spectrum is scaled to it: round-off only.
    assert math.sqrt(np.square(velocity).sum(0).mean()) == pytest.approx(2.5, rel=1e-12)


def test_both_spin_ups_move_the_start():
    plain = run(source_of())[0].velocity
    for spin_up in ({"spin_up": 0.2}, {"spin_up_coarse": 0.2}):
        assert np.abs(run(source_of(**spin_up))[0].velocity - plain).max() > 1e-3


@pytest.mark.parametrize("time_step", [None, 0.01])
def test_the_steps_of_a_span_add_up_to_it(time_step):
    """A Taylor-Green vortex decays as exp(-2 nu t) whatever the steps, so the decay measures their sum."""
    flow = Flow(viscosity=0.1)
    grid = Grid((16, 16), flow.domain)
    solver = SpectralSolver(grid, flow)
    x, y = grid.coordinates()
    omega_hat = solver.vorticity_hat_from_velocity(
        torch.stack((torch.sin(x) * torch.cos(y), -torch.cos(x) * torch.sin(y)))
    )
    source = source_of(grid=(16, 16), time_step=time_step, cfl=0.1)
    decayed = advance(solver, omega_hat, 0.77, source, "test")
    expected = omega_hat * math.exp(-2 * 0.1 * 0.77)
    # The viscous term is integrated exactly: round-off of some 50 steps.
    assert (decayed - expected).abs().max() < 1e-12 * expected.abs().max()


def test_a_step_that_follows_the_cfl_number_agrees_with_a_small_fixed_one():
    adaptive = run(source_of(precision="float64", cfl=0.3))[-1].velocity
    fixed = run(source_of(precision="float64", time_step=0.002))[-1].velocity
    # Fourth order: (0.3 of a cell)^4 with a small constant, over 0.3 time units.
    assert np.abs(adaptive - fixed).max() < 1e-5 * np.abs(fixed).max()


def test_a_fixed_step_beyond_the_limit_names_step_number_and_remedy():
    with pytest.raises(
        DivergedError, match=r"realisation 0, snapshot 1, step 0: CFL .* exceeds simulate.cfl = 0.5; set"
    ):
        run(source_of(time_step=0.1))


def test_a_flow_that_outruns_its_step_ends_the_run_while_all_numbers_are_finite():
    """A strong force accelerates a fluid at rest: the first step, as long as the whole span, was measured before it."""
    flow = Flow(viscosity=1e-3, forcing=KolmogorovForcing(kind="kolmogorov", wavenumber=2, amplitude=50.0))
    grid = Grid((16, 16), flow.domain)
    solver = SpectralSolver(grid, flow)
    at_rest = torch.zeros((16, solver.num_columns), dtype=torch.complex128)
    with pytest.raises(DivergedError, match=r"here, step 1: the CFL number was .* more than is stable \(1\.35\)"):
        advance(solver, at_rest, 0.5, source_of(grid=(16, 16)), "here")


def test_a_velocity_that_is_not_finite_ends_the_run():
    grid = Grid((16, 16), FLOW.domain)
    solver = SpectralSolver(grid, FLOW)
    broken = torch.full((16, solver.num_columns), math.nan, dtype=torch.complex128)
    with pytest.raises(DivergedError, match="here, step 0: the velocity is not finite"):
        advance(solver, broken, 0.1, source_of(), "here")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration": 0.25}, "simulate.duration = 0.25 is no whole multiple of simulate.snapshot_interval"),
        ({"time_step": 0.03}, "simulate.snapshot_interval = 0.1 is no whole multiple of simulate.time_step"),
        ({"time_step": 0.01, "spin_up": 0.005}, "simulate.spin_up = 0.005 is no whole multiple"),
        ({"grid": (36, 36), "spin_up_coarse": 0.1}, "multiples of 8 for simulate.spin_up_coarse"),
    ],
)
def test_times_and_grids_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        run(source_of(**changes))


# --- three dimensions, and vortices ----------------------------------------------------------------------------------

BOX = (2 * math.pi, math.pi, 2 * math.pi)
DEEP_FLOW = Flow(domain=BOX, viscosity=5e-3, forcing=RingForcing(kind="ring", wavenumber=1))
DEEP = {"grid": (32, 16, 32), "precision": "float64"}


def test_three_dimensions_start_at_random_spin_up_and_stay_free_of_divergence():
    source = source_of(**DEEP, initial_wavenumber=2, initial_velocity=2.5)
    start, *_, end = run(source, flow=DEEP_FLOW)
    # The spectrum is scaled to it: round-off only.
    assert math.sqrt(np.square(start.velocity).sum(0).mean()) == pytest.approx(2.5, rel=1e-12)
    grid = Grid((32, 16, 32), BOX)
    for snapshot in (start, end):
        parts = torch.fft.rfftn(torch.from_numpy(snapshot.velocity), dim=(-3, -2, -1))
        divergence = sum(k * part for k, part in zip(grid.k, parts, strict=True))
        assert divergence.abs().max() < 1e-12 * parts.abs().max()
    spun_up = source_of(**DEEP, initial_wavenumber=2, initial_velocity=2.5, spin_up=0.1, spin_up_coarse=0.2)
    # The coarse grid, 8 x 4 x 8, holds too few modes of the same start to compare, but for a flow that moves.
    assert np.abs(run(spun_up, flow=DEEP_FLOW)[0].velocity - start.velocity).max() > 0.1


def test_a_step_that_follows_the_cfl_number_agrees_with_a_small_fixed_one_in_three_dimensions():
    adaptive, fixed = (
        run(source_of(**DEEP, initial_wavenumber=2, **step), flow=DEEP_FLOW)[-1].velocity
        for step in ({"cfl": 0.3}, {"time_step": 0.002})
    )
    assert np.abs(adaptive - fixed).max() < 1e-5 * np.abs(fixed).max()  # as in two dimensions


def test_the_steps_of_a_span_add_up_to_it_in_three_dimensions():
    flow = Flow(domain=BOX, viscosity=0.05)
    solver = SpectralSolver3D(Grid((16, 16, 16), BOX), flow)
    # The wave pi fits every axis: it decays as exp(-4 nu t) whatever the steps.
    start = solver.encode(abc_flow(solver.grid, flow, 0.0)[0])
    decayed = advance(solver, start, 0.77, source_of(grid=(16, 16, 16), cfl=0.3), "test")
    expected = start * math.exp(-4 * 0.05 * 0.77)
    assert (decayed - expected).abs().max() < 1e-12 * expected.abs().max()


@pytest.mark.parametrize(("flow", "grid"), [(FLOW, (32, 32)), (DEEP_FLOW, (16, 16, 16))])
def test_realisation_0_starts_from_the_vortex_itself_and_others_a_little_beside_it(flow, grid):
    source = source_of(grid=grid, precision="float64", initial="taylor_green", initial_velocity=1.7)
    vortex, near, other = (run(source, realisation, flow=flow)[0].velocity for realisation in (0, 1, 2))
    fine = Grid(grid, flow.domain)
    unforced = flow.model_copy(update={"forcing": NoForcing()})
    exact = (taylor_green(fine, unforced, 0.0) if len(grid) == 2 else taylor_green_vortex(fine))[0].numpy()
    scale = 1.7 / math.sqrt(np.square(exact).sum(0).mean())
    np.testing.assert_allclose(vortex, scale * exact, rtol=0, atol=1e-13)
    for velocity in (near, other):
        departure = math.sqrt(np.square(velocity - vortex).sum(0).mean())
        assert departure == pytest.approx(0.05 * 1.7, rel=1e-12)
    assert np.abs(near - other).max() > 0.01
