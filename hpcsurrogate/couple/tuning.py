"""Constants marked `tuned`: a grid search through the contender's own solver on the validation realisations.

The best constant keeps the vorticity correlation longest; where several reach the end of the run, the one with the
smaller error of the spectrum wins. One that blows up later in the run is passed over. The test realisations are never
seen here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hpcsurrogate.core.log import get_logger
from hpcsurrogate.couple.contenders import Entry, build_closure
from hpcsurrogate.couple.observation import Observation, Observer
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.reference import Reference, build_references, place_starts, reference_key
from hpcsurrogate.couple.runs import run_batch
from hpcsurrogate.couple.scoring import Score, score_run
from hpcsurrogate.evaluate.aposteriori import vorticity_correlation
from hpcsurrogate.physics.hosts import make_host

# Smagorinsky and Leith [-], hyperviscosity [1/s]: from far too little to far too much in even ratios.
CANDIDATES = {
    "smagorinsky": (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.57, 0.8),
    "leith": (0.1, 0.14, 0.2, 0.28, 0.4, 0.57, 0.8, 1.13),
    "hyperviscosity": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
}
MAX_STARTS = 4  # over all validation realisations: tuning must stay cheap beside the comparison

log = get_logger("couple")


@dataclass(frozen=True)
class Tuning:
    """The search for one constant: what was tried, the mean time to decorrelation of each [s], and the choice."""

    candidates: tuple[float, ...]
    decorrelation_times: tuple[float, ...]
    constant: float

    @property
    def at_edge(self) -> bool:
        """Whether the choice is the smallest or largest candidate, so that a better one may lie outside."""
        return self.constant in (self.candidates[0], self.candidates[-1])


def tune_entries(plan: Plan, entries: Sequence[Entry]) -> tuple[list[Entry], dict[str, Tuning]]:
    """Set every constant that is marked `tuned`.

    Returns
    -------
    list of Entry    as given, with constants
    dict             name -> Tuning of those that were tuned
    """
    open_entries = [entry for entry in entries if entry.is_tuned]
    if not open_entries:
        return list(entries), {}
    realisations = plan.experiment.prepare.split.validation[:MAX_STARTS]
    starts = place_starts(plan, realisations, min(plan.experiment.couple.starts, MAX_STARTS // len(realisations)))
    references = build_references(plan, [entry.host for entry in open_entries], starts)
    tunings = {entry.name: _tune(plan, entry, references) for entry in open_entries}
    for name, tuning in tunings.items():
        edge = " (at the edge of the search)" if tuning.at_edge else ""
        log.info("tuned '%s': constant %g%s", name, tuning.constant, edge)
    return [e.with_constant(tunings[e.name].constant) if e.is_tuned else e for e in entries], tunings


def _tune(plan: Plan, entry: Entry, references: dict) -> Tuning:
    host = make_host(entry.host, plan.experiment.flow)
    observer = Observer(host, plan.experiment.host.grid)
    reference = references[reference_key(entry.host)]
    candidates = CANDIDATES[entry.closure.kind]
    scores = [_try(plan, entry.with_constant(constant), observer, reference) for constant in candidates]
    ranked = sorted(range(len(candidates)), key=lambda index: _merit(scores[index]), reverse=True)
    stable = (i for i in ranked if _is_stable(plan, entry.with_constant(candidates[i]), observer, reference))
    # If all blow up, the comparison will say so of the best of them.
    best = next(stable, ranked[0])
    return Tuning(candidates, tuple(score.decorrelation_time for score in scores), candidates[best])


def _try(plan: Plan, entry: Entry, observer: Observer, reference: Reference) -> Score:
    """Run until all starts have lost the flow: what comes after cannot change the choice."""
    threshold = plan.experiment.couple.correlation

    def all_lost(index: int, observation: Observation) -> bool:
        truth = reference.observation.vorticity[index]
        return not bool((vorticity_correlation(observation.vorticity, truth) >= threshold).any())

    closure = build_closure(plan, entry, observer.host)
    run = run_batch(observer, closure, reference.velocity, plan.num_intervals, entry.steps_per_snapshot, stop=all_lost)
    return score_run(run, reference.observation, plan.times, threshold)


def _is_stable(plan: Plan, entry: Entry, observer: Observer, reference: Reference) -> bool:
    closure = build_closure(plan, entry, observer.host)
    run = run_batch(observer, closure, reference.velocity, plan.num_intervals, entry.steps_per_snapshot)
    return bool(torch.isfinite(run.energy).all())


def _merit(score: Score) -> tuple[float, float]:
    error = math.inf if score.spectrum_log_error is None else score.spectrum_log_error
    return score.decorrelation_time, -error
