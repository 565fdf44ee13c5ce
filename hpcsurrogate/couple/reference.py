"""Filtered DNS as starts and as reference, for every grid and layout that a contender asks for.

Every recorded snapshot is read once and filtered once per grid and layout; only what is scored is kept of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.config import Filter, Host
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.couple.observation import Observation, Observer, Statistics
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host

Key = tuple  # of the settings of a host that its filtered DNS depends on


@dataclass(frozen=True)
class Start:
    """A snapshot of a recorded realisation from which the coarse runs set out."""

    realisation: int
    snapshot: int


@dataclass(frozen=True)
class Reference:
    """Filtered DNS for one kind of host. A snapshot that several starts run over is kept once."""

    velocity: Tensor  # (b, d, nx, ny[, nz]) [m/s], the starts
    snapshots: Observation  # of the s snapshots that any start needs
    places: Tensor  # (t, b), which of them is that of a start at a time
    wavenumbers: Tensor  # (k,) [rad/m], of the shells of its spectra

    @cached_property
    def observation(self) -> Observation:
        """All starts over all times, axes (t, b, ...); large in three dimensions."""
        return self.part(slice(None))

    def part(self, starts: slice) -> Observation:
        """Some of the starts over all times, axes (t, b, ...)."""
        places = self.places[:, starts]
        return self.snapshots.map(lambda part: part[places])

    @property
    def statistics(self) -> Statistics:
        """The numbers of all starts over all times, axes (t, b, ...)."""
        return self.snapshots.statistics.map(lambda part: part[self.places])


def reference_key(host: Host) -> Key:
    """Return what filtered DNS depends on: grid, layout, and what the host can hold (its divergence, or its modes)."""
    return host.kind, host.grid, host.order if host.kind == "finite_volume" else host.dealias


def filter_for(host: Host, wanted: Filter) -> Filter:
    """Return the filter whose result a host is held against.

    The experiment's own, but where that is the face average, which exists on a staggered grid only, a spectral host
    is held against the sharp cut-off at its own grid: every mode it could hold, undamped.
    """
    if wanted.kind == "face_average" and host.kind == "spectral":
        return Filter(kind="sharp")
    return wanted


def place_starts(plan: Plan, realisations: Iterable[int], num_starts: int) -> list[Start]:
    """Spread starts evenly over each realisation; the run from the last one ends with the record.

    Parameters
    ----------
    plan : Plan
    realisations : iterable of int
    num_starts : int    from each realisation

    Raises
    ------
    ConfigError    if a realisation is too short for that many different starts
    """
    starts = []
    for realisation in realisations:
        num_snapshots = plan.catalogue.entry(realisation).num_snapshots
        last = num_snapshots - 1 - plan.num_intervals
        if last < num_starts - 1:
            raise ConfigError(
                f"couple.duration: {num_starts} start(s) and the {plan.num_intervals} snapshots after each do not fit "
                f"into the {num_snapshots} of realisation {realisation}: shorten it, start fewer runs, or record longer"
            )
        starts += [Start(realisation, int(index)) for index in np.linspace(0, last, num_starts).round()]
    return starts


def overlap(plan: Plan, starts: Sequence[Start]) -> bool:
    """Whether the runs of two starts share a piece of recorded time."""
    pairs = [(a, b) for i, a in enumerate(starts) for b in starts[i + 1 :] if a.realisation == b.realisation]
    return any(abs(a.snapshot - b.snapshot) < plan.num_intervals for a, b in pairs)


def build_references(plan: Plan, hosts: Iterable[Host], starts: Sequence[Start]) -> dict[Key, Reference]:
    """Filter the DNS behind the starts for every kind of host.

    Parameters
    ----------
    plan : Plan
    hosts : iterable of core.config.Host
    starts : sequence of Start    those of one realisation side by side, as `place_starts` gives them

    Returns
    -------
    dict    reference_key(host) -> Reference

    Raises
    ------
    ConfigError    if a host is finer than the data
    DataError      if a shard is damaged
    """
    by_key = {reference_key(host): host for host in hosts}
    parts: dict[Key, list[Reference]] = {key: [] for key in by_key}
    for realisation in dict.fromkeys(start.realisation for start in starts):
        snapshots = [start.snapshot for start in starts if start.realisation == realisation]
        filtered = _filter_realisation(plan, by_key, realisation, np.array(snapshots))
        for key, reference in filtered.items():
            parts[key].append(reference)
    return {key: _join(references) for key, references in parts.items()}


@torch.no_grad()
def _filter_realisation(
    plan: Plan, hosts: dict[Key, Host], realisation: int, snapshots: np.ndarray
) -> dict[Key, Reference]:
    experiment = plan.experiment
    # Snapshot of start b at time t, and the place of that snapshot among those that any start needs.
    snapshot_tb = snapshots[None, :] + np.arange(plan.num_intervals + 1)[:, None]
    needed, place_tb = np.unique(snapshot_tb, return_inverse=True)
    place_tb = torch.from_numpy(place_tb.reshape(snapshot_tb.shape))
    with plan.catalogue.open(realisation, verify=True) as recorded:
        fine_grid = Grid(recorded.header.grid_shape, experiment.flow.domain, torch.float32)
        lenses = {key: _make_lens(plan, fine_grid, host) for key, host in hosts.items()}
        observed: dict[Key, list[Observation]] = {key: [] for key in hosts}
        start_velocity: dict[Key, dict[int, Tensor]] = {key: {} for key in hosts}
        for snapshot in needed:
            fine_velocity = torch.from_numpy(recorded.snapshot("velocity", int(snapshot)))[None]
            for key, (graining, observer) in lenses.items():
                velocity = graining.velocity(fine_velocity)
                observed[key].append(observer.observe(velocity))
                if snapshot in snapshots:
                    start_velocity[key][int(snapshot)] = velocity
    references = {}
    for key, (_, observer) in lenses.items():
        velocity = torch.cat([start_velocity[key][int(snapshot)] for snapshot in snapshots])
        series = Observation.combine(torch.cat, observed[key])
        references[key] = Reference(velocity, series, place_tb, observer.wavenumbers(velocity))
    return references


def _make_lens(plan: Plan, fine_grid: Grid, host_config: Host) -> tuple[CoarseGraining, Observer]:
    experiment = plan.experiment
    host = make_host(host_config, experiment.flow)
    graining = CoarseGraining(experiment.flow, fine_grid, host, filter_for(host_config, experiment.prepare.filter))
    return graining, Observer(host, experiment.host.grid)


def _join(references: Sequence[Reference]) -> Reference:
    counts = [len(reference.snapshots.energy) for reference in references]
    firsts = np.cumsum([0, *counts[:-1]]).tolist()
    places = [reference.places + first for reference, first in zip(references, firsts, strict=True)]
    return Reference(
        torch.cat([reference.velocity for reference in references]),
        Observation.combine(torch.cat, [reference.snapshots for reference in references]),
        torch.cat(places, dim=1),
        references[0].wavenumbers,
    )
