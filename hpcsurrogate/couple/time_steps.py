"""The longest time step of every contender and rung that costs no accuracy: prices at any resolution *and* step.

All runs would otherwise take the step that the experiment gives for its own host, which is the one that the learned
closure bears; schemes whose waves are slower on the grid, such as the bare one of second order, bear longer ones. Found
on validation and training realisations; the test realisations are never seen here.

A flow has rare moments that are faster than any of a short comparison, and a step that is too long for them ends the
run there. So a longer step must also carry the run on, far beyond the comparison; and since the fastest moment of a
thousand such runs is faster still, the step that is taken is shorter than the one that did so.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hpcsurrogate.couple.contenders import Entry
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.reference import Reference, reference_key
from hpcsurrogate.couple.scoring import Score
from hpcsurrogate.couple.sharing import share_work
from hpcsurrogate.couple.stability import carry_on
from hpcsurrogate.couple.tuning import Trials, search_references

KEPT = 0.99  # share of the time to decorrelation that a longer step must keep
# A step is this much shorter than the longest one at which runs last: others may hold faster eddies than the search's.
MARGIN = 1.2


@dataclass(frozen=True)
class StepTrial:
    """One run of the search."""

    steps_per_snapshot: int
    time_step: float  # [s]
    decorrelation_time: float  # mean over the starts [s]
    stable: bool
    accepted: bool


def lengthen_steps(plan: Plan, entries: Sequence[Entry]) -> tuple[list[Entry], dict[str, tuple[StepTrial, ...]]]:
    """Give every entry the longest step that is stable and keeps `KEPT` of its time to decorrelation, less `MARGIN`.

    Carried on at that step, before the margin, for `couple.long_run`, it must stay finite; else the step is shortened
    until it does. No step becomes shorter than the given one. Collective.

    Parameters
    ----------
    plan : Plan
    entries : sequence of Entry    their constants set

    Returns
    -------
    list of Entry    as given, with steps no shorter
    dict             name -> what was tried, the given step first

    Notes
    -----
    Steps are whole fractions of the snapshot interval, and a shorter step is taken to do no worse: a bisection. The
    limit of a linear problem is found (tests/unit/couple/test_time_steps.py).
    """
    if not plan.experiment.couple.lengthen_steps:
        return list(entries), {}
    split = plan.experiment.prepare.split

    def search(entries: list[Entry]) -> Iterator[tuple[int, tuple[StepTrial, ...]]]:
        references = search_references(plan, [entry.host for entry in entries], split.validation + split.train)
        for entry in entries:
            reference = references[reference_key(entry.host)]
            trials = bisect(plan, entry, reference)
            yield shortened(plan, entry, reference, trials), trials

    def describe(entry: Entry, found: tuple[int, tuple[StepTrial, ...]]) -> Iterator[str]:
        step = plan.interval / found[0]
        yield f"'{entry.name}': time step {step:.4g} s (given: {entry.host.time_step:.4g} s)"

    found = share_work(plan.world, entries, lambda entry: entry.price, search, describe)
    chosen = [entry.with_steps(steps, plan.interval) for entry, (steps, _) in zip(entries, found, strict=True)]
    return chosen, {entry.name: trials for entry, (_, trials) in zip(entries, found, strict=True)}


def shortened(plan: Plan, entry: Entry, reference: Reference, trials: Sequence[StepTrial]) -> int:
    """Return the steps for each snapshot interval: `MARGIN` more than the fewest accepted at which the run lasts."""
    steps = min(trial.steps_per_snapshot for trial in trials if trial.accepted)
    while (more := math.ceil(MARGIN * steps)) < entry.steps_per_snapshot:
        endurance = carry_on(plan, entry.with_steps(steps, plan.interval), reference.velocity)
        if endurance is None or endurance.blow_up_time is None:
            return more
        steps = more
    return entry.steps_per_snapshot


def bisect(plan: Plan, entry: Entry, reference: Reference) -> tuple[StepTrial, ...]:
    """Try other numbers of steps for each snapshot interval; of those accepted the smallest has the longest step.

    The given step is accepted whatever comes of it.
    """

    def score(steps: int) -> Score:
        return Trials(plan, entry.with_steps(steps, plan.interval), reference).whole_score({})

    def trial(steps: int, found: Score, accepted: bool) -> StepTrial:
        return StepTrial(steps, plan.interval / steps, found.decorrelation_time, found.stable, accepted)

    given = score(entry.steps_per_snapshot)
    trials = [trial(entry.steps_per_snapshot, given, True)]
    too_few, enough = 0, entry.steps_per_snapshot if given.stable else 1
    while enough - too_few > 1:
        steps = (too_few + enough) // 2
        found = score(steps)
        accepted = found.stable and found.decorrelation_time >= KEPT * given.decorrelation_time
        trials.append(trial(steps, found, accepted))
        too_few, enough = (too_few, steps) if accepted else (steps, enough)
    return tuple(trials)
