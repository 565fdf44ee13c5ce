"""What learned closures bring inside their solvers, at their price, beside the best classical ways: all the figures.

Each case is an experiment of configs/, walked from the direct simulation to the comparison. What is done is kept in the
directory, so that a second run only reads it. Every figure is a number of couple.json, unseen.json or evaluate.json of
that run, with its 95 % interval over the starts where there is one; the best classical way stands on a line of its own.

    python scripts/bench_closures.py --directory runs/closures --json bench.json
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import provenance
from hpcsurrogate.couple.prices import cheapest_way, classical_ways
from hpcsurrogate.pipeline.runner import run_pipeline

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
Line = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One number beside its aim; `value` is None where the run could not say, `bound` then says what it could."""

    name: str
    value: float | None
    interval: Sequence[float] | None = None
    bound: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the aim is reached; None without one."""
        if self.at_least is not None:
            return self.value is not None and self.value >= self.at_least
        if self.at_most is not None:
            return self.value is not None and self.value <= self.at_most
        return None

    def __str__(self) -> str:
        value = self.bound or "no figure" if self.value is None else f"{self.value:.3g}"
        spread = "" if self.interval is None else f" [{self.interval[0]:.3g}, {self.interval[1]:.3g}]"
        if self.met is None:
            return f"{self.name}: {value}{spread}"
        aim = f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"
        return f"{self.name}: {value}{spread} (aim: {aim}, {'met' if self.met else 'MISSED'})"

    def entry(self) -> dict[str, Any]:
        """The figure as it stands in the JSON file."""
        aim = {"at_least": self.at_least} if self.at_least is not None else {"at_most": self.at_most}
        aims = {} if self.met is None else aim | {"met": self.met}
        interval = None if self.interval is None else list(self.interval)
        return {"name": self.name, "value": self.value, "unit": "-", "interval": interval, "bound": self.bound} | aims


@dataclass(frozen=True)
class Comparison:
    """couple.json of a run, or of an unseen case."""

    content: dict[str, Any]

    @property
    def learned(self) -> Line:
        """The artifact of the experiment itself."""
        return self._named(self.content["learned"])

    @property
    def best_classical(self) -> Line:
        """The classical contender that stays with the flow longest in the same kind of host and grid."""
        return self._named(self.content["best_classical"])

    def kind(self, kind: str) -> Line | None:
        """The first contender with a closure of this kind."""
        return next((line for line in self.content["contenders"] if line["kind"] == kind), None)

    def speed_up_in_host(self) -> float | None:
        """How much more the cheapest way without learning in the same kind of host costs, at any resolution run."""
        learned = self.learned
        same = [line for line in self.content["contenders"] if line["host"]["kind"] == learned["host"]["kind"]]
        return cheapest_way(learned, classical_ways(same))[1]

    def _named(self, name: str) -> Line:
        return next(line for line in self.content["contenders"] if line["name"] == name)


def ratio(above: float | None, below: float | None) -> float | None:
    """Above over below; None where one of them is not known."""
    return above / below if above is not None and below else None


def accuracy_figures(comparison: Comparison) -> Iterator[Figure]:
    """Times to decorrelation and prices of the learned closure and of the best classical contender."""
    for role, line in (("learned", comparison.learned), ("best classical", comparison.best_classical)):
        name = f"{role} ('{line['name']}')"
        yield Figure(f"{name}: time to decorrelation [s]", line["decorrelation_time"], line["decorrelation_interval"])
        yield Figure(f"{name}: cost over the bare host's", line["cost_ratio_time"])
        yield Figure(f"{name}: log-spectrum error", line["spectrum_log_error"])
        yield Figure(f"{name}: similarity", line["similarity"], line["similarity_interval"])


def resolution_figures(comparison: Comparison, aims: dict[str, float]) -> Iterator[Figure]:
    """Effective resolution and speed-up at equal accuracy, over the bare host and over the best classical ways."""
    line = comparison.learned
    points = line["grid"][0]
    for name, key in (
        ("effective resolution over the bare host", "effective_grid"),
        ("effective resolution over the best classical scheme", "effective_grid_of_best_classical"),
    ):
        bound = line[f"{key}_bound"]
        yield Figure(name, ratio(line[key], points), None, bound and f"grid {bound} against {points}", aims.get(name))
    for name, value in (
        ("speed-up at equal accuracy over the bare host", line["speed_up"]),
        ("speed-up at equal accuracy over the cheapest classical way in this host", comparison.speed_up_in_host()),
        ("speed-up at equal accuracy over the cheapest classical way in any host", line["speed_up_over_classical"]),
    ):
        yield Figure(name, value, at_least=aims.get(name))


def forced_2d(paths: RunPaths) -> Iterator[Figure]:
    """Finite-volume host in two dimensions."""
    comparison = Comparison(read_json(paths.coupling))
    yield from accuracy_figures(comparison)
    yield from resolution_figures(
        comparison,
        {
            "effective resolution over the bare host": 5.0,
            "effective resolution over the best classical scheme": 2.0,
            "speed-up at equal accuracy over the bare host": 10.0,
            "speed-up at equal accuracy over the cheapest classical way in this host": 2.0,
        },
    )
    yield from unseen_figures(paths)


def spectral_2d(paths: RunPaths) -> Iterator[Figure]:
    """Spectral host in two dimensions: no room but for the spectra."""
    comparison = Comparison(read_json(paths.coupling))
    yield from accuracy_figures(comparison)
    learned, classical = comparison.learned, comparison.best_classical
    yield Figure(
        "time to decorrelation over the best classical closure's",
        ratio(learned["decorrelation_time"], classical["decorrelation_time"]),
        at_least=1.0,
    )
    yield Figure(
        "log-spectrum error over the best classical closure's",
        ratio(learned["spectrum_log_error"], classical["spectrum_log_error"]),
        at_most=0.6,
    )


def turbulence_3d(paths: RunPaths) -> Iterator[Figure]:
    """Finite-volume host in three dimensions."""
    comparison = Comparison(read_json(paths.coupling))
    yield from accuracy_figures(comparison)
    learned, dynamic = comparison.learned, comparison.kind("dynamic_smagorinsky")
    if dynamic is not None:
        yield Figure(
            "rollout error over dynamic Smagorinsky's",
            ratio(learned["rollout_error"], dynamic["rollout_error"]),
            at_most=0.8,
        )
    yield Figure(
        "rollout error over the best classical closure's",
        ratio(learned["rollout_error"], comparison.best_classical["rollout_error"]),
        at_most=0.85,
    )
    yield from resolution_figures(
        comparison,
        {
            "effective resolution over the best classical scheme": 1.5,
            "speed-up at equal accuracy over the cheapest classical way in this host": 4.0,
        },
    )
    yield from unseen_figures(paths)


def unseen_figures(paths: RunPaths) -> Iterator[Figure]:
    """Similarity on flows that training never saw: of each, the mean and the worst."""
    cases = read_json(paths.unseen)["cases"]
    similarities = []
    for name, content in cases.items():
        line = Comparison(content).learned
        similarities.append(line["similarity"])
        yield Figure(f"unseen, {name}: similarity", line["similarity"], line["similarity_interval"])
    known = [value for value in similarities if value is not None]
    if cases:
        complete = len(known) == len(similarities)
        yield Figure("unseen: mean similarity", sum(known) / len(known) if complete else None, at_least=0.6)
        yield Figure("unseen: worst similarity", min(known) if complete else None, at_least=0.0)


@dataclass(frozen=True)
class Case:
    """An experiment, what makes a smoke test of it, and the figures that are read from its run."""

    quick: tuple[str, ...]
    figures: Callable[[RunPaths], Iterator[Figure]]


SHORT = (
    "simulate.spin_up_coarse=1.0",
    "simulate.spin_up=0.2",
    "simulate.duration=1.2",
    "train.unrolled.iterations=4",
    "train.unrolled.snapshots=[1]",
    "couple.duration=0.6",
    "couple.starts=2",
)
CASES = {
    "deconvolution2d": Case(
        (
            *SHORT,
            "simulate.grid=[64,64]",
            "host.grid=[32,32]",
            "couple.contenders.3.host.grid=[32,32]",
            "couple.contenders.3.ladder=[48]",
            "couple.contenders.4.host.grid=[32,32]",
            "couple.contenders.4.ladder=[]",
            "couple.ladder=[48]",
        ),
        forced_2d,
    ),
    "calibrated2d": Case((*SHORT, "simulate.grid=[96,96]", "couple.contenders.1.ladder=[64]"), spectral_2d),
    "turbulence3d": Case(
        (
            *SHORT,
            "flow.viscosity=0.02",
            "simulate.grid=[32,32,32]",
            "host.grid=[16,16,16]",
            "couple.contenders.9.host.grid=[16,16,16]",
            "couple.contenders.9.ladder=[24]",
            "couple.contenders.10.host.grid=[16,16,16]",
            "couple.contenders.10.ladder=[]",
            "couple.ladder=[24]",
        ),
        turbulence_3d,
    ),
}


def run_case(name: str, case: Case, directory: Path, quick: bool) -> list[Figure]:
    """Walk the experiment, as far as that is not done, and read its figures."""
    run_dir = directory / (f"{name}-quick" if quick else name)
    overrides = [*(case.quick if quick else ()), f"run_dir={run_dir}"]
    run_pipeline(CONFIGS / f"{name}.yaml", overrides)
    return list(case.figures(RunPaths(run_dir)))


def run_bench(options: argparse.Namespace) -> int:
    """Run all cases, print their figures, write them; 0 if every aim is met."""
    entries, missed = [], 0
    for name in options.only or CASES:
        print(f"\n{name}", flush=True)
        for figure in run_case(name, CASES[name], options.directory, options.quick):
            print(f"  {figure}", flush=True)
            entries.append(figure.entry() | {"name": f"{name}: {figure.name}"})
            missed += figure.met is False
    if options.json is not None:
        write_json_atomic(options.json, {"figures": entries, "machine": provenance()})
    print(f"\n{missed} of {sum('met' in entry for entry in entries)} aims missed")
    return 1 if missed and not options.quick else 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Learned closures in their solvers beside the best classical ways.")
    parser.add_argument("--quick", action="store_true", help="small sizes, whose figures mean nothing: a smoke test")
    parser.add_argument("--only", action="append", choices=list(CASES), help="this case alone; may be given again")
    parser.add_argument("--directory", type=Path, default=Path("runs/closures"), help="where the runs are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(run_bench(parse()))
    except HpcsurrogateError as error:
        print(f"bench_closures: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
