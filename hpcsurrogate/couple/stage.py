"""The stage couple: run every contender in its coarse solver against filtered DNS, and say whether the learned helps.

Writes couple.npz (series, spectra, fields) and then couple.json (scores, costs, verdict, SHA-256 of the artifact).
Times in seconds, costs in milliseconds at batch 1 on one thread; a score that does not exist, because a run blew up, is
null.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from hpcsurrogate.core.atomic import atomic_path, sha256_file, write_json_atomic
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.couple.bootstrap import bootstrap_weights
from hpcsurrogate.couple.comparison import Result, collect_arrays, describe_results, describe_run, run_entry
from hpcsurrogate.couple.contenders import Entry, artifact_path, make_entries, require_same_fluxes, require_same_spacing
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.reference import Key, Reference, Start, build_references, overlap, place_starts
from hpcsurrogate.couple.sharing import share_work
from hpcsurrogate.couple.time_steps import StepTrial, lengthen_steps
from hpcsurrogate.couple.tuning import Tuning, tune_entries
from hpcsurrogate.couple.verdict import Circumstances, Judgement, Line, judge
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.parallel.world import World

log = get_logger("couple")


def run_couple(experiment: Experiment, paths: RunPaths, world: World) -> None:
    """Compare all contenders and write couple.json and couple.npz.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths    raw/ and, if a contender is `learned`, the artifact must be there
    world : World       its ranks share the runs; rank 0 measures what they cost, and writes

    Raises
    ------
    ConfigError          if the runs do not fit into the recorded time, or a grid is coarser than the experiment's or
                         finer than the data
    DataError            if a shard is damaged or the artifact missing
    ModelRefusedError    if the artifact is not what was exported
    """
    compare(Plan(experiment, paths, world=world))


def compare(plan: Plan) -> None:
    """Run the comparison of a plan and write its couple.json and couple.npz; collective, errors as in `run_couple`."""
    with plan.world.failing_together():
        # First of all what may be refused, so that too short a record or a damaged artifact does not cost the tuning.
        entries = make_entries(plan.experiment, plan.interval)
        starts = place_starts(plan, plan.realisations, plan.experiment.couple.starts)
        artifact = _checked_artifact(plan, entries)
    entries, tunings = tune_entries(plan, entries)
    given, (entries, step_trials) = entries, lengthen_steps(plan, entries)
    results = run_entries(plan, entries, given, starts)
    with plan.world.failing_together():
        if plan.world.rank == 0:
            write_comparison(plan, starts, results, tunings, step_trials, artifact)


def _checked_artifact(plan: Plan, entries: Sequence[Entry]) -> str | None:
    """SHA-256 of the experiment's own artifact, if a contender is it; those of all learned contenders are loaded."""
    own = None
    for entry in entries:
        if entry.role == "learned":
            loaded = load_artifact(artifact_path(plan.paths, entry.closure))
            require_same_spacing(loaded, entry.host, plan.experiment.flow)
            require_same_fluxes(loaded)
            own = sha256_file(loaded.path) if loaded.path == plan.paths.model else own
    return own


def run_entries(plan: Plan, entries: Sequence[Entry], given: Sequence[Entry], starts: Sequence[Start]) -> list[Result]:
    """Run all entries from all starts, at their own time steps or at the given ones; collective."""
    at_given_step = {entry.name: entry for entry in given}

    def run(entries: list[Entry]) -> Iterator[Result]:
        references = build_references(plan, [entry.host for entry in entries], starts)
        for entry in entries:
            yield run_at_either_step(plan, entry, at_given_step[entry.name], references)

    return share_work(plan.world, entries, lambda entry: entry.price, run, describe_run)


def write_comparison(
    plan: Plan,
    starts: Sequence[Start],
    results: Sequence[Result],
    tunings: Mapping[str, Tuning],
    step_trials: Mapping[str, Sequence[StepTrial]],
    artifact: str | None,
) -> None:
    """Measure what the runs cost, judge, and write both files."""
    realisations = tuple(start.realisation for start in starts)
    lines = describe_results(plan, results, bootstrap_weights(realisations), tunings, step_trials)
    judgement = judge(lines, Circumstances(plan.experiment.couple.correlation, realisations))
    arrays = collect_arrays(plan, results)
    with atomic_path(plan.paths.coupling_fields) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    write_json_atomic(plan.paths.coupling, _summary(plan, starts, lines, judgement) | {"artifact": artifact})
    log.info(judgement.sentence)


def run_at_either_step(plan: Plan, entry: Entry, given: Entry, references: dict[Key, Reference]) -> Result:
    """Run an entry; where it blows up at its longer step, be it when it is carried on, once more at the given one.

    A step that is too long for a start that the search did not know says nothing about a closure.
    """
    result = run_entry(plan, entry, references)
    if result.lasts or entry == given:
        return result
    return run_entry(plan, given, references)


def _summary(plan: Plan, starts: Sequence[Start], lines: Sequence[Line], judgement: Judgement) -> dict:
    """The content of couple.json."""
    learned, best_classical = judgement.learned, judgement.best_classical
    return {
        "verdict": judgement.sentence,
        "helped": judgement.helped,
        "margin": judgement.margin and asdict(judgement.margin),
        "correlation_threshold": plan.experiment.couple.correlation,
        "num_starts": len(starts),
        "reference": {
            "fine_grid": list(plan.catalogue.entry(starts[0].realisation).grid_shape),
            "scored_grid": list(plan.experiment.host.grid),
            "snapshot_interval": plan.interval,
            "duration": plan.duration,
            "starts": [{"realisation": s.realisation, "time": s.snapshot * plan.interval} for s in starts],
            "starts_overlap": overlap(plan, starts),
        },
        "contenders": list(lines),
        "best_classical": best_classical and best_classical["name"],
        "learned": learned and learned["name"],
        "equivalent": learned and {
            "grid": learned["effective_grid"],
            "bound": learned["effective_grid_bound"],
            "cost_ms_per_time_unit": learned["equivalent_cost_ms_per_time_unit"],
            "speed_up": learned["speed_up"],
            "speed_up_over_classical": learned["speed_up_over_classical"],
            "cheapest_classical": learned["cheapest_classical"],
        },
    }  # fmt: skip
