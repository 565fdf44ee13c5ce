"""Pseudo-spectral DNS as a source of snapshots: random start, spin-up, then records at exact times.

Legend: rate = max(|u|/hx + |v|/hy) [1/s], so that CFL = rate * dt.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.config import DnsSource, Flow, Hyperviscosity
from hpcsurrogate.core.errors import ConfigError, DivergedError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectral import SpectralSolver
from hpcsurrogate.sources.snapshot import Snapshot

log = get_logger("dns")

COARSENING = 4  # the first spin-up runs on a grid this much coarser along each axis: 64 times cheaper
# Steps between measurements of the CFL number, which cost two transforms each; a step has sixteen. At a CFL number of
# 1.1 the fastest eddies of an under-resolved spin-up outran a step that was measured every 16.
STEPS_PER_CHECK = 4
# Fourth-order Runge-Kutta is stable up to 2.83 along the imaginary axis, and the 2/3 rule leaves waves up to 2 pi / 3
# of a spacing. Above, the shortest waves grow while all numbers stay finite.
STABLE_CFL = 2 * math.sqrt(2) / (2 * math.pi / 3)
WHOLE = 1e-6  # relative departure from a whole number that is rounding of decimal fractions


def dns_snapshots(flow: Flow, source: DnsSource, realisation: int, seed: int) -> Iterator[Snapshot]:
    """Run one realisation and yield its snapshots, the first at time 0 after the spin-up.

    Parameters
    ----------
    flow : Flow
    source : DnsSource
    realisation : int    every number starts from a random field of its own
    seed : int           of the experiment

    Yields
    ------
    Snapshot    at exact multiples of source.snapshot_interval [s]; velocity (2, nx, ny) [m/s] in source.precision

    Raises
    ------
    ConfigError      if the times are no whole multiples of one another, or the grid cannot be coarsened
    DivergedError    if the velocity is not finite, or a fixed time step exceeds source.cfl

    Notes
    -----
    A pure function of its arguments (tests/unit/sources/test_dns.py). With the time step following `cfl`, the steps
    between two snapshots are shortened so that the last one ends on the snapshot.
    """
    num_intervals = count_intervals(source)
    _check_fixed_step(source)
    label = f"realisation {realisation}"
    solver, omega_hat = _spun_up_state(flow, source, _generator(seed, realisation), label)
    for index in range(num_intervals + 1):
        if index:
            omega_hat = advance(solver, omega_hat, source.snapshot_interval, source, f"{label}, snapshot {index}")
        if index * 10 // num_intervals > (index - 1) * 10 // num_intervals:
            log.info("%s: t = %.4g of %.4g s", label, index * source.snapshot_interval, source.duration)
        yield Snapshot(index * source.snapshot_interval, _velocity_array(solver, omega_hat))


def count_intervals(source: DnsSource) -> int:
    """Return how many snapshot intervals the recorded time holds (snapshots less one).

    Raises
    ------
    ConfigError    if the duration is no whole multiple of the interval
    """
    return _whole_ratio(source.duration, source.snapshot_interval, "simulate.duration", "simulate.snapshot_interval")


def advance(solver: SpectralSolver, omega_hat: Tensor, span: float, source: DnsSource, label: str) -> Tensor:
    """Step a state over a span of time, checking the CFL number as it goes.

    Parameters
    ----------
    solver : SpectralSolver
    omega_hat : Tensor, shape (nx, ny//2+1), complex    vorticity [1/s]
    span : float                                        [s]; a fixed source.time_step must divide it
    source : DnsSource                                  gives time_step and cfl
    label : str                                         what an error message calls this span

    Returns
    -------
    Tensor, shape (nx, ny//2+1), complex    vorticity `span` later [1/s]

    Raises
    ------
    DivergedError    if the velocity is not finite, a fixed time step exceeds source.cfl, or a step turns out to have
                     been beyond what is stable; names step, CFL number and remedy
    """
    remaining = 1.0  # part of the span: counted down in whole steps, so that it ends at exactly 0
    step, time_step = 0, 0.0
    with torch.no_grad():
        while remaining > 0:
            rate = _courant_rate(solver, omega_hat, time_step, f"{label}, step {step}")
            num_steps = _num_steps(remaining * span, rate, source, f"{label}, step {step}")
            chunk = min(num_steps, STEPS_PER_CHECK)
            time_step = source.time_step or remaining * span / num_steps
            for _ in range(chunk):
                omega_hat = solver.step(omega_hat, time_step)
            step += chunk
            remaining = remaining * (num_steps - chunk) / num_steps
        _courant_rate(solver, omega_hat, time_step, f"{label}, step {step}")
    return omega_hat


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


def _courant_rate(solver: SpectralSolver, omega_hat: Tensor, time_step: float, label: str) -> float:
    """CFL number of a unit step [1/s]; `time_step` is the one just made, which must have been stable."""
    velocity_cxy = solver.velocity(omega_hat)
    spacing_x, spacing_y = solver.grid.spacing
    rate = (velocity_cxy[..., 0, :, :].abs() / spacing_x + velocity_cxy[..., 1, :, :].abs() / spacing_y).max().item()
    if not math.isfinite(rate):
        raise DivergedError(f"{label}: the velocity is not finite; lower simulate.cfl or refine simulate.grid")
    if rate * time_step > STABLE_CFL:
        raise DivergedError(
            f"{label}: the CFL number was {rate * time_step:.3g}, more than is stable ({STABLE_CFL:.3g}), when it was "
            "measured again; lower simulate.cfl or simulate.time_step"
        )
    return rate


def _spun_up_state(
    flow: Flow, source: DnsSource, generator: torch.Generator, label: str
) -> tuple[SpectralSolver, Tensor]:
    """Solver on the full grid and its state when the recording begins."""
    solver = SpectralSolver(_grid(flow, source, 1), flow, dealias="two_thirds")
    if source.spin_up_coarse == 0:
        omega_hat = _random_state(solver, source, generator)
    else:
        # All modes kept and damped by hyperviscosity: the coarse grid does not resolve the flow and needs both.
        coarse = SpectralSolver(_grid(flow, source, COARSENING), flow, dealias="shift", hyperviscosity=Hyperviscosity())
        log.info("%s: spin-up of %.4g s on %d x %d points", label, source.spin_up_coarse, *coarse.grid.shape)
        omega_hat = _random_state(coarse, source, generator)
        omega_hat = advance(coarse, omega_hat, source.spin_up_coarse, source, f"{label}, coarse spin-up")
        omega_hat = coarse.refine(omega_hat, solver)
    if source.spin_up > 0:
        log.info("%s: spin-up of %.4g s on %d x %d points", label, source.spin_up, *solver.grid.shape)
        omega_hat = advance(solver, omega_hat, source.spin_up, source, f"{label}, spin-up")
    return solver, omega_hat


def _grid(flow: Flow, source: DnsSource, coarsening: int) -> Grid:
    if any(points % (2 * coarsening) for points in source.grid):
        raise ConfigError(
            f"simulate.grid = {list(source.grid)} must be multiples of {2 * coarsening} for simulate.spin_up_coarse;"
            " change one of them"
        )
    shape = (source.grid[0] // coarsening, source.grid[1] // coarsening)
    return Grid(shape, flow.domain, dtype=getattr(torch, source.precision), device=source.device)


def _random_state(solver: SpectralSolver, source: DnsSource, generator: torch.Generator) -> Tensor:
    with torch.no_grad():
        return solver.random_vorticity_hat(source.initial_wavenumber, source.initial_velocity, generator)


def _generator(seed: int, realisation: int) -> torch.Generator:
    # Drawn on the CPU whatever the device, so that the start does not depend on it; 63 bits are what torch takes.
    state = np.random.SeedSequence([seed % 2**63, realisation]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def _velocity_array(solver: SpectralSolver, omega_hat: Tensor) -> np.ndarray:
    with torch.no_grad():
        return solver.velocity(omega_hat).cpu().numpy()


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
