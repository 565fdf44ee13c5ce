"""Constants marked `tuned`: a search through the contender's own solver on the validation realisations.

The best constant keeps the vorticity correlation longest; where several reach the end of the run, the one with the
smaller error of the spectrum wins. One that blows up later in the run is passed over. The test realisations are never
seen here.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from hpcsurrogate.core.config import Host
from hpcsurrogate.couple.contenders import Entry, build_closure
from hpcsurrogate.couple.maximum import Merit, find_maximum, is_at_edge
from hpcsurrogate.couple.observation import Observation, Observer
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.reference import Key, Reference, build_references, place_starts, reference_key
from hpcsurrogate.couple.runs import run_batch
from hpcsurrogate.couple.scoring import Score, score_run
from hpcsurrogate.couple.sharing import share_work
from hpcsurrogate.evaluate.aposteriori import vorticity_correlation
from hpcsurrogate.physics.hosts import AnyHost, fold_closure, make_host

# Where the search begins [-], hyperviscosity [1/s]: from far too little to far too much in even ratios. It goes on
# beyond either end where the best lies there.
CANDIDATES = {
    "smagorinsky": (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.57, 0.8),
    "leith": (0.1, 0.14, 0.2, 0.28, 0.4, 0.57, 0.8, 1.13),
    "wale": (0.1, 0.14, 0.2, 0.28, 0.4, 0.57, 0.8, 1.13),
    "vreman": (0.01, 0.02, 0.04, 0.08, 0.16, 0.32),
    "mixed": (0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4),
    "hyperviscosity": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
}
POWERS = (1, 2, 3, 4, 6, 8, 12, 16)  # of hyperviscosity; the search ends with the first that does worse
MAX_STARTS = 4  # over all realisations of a search: it must stay cheap beside the comparison


@dataclass(frozen=True)
class Trial:
    """One run of the search: the constants by their keys, and its mean time to decorrelation [s]."""

    constants: dict[str, float]
    decorrelation_time: float


@dataclass(frozen=True)
class Tuning:
    """The search for the constants of one closure: what was tried, the choice, and whether that is the last one tried.

    `constant` and `candidates` are of the closure's constant or rate; `power` and `powers` of its power, None if that
    is given.
    """

    trials: tuple[Trial, ...]
    chosen: dict[str, float]
    at_edge: bool

    @property
    def decorrelation_times(self) -> tuple[float, ...]:
        """Mean time to decorrelation of each trial [s]."""
        return tuple(trial.decorrelation_time for trial in self.trials)

    @property
    def constant(self) -> float | None:
        """The choice; None if only a power was searched."""
        return _main(self.chosen)

    @property
    def candidates(self) -> tuple[float | None, ...]:
        """What was tried, one a trial."""
        return tuple(_main(trial.constants) for trial in self.trials)

    @property
    def power(self) -> int | None:
        """The choice of the power."""
        return self.chosen.get("power")

    @property
    def powers(self) -> tuple[int, ...] | None:
        """The powers that were tried, one a trial."""
        return tuple(trial.constants["power"] for trial in self.trials) if "power" in self.chosen else None


def tune_entries(plan: Plan, entries: Sequence[Entry]) -> tuple[list[Entry], dict[str, Tuning]]:
    """Set every constant that is marked `tuned`; collective. A contender is tuned by one rank, from rung to rung.

    Returns
    -------
    list of Entry    as given, with constants
    dict             name -> Tuning of those that were tuned

    Notes
    -----
    Finds rate and power of a hyperviscosity that the reference itself was run with
    (tests/unit/couple/test_tuning.py).
    """
    ladders: dict[str, list[Entry]] = {}  # from coarse to fine
    for entry in entries:
        if entry.is_tuned:
            ladders.setdefault(entry.ladder_of or entry.name, []).append(entry)
    if not ladders:
        return list(entries), {}

    def search(ladders: list[list[Entry]]) -> Iterator[dict[str, Tuning]]:
        hosts = [entry.host for ladder in ladders for entry in ladder]
        references = search_references(plan, hosts, plan.experiment.prepare.split.validation)
        for ladder in ladders:
            found: dict[str, Tuning] = {}
            coarser = None
            for entry in ladder:
                trials = Trials(plan, entry, references[reference_key(entry.host)])
                found[entry.name] = tune(trials, coarser)
                coarser = found[entry.name].chosen
            yield found

    def price(ladder: list[Entry]) -> float:
        return sum(entry.price for entry in ladder)

    found = share_work(plan.world, list(ladders.values()), price, search, _describe)
    tunings = {name: tuning for of_ladder in found for name, tuning in of_ladder.items()}
    return [e.with_constants(tunings[e.name].chosen) if e.is_tuned else e for e in entries], tunings


def _describe(_: list[Entry], found: dict[str, Tuning]) -> Iterator[str]:
    for name, tuning in found.items():
        chosen = ", ".join(f"{key} {value:.4g}" for key, value in tuning.chosen.items())
        edge = " (at the edge of the search)" if tuning.at_edge else ""
        yield f"tuned '{name}' by {len(tuning.trials)} runs: {chosen}{edge}"


def search_references(plan: Plan, hosts: Iterable[Host], realisations: Sequence[int]) -> dict[Key, Reference]:
    """Filtered DNS of some realisations for every kind of host, from at most `MAX_STARTS` starts."""
    realisations = realisations[:MAX_STARTS]
    starts = place_starts(plan, realisations, min(plan.experiment.couple.starts, MAX_STARTS // len(realisations)))
    return build_references(plan, hosts, starts)


class Trials:
    """Runs of one contender with one choice of constants after the other."""

    def __init__(self, plan: Plan, entry: Entry, reference: Reference) -> None:
        self.plan, self.entry, self.reference = plan, entry, reference

    @cached_property
    def _host(self) -> AnyHost:
        return make_host(self.entry.host, self.plan.experiment.flow)

    def score(self, constants: dict[str, float]) -> Score:
        """Run until all starts have lost the flow: what comes after cannot change the choice."""
        threshold = self.plan.experiment.couple.correlation

        def all_lost(index: int, observation: Observation) -> bool:
            truth = self.reference.observation.vorticity[index]
            return not bool((vorticity_correlation(observation.vorticity, truth) >= threshold).any())

        run = self.run(constants, all_lost)
        return score_run(run, self.reference.observation, self.plan.times, threshold)

    def whole_score(self, constants: Mapping[str, float]) -> Score:
        """Run to the end: what comes after the flow is lost tells whether every start stays finite."""
        threshold = self.plan.experiment.couple.correlation
        return score_run(self.run(constants), self.reference.observation, self.plan.times, threshold)

    def run(
        self, constants: Mapping[str, float], stop: Callable[[int, Observation], bool] | None = None
    ) -> Observation:
        """Run from all starts; axes (t, b, ...)."""
        closure = build_closure(self.plan, self.entry.with_constants(constants), self._host)
        host, closure = fold_closure(self._host, closure)
        observer = Observer(host, self.plan.experiment.host.grid, whole=False)
        steps = self.entry.steps_per_snapshot
        return run_batch(observer, closure, self.reference.velocity, self.plan.num_intervals, steps, stop=stop)


def tune(trials: Trials, near: Mapping[str, float] | None = None) -> Tuning:
    """Search the open constants of one contender.

    The constant is looked for among `CANDIDATES`, of every further power around that of the power before. Powers go
    upwards along `POWERS` until one does worse.

    Parameters
    ----------
    trials : Trials
    near : mapping, optional    what was chosen on the next coarser rung: the search begins there, and takes powers
                                below that one too

    Notes
    -----
    From far off it ends at the same constants (tests/unit/couple/test_tuning.py).
    """
    kind, open_constants = trials.entry.closure.kind, trials.entry.open_constants
    main = next((key for key in open_constants if key != "power"), None)
    candidates = CANDIDATES.get(kind, ()) if near is None else around(_main(near))
    tried: dict[float | None, dict[float, Merit]] = {}  # power -> constant or rate -> merit
    scores: list[tuple[dict[str, float], Score]] = []

    def merit(constants: dict[str, float]) -> Merit:
        scores.append((constants, trials.score(constants)))
        return _merit(scores[-1][1])

    for powers in directions(near) if "power" in open_constants else ((None,),):
        for power in powers:
            fixed = {} if power is None else {"power": power}
            if main is None:
                tried[power] = {0.0: merit(fixed)}
            else:
                tried[power] = find_maximum(lambda value, fixed=fixed: merit({main: value} | fixed), candidates)
                candidates = around(max(tried[power], key=tried[power].__getitem__))
            if max(tried[power].values()) < max(best for of_power in tried.values() for best in of_power.values()):
                break
    ranked = [c for c, _ in sorted(scores, key=lambda pair: _merit(pair[1]), reverse=True)]
    # If all blow up, the comparison will say so of the best of them.
    chosen = next((constants for constants in ranked if trials.whole_score(constants).stable), ranked[0])
    power = chosen.get("power")
    at_edge = power == POWERS[-1] or (main is not None and is_at_edge(tried[power], chosen[main]))
    return Tuning(tuple(Trial(c, s.decorrelation_time) for c, s in scores), chosen, at_edge)


def around(value: float | None) -> tuple[float, ...]:
    """Candidates of a search that begins at a value; it goes on beyond them where the best lies at their end."""
    return () if value is None else (value / 2, value, 2 * value)


def directions(near: Mapping[str, float] | None) -> tuple[Sequence[int], ...]:
    """Powers to be tried one after the other, in each direction until one does worse."""
    first = 0 if near is None else POWERS.index(near["power"])
    return POWERS[first:], POWERS[:first][::-1]


def _main(constants: dict[str, float]) -> float | None:
    return next((value for key, value in constants.items() if key != "power"), None)


def _merit(score: Score) -> Merit:
    error = math.inf if score.spectrum_log_error is None else score.spectrum_log_error
    return score.decorrelation_time, -error
