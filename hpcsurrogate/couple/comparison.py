"""All runs of one comparison, their scores and costs, as the lines and arrays that the stage writes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcsurrogate.core.log import get_logger
from hpcsurrogate.couple.contenders import ClosureFunction, Entry, LearnedClosure, build_closure
from hpcsurrogate.couple.cost import TimedRun, measure_costs
from hpcsurrogate.couple.observation import Observation, Observer
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.reference import Key, Reference, filter_for, reference_key
from hpcsurrogate.couple.resolution import Ladder
from hpcsurrogate.couple.runs import run_starts
from hpcsurrogate.couple.scoring import Score, mean_spectrum, score_run
from hpcsurrogate.couple.tuning import Tuning
from hpcsurrogate.couple.verdict import Line
from hpcsurrogate.physics.hosts import AnyHost, make_host

PICTURE_PARTS = 3  # vorticity is kept at the end of each third of the run

log = get_logger("couple")


@dataclass(frozen=True)
class Result:
    """One run: what was run, what it was held against, and how it did."""

    entry: Entry
    host: AnyHost
    closure: ClosureFunction | None
    reference: Reference
    run: Observation
    score: Score
    fallback_fraction: float | None  # of the learned closure: share of the cells that a guarded host takes from it


def run_entry(plan: Plan, entry: Entry, references: dict[Key, Reference]) -> Result:
    """Run one contender from all starts and score it."""
    host = make_host(entry.host, plan.experiment.flow)
    closure = build_closure(plan, entry, host)
    reference = references[reference_key(entry.host)]
    observer = Observer(host, plan.experiment.host.grid)
    learned = closure if isinstance(closure, LearnedClosure) else None
    run = run_starts(
        observer, closure, reference.velocity, plan.num_intervals, entry.steps_per_snapshot, learned and learned.watch
    )
    score = score_run(run, reference.observation, plan.times, plan.experiment.couple.correlation)
    outcome = "" if score.stable else f", blew up at {score.blow_up_time:.3g} s"
    log.info("'%s': decorrelation time %.3g s%s", entry.name, score.decorrelation_time, outcome)
    fraction = learned and learned.fallback_fraction
    if fraction is not None:
        log.info("'%s': a guard gives %.2g %% of the cells to the classical closure", entry.name, 100 * fraction)
    return Result(entry, host, closure, reference, run, score, fraction)


def describe_results(plan: Plan, results: Sequence[Result], tunings: dict[str, Tuning]) -> list[Line]:
    """Measure what the runs cost, find the effective resolutions, and return the lines of couple.json.

    Times are in [s], costs in milliseconds per step and per simulated second at batch 1 on one thread.
    """
    step_costs = measure_costs([TimedRun(r.host, r.closure, r.reference.velocity[:1]) for r in results])
    lines = [_describe(plan, result, 1e3 * cost, tunings) for result, cost in zip(results, step_costs, strict=True)]
    bare = next(line for line in lines if line["role"] == "bare")
    curve = [bare] + [line for line in lines if line["role"] == "ladder"]
    ladder = Ladder(
        tuple(line["grid"][0] for line in curve),
        tuple(line["decorrelation_time"] for line in curve),
        tuple(line["cost_ms_per_time_unit"] for line in curve),
    )
    for line in lines:
        line["cost_ratio_step"] = line["cost_ms_per_step"] / bare["cost_ms_per_step"]
        line["cost_ratio_time"] = line["cost_ms_per_time_unit"] / bare["cost_ms_per_time_unit"]
        _add_resolution(line, ladder)
    return lines


def collect_arrays(plan: Plan, results: Sequence[Result]) -> dict[str, np.ndarray]:
    """Return the arrays of couple.npz: series and spectra are means over the starts, vorticity is the first start's."""
    own = next(result for result in results if result.entry.role == "bare")
    pictures = np.linspace(0, plan.num_intervals, PICTURE_PARTS + 1).round().astype(int)[1:]
    arrays = {
        "times": plan.times.numpy(),
        "wavenumber": own.reference.wavenumbers.numpy(),
        "spectrum_reference": mean_spectrum(own.reference.observation).numpy(),
        "vorticity_times": plan.times.numpy()[pictures],
        "vorticity_reference": own.reference.observation.vorticity[pictures, 0].numpy(),
    }
    for index, result in enumerate(results):
        arrays[f"correlation/{index}"] = result.score.correlation.mean(dim=1).numpy()
        arrays[f"spectrum/{index}"] = mean_spectrum(result.run).numpy()
        for prefix, observation in (("", result.run), ("reference_", result.reference.observation)):
            arrays[f"{prefix}energy/{index}"] = observation.energy.mean(dim=1).numpy()
            arrays[f"{prefix}enstrophy/{index}"] = observation.enstrophy.mean(dim=1).numpy()
        if result.entry.host.grid == own.entry.host.grid:
            arrays[f"vorticity/{index}"] = result.run.vorticity[pictures, 0].numpy()
    return arrays


def _describe(plan: Plan, result: Result, cost_ms: float, tunings: dict[str, Tuning]) -> Line:
    entry, score = result.entry, result.score
    tuning = tunings.get(entry.name)
    return {
        "name": entry.name,
        "role": entry.role,
        "kind": entry.closure.kind,
        "host": entry.host.model_dump(mode="json"),
        "grid": list(entry.host.grid),
        "filter": filter_for(entry.host, plan.experiment.prepare.filter).model_dump(mode="json"),
        "constant": entry.constant,
        "tuning": tuning and {
            "candidates": list(tuning.candidates),
            "decorrelation_times": list(tuning.decorrelation_times),
            "at_edge": tuning.at_edge,
        },
        "decorrelation_time": score.decorrelation_time,
        "decorrelation_times": score.decorrelation_times,
        "decorrelation_interval": list(score.decorrelation_interval),
        "reached_end": score.reached_end,
        "stable": score.stable,
        "blow_up_time": score.blow_up_time,
        "spectrum_log_error": score.spectrum_log_error,
        "energy_error": score.energy_error,
        "enstrophy_error": score.enstrophy_error,
        "fallback_fraction": result.fallback_fraction,
        "cost_ms_per_step": cost_ms,
        "cost_ms_per_time_unit": cost_ms * entry.steps_per_snapshot / plan.interval,
    }  # fmt: skip


def _add_resolution(line: Line, ladder: Ladder) -> None:
    """Set the grid on which the bare host is as accurate, and how much more it costs there."""
    if line["role"] in ("bare", "ladder"):
        grid, bound = float(line["grid"][0]), None
    else:
        grid, bound = ladder.effective_grid(line["decorrelation_time"], line["reached_end"])
    line["effective_grid"], line["effective_grid_bound"] = grid, bound
    line["equivalent_cost_ms_per_time_unit"] = None if grid is None else ladder.cost_at(grid)
    line["speed_up"] = None if grid is None else ladder.cost_at(grid) / line["cost_ms_per_time_unit"]
