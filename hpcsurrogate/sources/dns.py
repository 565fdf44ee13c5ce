"""Pseudo-spectral DNS as a source of snapshots: random start, spin-up, then records at exact times.

A field of three dimensions may be shared by a group of ranks in slabs (physics/slab_transform.py).

Legend: rate = max(|u|/hx + |v|/hy [+ |w|/hz]) [1/s], so that CFL = rate * dt; state_hat = coefficients of the solver's
state: vorticity in two dimensions, velocity in three.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.config import DnsSource, Flow, Hyperviscosity
from hpcsurrogate.core.errors import ConfigError, DivergedError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.parallel.exchange import gather_blocks, share_first
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.exact import taylor_green
from hpcsurrogate.physics.exact_3d import taylor_green_vortex
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import AnySpectralSolver as Solver
from hpcsurrogate.physics.hosts import make_spectral_solver
from hpcsurrogate.physics.slab_transform import SlabTransform
from hpcsurrogate.physics.spectral_3d import SpectralSolver3D
from hpcsurrogate.sources.snapshot import Snapshot

log = get_logger("dns")

COARSENING = 4  # the first spin-up runs on a grid this much coarser along each axis: 64 times cheaper, 256 in 3-D
PERTURBATION = 0.05  # of the Taylor-Green velocity, in all realisations but the first
# Steps between measurements of the CFL number, which cost two transforms each; a step has sixteen. At a CFL number of
# 1.1 the fastest eddies of an under-resolved spin-up outran a step that was measured every 16.
STEPS_PER_CHECK = 4
# Fourth-order Runge-Kutta is stable up to 2.83 along the imaginary axis, and the 2/3 rule leaves waves up to 2 pi / 3
# of a spacing. Above, the shortest waves grow while all numbers stay finite.
STABLE_CFL = 2 * math.sqrt(2) / (2 * math.pi / 3)
WHOLE = 1e-6  # relative departure from a whole number that is rounding of decimal fractions


ALONE = World()


def dns_snapshots(
    flow: Flow, source: DnsSource, realisation: int, seed: int, group: World = ALONE
) -> Iterator[Snapshot]:
    """Run one realisation and yield its snapshots, the first at time 0 after the spin-up.

    Parameters
    ----------
    flow : Flow
    source : DnsSource
    realisation : int    every number starts from a random field of its own; of Taylor-Green vortices number 0 is the
                         vortex itself, the others carry a random field of 5 % of its velocity
    seed : int           of the experiment
    group : World        the ranks that share the field in slabs; all of them must run the iterator to its end

    Yields
    ------
    Snapshot    at exact multiples of source.snapshot_interval [s]; velocity (d, nx, ny[, nz]) [m/s] in
                source.precision. Whole, and on the first rank of the group only; the others yield nothing

    Raises
    ------
    ConfigError      if the times are no whole multiples of one another, or the grid cannot be coarsened
    DivergedError    if the velocity is not finite, or a fixed time step exceeds source.cfl

    Notes
    -----
    A pure function of its arguments (tests/unit/sources/test_dns.py); the number of ranks in the group changes
    round-off alone (tests/parallel/test_shared_realisation.py). With the time step following `cfl`, the steps
    between two snapshots are shortened so that the last one ends on the snapshot. While a snapshot is yielded, the
    first rank holds it whole beside its slab: a shard's chunk is a whole snapshot, which HDF5 wants in one piece.
    """
    num_intervals = count_intervals(source)
    _check_fixed_step(source)
    label = f"realisation {realisation}"
    solver, state_hat = _spun_up_state(flow, source, seed, realisation, group)
    for index in range(num_intervals + 1):
        if index:
            state_hat = advance(solver, state_hat, source.snapshot_interval, source, f"{label}, snapshot {index}")
        if index * 10 // num_intervals > (index - 1) * 10 // num_intervals:
            log.info("%s: t = %.4g of %.4g s", label, index * source.snapshot_interval, source.duration)
        velocity = _velocity_array(solver, state_hat, group)
        if velocity is not None:
            yield Snapshot(index * source.snapshot_interval, velocity)


def count_intervals(source: DnsSource) -> int:
    """Return how many snapshot intervals the recorded time holds (snapshots less one).

    Raises
    ------
    ConfigError    if the duration is no whole multiple of the interval
    """
    return _whole_ratio(source.duration, source.snapshot_interval, "simulate.duration", "simulate.snapshot_interval")


def advance(solver: Solver, state_hat: Tensor, span: float, source: DnsSource, label: str) -> Tensor:
    """Step a state over a span of time, checking the CFL number as it goes.

    Parameters
    ----------
    solver : SpectralSolver or SpectralSolver3D
    state_hat : Tensor, complex    state of the solver
    span : float                   [s]; a fixed source.time_step must divide it
    source : DnsSource             gives time_step and cfl
    label : str                    what an error message calls this span

    Returns
    -------
    Tensor, complex    the state `span` later

    Raises
    ------
    DivergedError    if the velocity is not finite, a fixed time step exceeds source.cfl, or a step turns out to have
                     been beyond what is stable; names step, CFL number and remedy
    """
    remaining = 1.0  # part of the span: counted down in whole steps, so that it ends at exactly 0
    step, time_step = 0, 0.0
    with torch.no_grad():
        while remaining > 0:
            rate = _courant_rate(solver, state_hat, time_step, f"{label}, step {step}")
            num_steps = _num_steps(remaining * span, rate, source, f"{label}, step {step}")
            chunk = min(num_steps, STEPS_PER_CHECK)
            time_step = source.time_step or remaining * span / num_steps
            for _ in range(chunk):
                state_hat = solver.step(state_hat, time_step)
            step += chunk
            remaining = remaining * (num_steps - chunk) / num_steps
        _courant_rate(solver, state_hat, time_step, f"{label}, step {step}")
    return state_hat


def _num_steps(span: float, rate: float, source: DnsSource, label: str) -> int:
    if source.time_step is None:
        return max(1, math.ceil(span * rate / source.cfl))
    cfl = rate * source.time_step
    if cfl > source.cfl:
        raise DivergedError(
            f"{label}: CFL number {cfl:.3g} exceeds simulate.cfl = {source.cfl:g};"
            f" set simulate.time_step to at most {source.cfl / rate:.2g} or leave it out"
        )
    return max(1, round(span / source.time_step))


def _courant_rate(solver: Solver, state_hat: Tensor, time_step: float, label: str) -> float:
    """CFL number of a unit step [1/s]; `time_step` is the one just made, which must have been stable."""
    component_axis = -1 - solver.grid.num_dims
    parts = zip(solver.velocity(state_hat).unbind(component_axis), solver.grid.spacing, strict=True)
    largest = sum(component.abs_() / spacing for component, spacing in parts).max()
    rate = (solver.transform.max(largest) if isinstance(solver, SpectralSolver3D) else largest).item()
    if not math.isfinite(rate):
        raise DivergedError(f"{label}: the velocity is not finite; lower simulate.cfl or refine simulate.grid")
    if rate * time_step > STABLE_CFL:
        raise DivergedError(
            f"{label}: the CFL number was {rate * time_step:.3g}, more than is stable ({STABLE_CFL:.3g}), when it was "
            "measured again; lower simulate.cfl or simulate.time_step"
        )
    return rate


def _spun_up_state(flow: Flow, source: DnsSource, seed: int, realisation: int, group: World) -> tuple[Solver, Tensor]:
    """Solver on the full grid and its state when the recording begins."""
    label, generator = f"realisation {realisation}", _generator(seed, realisation)
    solver = _make_solver(flow, source, group)
    if source.spin_up_coarse == 0:
        state_hat = _start(solver, source, generator, realisation)
    else:
        # All modes kept and damped by hyperviscosity: the coarse grid does not resolve the flow and needs both.
        coarse = _make_solver(flow, source, ALONE, COARSENING, dealias="shift", hyperviscosity=Hyperviscosity())
        log.info("%s: spin-up of %.4g s on %s points", label, source.spin_up_coarse, _points(coarse))
        state_hat = None
        with group.failing_together():
            if group.rank == 0:
                state_hat = _start(coarse, source, generator, realisation)
                state_hat = advance(coarse, state_hat, source.spin_up_coarse, source, f"{label}, coarse spin-up")
        # Of one rank: processors of two kinds would not make the same field of it, and each rank has only a part.
        state_hat = coarse.refine(share_first(group, state_hat).to(solver.grid.device), solver)
    if source.spin_up > 0:
        log.info("%s: spin-up of %.4g s on %s points", label, source.spin_up, _points(solver))
        state_hat = advance(solver, state_hat, source.spin_up, source, f"{label}, spin-up")
    return solver, state_hat


def _points(solver: Solver) -> str:
    return " x ".join(map(str, solver.grid.shape))


def _make_solver(flow: Flow, source: DnsSource, group: World, coarsening: int = 1, **settings) -> Solver:
    if any(points % (2 * coarsening) for points in source.grid):
        raise ConfigError(
            f"simulate.grid = {list(source.grid)} must be multiples of {2 * coarsening} for simulate.spin_up_coarse;"
            " change one of them"
        )
    shape = tuple(points // coarsening for points in source.grid)
    grid = Grid(shape, flow.domain, dtype=getattr(torch, source.precision), device=source.device)
    if group.size > 1:
        settings["transform"] = SlabTransform(grid, group)
    return make_spectral_solver(grid, flow, **settings)


def _start(solver: Solver, source: DnsSource, generator: torch.Generator, realisation: int) -> Tensor:
    """State of the solver before any spin-up."""
    with torch.no_grad():
        if source.initial == "random":
            return solver.random_state(source.initial_wavenumber, source.initial_velocity, generator)
        return _vortex(solver, source.initial_velocity) + (
            solver.random_state(source.initial_wavenumber, PERTURBATION * source.initial_velocity, generator)
            if realisation
            else 0.0
        )


def _vortex(solver: Solver, rms_velocity: float) -> Tensor:
    """The Taylor-Green vortex of the whole box."""
    # On the smallest grid that has its modes: what `solver` holds may be a part of the field.
    grid = Grid((4,) * solver.grid.num_dims, solver.grid.lengths, solver.grid.dtype, solver.grid.device)
    unforced = Flow(domain=grid.lengths, viscosity=0.0)
    velocity = taylor_green(grid, unforced, 0.0)[0] if grid.num_dims == 2 else taylor_green_vortex(grid)[0]
    small = type(solver)(grid, unforced)
    return small.refine(small.encode(velocity * (rms_velocity / velocity.square().sum(0).mean().sqrt())), solver)


def _generator(seed: int, realisation: int) -> torch.Generator:
    # Drawn on the CPU whatever the device, so that the start does not depend on it; 63 bits are what torch takes.
    state = np.random.SeedSequence([seed % 2**63, realisation]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def _velocity_array(solver: Solver, state_hat: Tensor, group: World) -> np.ndarray | None:
    """The whole velocity (d, nx, ny[, nz]) on the first rank of the group, None on the others."""
    with torch.no_grad():
        velocity = solver.velocity(state_hat)
    if group.size == 1:
        return velocity.cpu().numpy()
    # Plane by plane, with components last as in the file: neither end copies a slab on the way, nor a whole field.
    planes = torch.movedim(velocity, 0, -1)
    dtype = str(velocity.dtype).removeprefix("torch.")
    whole = np.empty((*solver.grid.shape, solver.grid.num_dims), dtype) if group.rank == 0 else None
    gather_blocks(group, planes, whole)
    return None if whole is None else np.moveaxis(whole, -1, 0)


def _check_fixed_step(source: DnsSource) -> None:
    if source.time_step is None:
        return
    for key in ("snapshot_interval", "spin_up", "spin_up_coarse"):
        if getattr(source, key) > 0:
            _whole_ratio(getattr(source, key), source.time_step, f"simulate.{key}", "simulate.time_step")


def _whole_ratio(long: float, short: float, long_key: str, short_key: str) -> int:
    ratio = round(long / short)
    if ratio < 1 or abs(long - ratio * short) > WHOLE * long:
        raise ConfigError(f"{long_key} = {long:g} is no whole multiple of {short_key} = {short:g}; change one of them")
    return ratio
