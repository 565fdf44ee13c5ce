"""All runs of one comparison, their scores and costs, as the lines and arrays that the stage writes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from torch import Tensor

from hpcsurrogate.couple.contenders import ClosureFunction, Entry, LearnedClosure, build_closure
from hpcsurrogate.couple.cost import TimedRun, measure_costs
from hpcsurrogate.couple.distances import DISTANCES, similarities
from hpcsurrogate.couple.observation import Observer, Statistics
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.prices import add_prices
from hpcsurrogate.couple.reference import Key, Reference, filter_for, reference_key
from hpcsurrogate.couple.runs import run_starts
from hpcsurrogate.couple.scoring import (
    Comparison,
    Score,
    compare,
    last_quarter,
    mean_spectrum,
    score,
    vorticity_plane,
)
from hpcsurrogate.couple.stability import Endurance, carry_on
from hpcsurrogate.couple.time_steps import StepTrial
from hpcsurrogate.couple.tuning import Tuning
from hpcsurrogate.couple.verdict import Line
from hpcsurrogate.physics.hosts import AnyHost, fold_closure, make_host

PICTURE_PARTS = 3  # vorticity is kept at the end of each third of the run
ROLLOUT_PARTS = 4  # errors are written at the end of each quarter


@dataclass(frozen=True)
class Result:
    """One run: what was run, what it was held against, and how it did."""

    entry: Entry
    start: Tensor  # (1, d, nx, ny[, nz]) [m/s], to time a step on
    wavenumbers: Tensor  # (k,) [rad/m]
    comparison: Comparison
    reference_picture: Tensor  # (t, x, y) [1/s]
    score: Score
    fallback_fraction: float | None  # of the learned closure: share of the cells that a guarded host takes from it
    endurance: Endurance | None  # of a learned closure that was finite in the comparison

    @property
    def lasts(self) -> bool:
        """Whether it stayed finite, in the comparison and when carried on."""
        return self.score.stable and (self.endurance is None or self.endurance.blow_up_time is None)


def run_entry(plan: Plan, entry: Entry, references: dict[Key, Reference]) -> Result:
    """Run one contender from all starts and score it."""
    bare_host = make_host(entry.host, plan.experiment.flow)
    whole_closure = build_closure(plan, entry, bare_host)
    host, closure = fold_closure(bare_host, whole_closure)
    reference = references[reference_key(entry.host)]
    observer = Observer(host, plan.experiment.host.grid)
    learned = whole_closure if isinstance(whole_closure, LearnedClosure) else None
    runs = run_starts(
        observer, closure, reference.velocity, plan.num_intervals, entry.steps_per_snapshot, learned and learned.watch
    )
    comparison = Comparison.join([compare(run, reference.part(starts)) for starts, run in runs])
    found = score(comparison, plan.times, plan.experiment.couple.correlation)
    fraction = learned and learned.fallback_fraction
    picture = vorticity_plane(reference.part(slice(0, 1)).vorticity[:, 0])
    endurance = carry_on(plan, entry, reference.velocity) if learned and found.stable else None
    return Result(entry, reference.velocity[:1], reference.wavenumbers, comparison, picture, found, fraction, endurance)


def describe_run(entry: Entry, result: Result) -> Iterator[str]:
    """What to say of a run when it is done."""
    found, fraction = result.score, result.fallback_fraction
    outcome = "" if found.stable else f", blew up at {found.blow_up_time:.3g} s"
    if found.stable and not result.lasts:
        outcome += f", blew up at {result.endurance.blow_up_time:.3g} s when it was carried on"
    if result.entry != entry:
        outcome += f", at {result.entry.host.time_step:.4g} s: it was unstable at {entry.host.time_step:.4g} s"
    yield f"'{entry.name}': decorrelation time {found.decorrelation_time:.3g} s{outcome}"
    if fraction is not None:
        yield f"'{entry.name}': a guard gives {100 * fraction:.2g} % of the cells to the classical closure"


def describe_results(
    plan: Plan,
    results: Sequence[Result],
    draws: np.ndarray,
    tunings: Mapping[str, Tuning],
    step_trials: Mapping[str, Sequence[StepTrial]],
) -> list[Line]:
    """Measure what the runs cost, find the effective resolutions, and return the lines of couple.json.

    Times are in [s], costs in milliseconds per step and per simulated second at batch 1 on one thread. Intervals are
    those of `draws`, the `bootstrap_weights` of the starts, shape (r, b).
    """
    step_costs = measure_costs([TimedRun(*_solver(plan, result.entry), result.start) for result in results])
    bare = next(result for result in results if result.entry.role == "bare")
    lines = [
        _describe(plan, result, 1e3 * cost, tunings.get(result.entry.name))
        | {"step_trials": [asdict(trial) for trial in step_trials.get(result.entry.name, ())]}
        | _scores(plan, result.score, bare.score, draws)
        for result, cost in zip(results, step_costs, strict=True)
    ]
    add_prices(lines)
    return lines


def _solver(plan: Plan, entry: Entry) -> tuple[AnyHost, ClosureFunction | None]:
    """Host and what is left of the closure of a line once the host has taken in what it can."""
    host = make_host(entry.host, plan.experiment.flow)
    return fold_closure(host, build_closure(plan, entry, host))


def collect_arrays(plan: Plan, results: Sequence[Result]) -> dict[str, np.ndarray]:
    """Return the arrays of couple.npz: series and spectra are means over the starts, vorticity is the first start's.

    In three dimensions vorticity is the magnitude in the middle plane of z.
    """
    own = next(result for result in results if result.entry.role == "bare")
    pictures = np.linspace(0, plan.num_intervals, PICTURE_PARTS + 1).round().astype(int)[1:]
    arrays = {
        "times": plan.times.numpy(),
        "wavenumber": own.wavenumbers.numpy(),
        "spectrum_reference": mean_spectrum(own.comparison.reference).numpy(),
        "vorticity_times": plan.times.numpy()[pictures],
        "vorticity_reference": own.reference_picture[pictures].numpy(),
    }
    for index, result in enumerate(results):
        arrays[f"correlation/{index}"] = result.score.correlation.mean(dim=1).numpy()
        arrays[f"rollout/{index}"] = result.score.rollout.mean(dim=1).numpy()
        arrays[f"spectrum/{index}"] = mean_spectrum(result.comparison.run).numpy()
        for prefix, statistics in (("", result.comparison.run), ("reference_", result.comparison.reference)):
            arrays[f"{prefix}energy/{index}"] = statistics.energy.mean(dim=1).numpy()
            arrays[f"{prefix}enstrophy/{index}"] = statistics.enstrophy.mean(dim=1).numpy()
            arrays[f"{prefix}quantiles/{index}"] = _late_quantiles(statistics)
        if result.entry.host.grid == own.entry.host.grid:
            arrays[f"vorticity/{index}"] = result.comparison.picture[pictures].numpy()
    return arrays


def _late_quantiles(statistics: Statistics) -> np.ndarray:
    """Mean quantiles of vorticity and strain over the starts and the last quarter, shape (2, q) [1/s]."""
    return statistics.quantiles[last_quarter(len(statistics.energy))].mean(dim=(0, 1)).numpy()


def _describe(plan: Plan, result: Result, cost_ms: float, tuning: Tuning | None) -> Line:
    entry = result.entry
    return {
        "name": entry.name,
        "role": entry.role,
        "ladder_of": entry.ladder_of,
        "kind": entry.closure.kind,
        "own_artifact": entry.role == "learned" and entry.closure.artifact is None,
        "host": entry.host.model_dump(mode="json"),
        "grid": list(entry.host.grid),
        "filter": filter_for(entry.host, plan.experiment.prepare.filter).model_dump(mode="json"),
        "constant": entry.constant,
        "constants": tuning.chosen if tuning else {},
        "tuning": tuning and {
            "candidates": list(tuning.candidates),
            "powers": tuning.powers and list(tuning.powers),
            "decorrelation_times": list(tuning.decorrelation_times),
            "at_edge": tuning.at_edge,
        },
        "fallback_fraction": result.fallback_fraction,
        "endurance": result.endurance and asdict(result.endurance),
        "cost_ms_per_step": cost_ms,
        "cost_ms_per_time_unit": cost_ms * entry.steps_per_snapshot / plan.interval,
    }  # fmt: skip


def _scores(plan: Plan, score: Score, bare: Score, draws: np.ndarray) -> Line:
    found = {
        "decorrelation_time": score.decorrelation_time,
        "decorrelation_times": score.decorrelation_times,
        "decorrelation_interval": list(score.decorrelation_interval(draws)),
        "reached_end": score.reached_end,
        "stable": score.stable,
        "blow_up_time": score.blow_up_time,
        "energy_error": score.energy_error,
        "enstrophy_error": score.enstrophy_error,
        "dissipation_error": score.dissipation_error,
        "energy_budget": score.energy_budget and score.energy_budget.as_dict(),
        "enstrophy_budget": score.enstrophy_budget and score.enstrophy_budget.as_dict(),
    }
    intervals = score.distance_intervals(draws)
    for name in DISTANCES:
        interval = intervals[name]
        found |= {name: score.distances[name], f"{name}_interval": interval and list(interval)}
    moments = np.linspace(0, plan.num_intervals, ROLLOUT_PARTS + 1).round().astype(int)[1:]
    errors = score.rollout.mean(dim=1).tolist()
    found["rollout_error_at"] = [
        {"time": float(plan.times[i]), "error": errors[i] if math.isfinite(errors[i]) else None} for i in moments
    ]
    similar = similarities(score.ingredients, bare.ingredients, draws)
    mean = similar.pop("mean")
    found |= {
        "similarity": mean and mean["value"],
        "similarity_interval": mean and mean["interval"],
        "similarities": similar,
    }
    return found
