"""The list of runs that are compared: the experiment's contenders, the bare host, and the bare host on finer grids.

Roles: `bare` is the experiment's host without a closure, `ladder` the same on a finer grid, `learned` the exported
artifact, and `classical` everything else, a better discretisation without a closure included.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hpcsurrogate.core.config import Closure, Contender, Experiment, Host, NoClosure
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.reference import filter_for
from hpcsurrogate.embed.artifact import Artifact, load_artifact
from hpcsurrogate.physics.closures import make_classical
from hpcsurrogate.physics.filter_widths import filter_widths
from hpcsurrogate.physics.hosts import AnyHost

ClosureFunction = Callable[[Tensor], Tensor]


class LearnedClosure:
    """The network of an artifact at the precision of the host, alone: what its classical closure can do is known.

    Also counts what a host, which calls it with its guard, would have given to that closure.

    Parameters
    ----------
    artifact : Artifact    of kind `grid`
    """

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._dtype = artifact.golden_output.dtype
        self._cells = self._fallen = 0

    def __call__(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, 2, nx, ny) [m/s^2] of a velocity (b, 2, nx, ny) [m/s]."""
        return self._artifact(velocity.to(self._dtype)).to(velocity.dtype)

    def watch(self, velocity: Tensor) -> None:
        """Count the cells of velocities (b, 2, nx, ny) [m/s] that fall back; of those alone that are finite."""
        finite = velocity[torch.isfinite(velocity).flatten(1).all(1)].to(self._dtype)
        if len(finite):
            self._cells += finite[:, 0].numel()
            self._fallen += sum(self._artifact.guarded(finite)[1])

    @property
    def fallback_fraction(self) -> float:
        """Share of the cells counted so far that fall back (tests/unit/couple/test_contenders.py)."""
        return self._fallen / self._cells if self._cells else 0.0


@dataclass(frozen=True)
class Entry:
    """One line of the comparison. The time step of `host` divides the snapshot interval into `steps_per_snapshot`."""

    name: str
    role: str
    closure: Closure
    host: Host
    steps_per_snapshot: int
    constant: float | None = None

    @property
    def is_tuned(self) -> bool:
        """Whether the closure's constant is still to be found by running the solver."""
        return self.constant is None and "tuned" in self.closure.model_dump().values()

    def with_constant(self, constant: float) -> "Entry":
        """Return the same line with the closure's constant set."""
        return replace(self, constant=constant)


def fit_time_step(time_step: float, interval: float) -> tuple[float, int]:
    """Return the largest time step [s] not above `time_step` that divides `interval`, and how many of them fill it."""
    # The slack forgives a step such as 0.05 / 3 that was rounded in the experiment file.
    steps = max(1, math.ceil(interval / time_step * (1 - 1e-6)))
    return interval / steps, steps


def make_entries(experiment: Experiment, interval: float) -> list[Entry]:
    """List all runs: the bare host (added if no contender is it), the contenders, the ladder from coarse to fine.

    Parameters
    ----------
    experiment : Experiment
    interval : float [s]    time between snapshots of the recorded DNS

    Raises
    ------
    ConfigError    if a grid is coarser than the experiment's own: its modes could not all be scored
    """
    own_host = experiment.host
    entries = [_entry(contender, own_host, interval) for contender in experiment.couple.contenders]
    if not any(entry.role == "bare" for entry in entries):
        bare = Contender(name="no closure", closure=NoClosure(kind="none"))
        entries.insert(0, _entry(bare, own_host, interval))
    for nx in sorted(set(experiment.couple.ladder) - {own_host.grid[0]}):
        entries.append(_ladder_entry(nx, own_host, interval))
    for entry in entries:
        if any(cells < own for cells, own in zip(entry.host.grid, own_host.grid, strict=True)):
            raise ConfigError(
                f"couple: the grid {_times(entry.host.grid)} of '{entry.name}' is coarser than host.grid "
                f"{_times(own_host.grid)}, on whose modes all runs are scored: take a grid at least as fine"
            )
    return entries


def build_closure(plan: Plan, entry: Entry, host: AnyHost) -> ClosureFunction | None:
    """Return the closure of a line as a callable, or None without one; the learned one comes from the exported file.

    Delta of a classical closure is the width of the filter that its host is held against.
    """
    if entry.closure.kind == "none":
        return None
    if entry.closure.kind == "learned":
        return LearnedClosure(load_artifact(plan.paths.model))
    widths = filter_widths(filter_for(entry.host, plan.experiment.prepare.filter), host.grid.spacing)
    return make_classical(entry.closure, host, constant=entry.constant, delta=math.sqrt(math.prod(widths)))


def _entry(contender: Contender, own_host: Host, interval: float) -> Entry:
    host = contender.host or own_host
    if contender.closure.kind == "learned":
        role = "learned"
    elif contender.closure.kind == "none" and host == own_host:
        role = "bare"
    else:
        role = "classical"
    time_step, steps = fit_time_step(host.time_step, interval)
    given = getattr(contender.closure, "constant", getattr(contender.closure, "rate", None))
    return Entry(
        name=contender.name,
        role=role,
        closure=contender.closure,
        host=host.model_copy(update={"time_step": time_step}),
        steps_per_snapshot=steps,
        constant=None if given == "tuned" else given,
    )


def _ladder_entry(nx: int, own_host: Host, interval: float) -> Entry:
    """The bare host on nx points along x, cells of the same shape, time step in proportion to the spacing."""
    own_nx, own_ny = own_host.grid
    ny = 2 * round(nx * own_ny / own_nx / 2)
    time_step, steps = fit_time_step(own_host.time_step * own_nx / nx, interval)
    return Entry(
        name=f"no closure, {nx} x {ny}",
        role="ladder",
        closure=NoClosure(kind="none"),
        host=own_host.model_copy(update={"grid": (nx, ny), "time_step": time_step}),
        steps_per_snapshot=steps,
    )


def _times(grid: tuple[int, int]) -> str:
    return f"{grid[0]} x {grid[1]}"
