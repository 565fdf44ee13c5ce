"""The list of runs that are compared: the experiment's contenders, the bare host, and both on finer grids.

Roles: `bare` is the experiment's host without a closure, `ladder` the same on a finer grid, `learned` an exported
artifact, and `classical` everything else, a better discretisation without a closure included. A contender on a finer
grid of its own ladder has that contender's role and its name in `ladder_of`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from hpcsurrogate.core.config import Closure, Contender, Experiment, Flow, Host, Learned, NoClosure
from hpcsurrogate.core.errors import ConfigError, ModelRefusedError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.reference import filter_for
from hpcsurrogate.embed.artifact import Artifact, load_artifact, relative_difference
from hpcsurrogate.embed.damping import damping_rates
from hpcsurrogate.physics.advection import StaggeredAdvection
from hpcsurrogate.physics.closures import make_classical
from hpcsurrogate.physics.filter_widths import filter_widths
from hpcsurrogate.physics.finite_volume import AdvectionHat
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import AnyHost

ClosureFunction = Callable[[Tensor], Tensor]

SAME_SPACING = 1e-6  # relative; lengths and points as written in the experiment file
FLUX_TOLERANCE = 1e-4  # of the largest acceleration: round-off of float32, with what other processors do to it


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
        """Acceleration [m/s^2] of a velocity (b, d, nx, ny[, nz]) [m/s], of its shape."""
        return self._artifact(velocity.to(self._dtype)).to(velocity.dtype)

    @property
    def damping_rates(self) -> Callable[[Grid], Tensor] | None:
        """If the closure is a linear damping: its rates [1/s] on a grid, which a host takes in at no cost."""
        if not self._artifact.metadata.linear_damping:
            return None
        return lambda grid: damping_rates(self._artifact, grid.shape).to(grid.device, grid.dtype)

    @property
    def advection_hat(self) -> AdvectionHat | None:
        """If the file has it: what a host takes in place of its own -div(u u) and the closure, as half-spectra."""
        if not self._artifact.has_advection:
            return None
        dtype = self._dtype.to_complex()
        return lambda state, last, stage: self._artifact.advection_hat(state.to(dtype), last, stage).to(state.dtype)

    def watch(self, velocity: Tensor) -> None:
        """Count the cells of velocities (b, d, nx, ny[, nz]) [m/s] that fall back; of those alone that are finite."""
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
    ladder_of: str | None = None

    @property
    def open_constants(self) -> tuple[str, ...]:
        """Keys of the closure that are still to be found by running the solver."""
        return tuple(key for key, value in self.closure.model_dump().items() if value == "tuned")

    @property
    def is_tuned(self) -> bool:
        """Whether there are any."""
        return bool(self.open_constants)

    @property
    def constant(self) -> float | None:
        """The closure's constant, or its rate [1/s]; None if it has none or that is still to be found."""
        value = getattr(self.closure, "constant", getattr(self.closure, "rate", None))
        return None if value == "tuned" else value

    @property
    def price(self) -> float:
        """About what a run costs, but for its closure: points of the grid times time steps."""
        return math.prod(self.host.grid) * self.steps_per_snapshot

    def with_constants(self, constants: Mapping[str, float]) -> "Entry":
        """Return the same line with keys of the closure set."""
        return replace(self, closure=self.closure.model_copy(update=dict(constants)))

    def with_steps(self, steps_per_snapshot: int, interval: float) -> "Entry":
        """Return the same line with another number of steps in a snapshot interval [s]."""
        host = self.host.model_copy(update={"time_step": interval / steps_per_snapshot})
        return replace(self, host=host, steps_per_snapshot=steps_per_snapshot)


def fit_time_step(time_step: float, interval: float) -> tuple[float, int]:
    """Return the largest time step [s] not above `time_step` that divides `interval`, and how many of them fill it."""
    # The slack forgives a step such as 0.05 / 3 that was rounded in the experiment file.
    steps = max(1, math.ceil(interval / time_step * (1 - 1e-6)))
    return interval / steps, steps


def make_entries(experiment: Experiment, interval: float) -> list[Entry]:
    """List all runs: the bare host (added if no contender is it), the contenders, the ladders from coarse to fine.

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
    ladders = {contender.name: contender.ladder for contender in experiment.couple.contenders}
    bare = next(entry for entry in entries if entry.role == "bare")
    whole = (*experiment.couple.ladder, *ladders.pop(bare.name, ()))
    rungs = [_rung(bare, nx, interval, "ladder", "no closure") for nx in _finer(whole, bare)]
    for base in entries:
        rungs += [_rung(base, nx, interval, base.role, base.name) for nx in _finer(ladders.get(base.name, ()), base)]
    entries += rungs
    for entry in entries:
        if any(cells < own for cells, own in zip(entry.host.grid, own_host.grid, strict=True)):
            raise ConfigError(
                f"couple: the grid {_times(entry.host.grid)} of '{entry.name}' is coarser than host.grid "
                f"{_times(own_host.grid)}, on whose modes all runs are scored: take a grid at least as fine"
            )
    return entries


def artifact_path(paths: RunPaths, closure: Learned) -> Path:
    """Return the file of a learned closure: the one it names, or the one that the experiment exports."""
    return paths.model if closure.artifact is None else Path(closure.artifact)


def require_same_spacing(artifact: Artifact, host: Host, flow: Flow) -> None:
    """Refuse a closure that was trained on other cells than those of a host.

    Raises
    ------
    ConfigError    naming the artifact and both spacings [m]
    """
    trained = artifact.metadata.host.grid_spacing
    spacing = [length / points for length, points in zip(flow.domain, host.grid, strict=True)]
    if len(trained) != len(spacing) or not all(
        math.isclose(a, b, rel_tol=SAME_SPACING) for a, b in zip(trained, spacing, strict=True)
    ):
        raise ConfigError(
            f"the artifact {artifact.path} is for cells of {_lengths(trained)}, but host.grid and flow.domain give "
            f"{_lengths(spacing)}: change both in proportion"
        )


def require_same_fluxes(artifact: Artifact) -> None:
    """Refuse a file whose `advection_hat` is not its closure added to the central fluxes of second order.

    Raises
    ------
    ModelRefusedError    (tests/unit/couple/test_contenders.py)
    """
    if not artifact.has_advection:
        return
    velocity = artifact.golden_inputs[0]
    lengths = [h * n for h, n in zip(artifact.metadata.host.grid_spacing, velocity.shape[2:], strict=True)]
    grid = Grid(velocity.shape[2:], lengths, velocity.dtype)
    with torch.no_grad():
        fluxes = StaggeredAdvection(grid, order=2, advection="central")(velocity)
        axes = tuple(range(2, velocity.ndim))
        velocity_hat = torch.fft.rfftn(velocity, dim=axes)
        stages_hat = [artifact.advection_hat(velocity_hat, velocity.shape[-1], stage) for stage in (0, 1)]
        rate = torch.fft.irfftn(sum(stages_hat) / 2, s=velocity.shape[2:], dim=axes)
        difference = relative_difference(rate, fluxes + artifact.golden_output)
    if not difference <= FLUX_TOLERANCE:
        raise ModelRefusedError(
            f"{artifact.path}: `advection_hat` is not the closure and the host's fluxes (relative difference "
            f"{difference:.1e}); export the model again"
        )


def _lengths(lengths: Iterable[float]) -> str:
    return " by ".join(f"{length:.6g} m" for length in lengths)


def build_closure(plan: Plan, entry: Entry, host: AnyHost) -> ClosureFunction | None:
    """Return the closure of a line as a callable, or None without one; the learned one comes from the exported file.

    Delta of a classical closure is the width of the filter that its host is held against.
    """
    if entry.closure.kind == "none":
        return None
    if entry.closure.kind == "learned":
        return LearnedClosure(load_artifact(artifact_path(plan.paths, entry.closure)))
    widths = filter_widths(filter_for(entry.host, plan.experiment.prepare.filter), host.grid.spacing)
    return make_classical(entry.closure, host, delta=math.prod(widths) ** (1 / len(widths)))


def _entry(contender: Contender, own_host: Host, interval: float) -> Entry:
    host = contender.host or own_host
    if contender.closure.kind == "learned":
        role = "learned"
    elif contender.closure.kind == "none" and host == own_host:
        role = "bare"
    else:
        role = "classical"
    time_step, steps = fit_time_step(host.time_step, interval)
    return Entry(
        name=contender.name,
        role=role,
        closure=contender.closure,
        host=host.model_copy(update={"time_step": time_step}),
        steps_per_snapshot=steps,
    )


def _finer(ladder: Sequence[int], base: Entry) -> list[int]:
    return sorted(set(ladder) - {base.host.grid[0]})


def _rung(base: Entry, nx: int, interval: float, role: str, name: str) -> Entry:
    """A line's host on nx points along x, cells of the same shape, time step in proportion to the spacing."""
    own_nx, *others = base.host.grid
    grid = (nx, *(2 * round(nx * n / own_nx / 2) for n in others))
    time_step, steps = fit_time_step(base.host.time_step * own_nx / nx, interval)
    return Entry(
        name=f"{name}, {_times(grid)}",
        role=role,
        closure=base.closure,
        host=base.host.model_copy(update={"grid": grid, "time_step": time_step}),
        steps_per_snapshot=steps,
        ladder_of=base.name,
    )


def _times(grid: Sequence[int]) -> str:
    return " x ".join(str(n) for n in grid)
