"""Figures of a comparison, an unseen case, a training or a long run, each beside its aim if it has one.

Read from couple.json, unseen.json and metrics.jsonl of a run directory; scripts/bench_closures.py prints them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hpcsurrogate.core.atomic import read_json
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.couple.prices import cheapest_way, classical_ways
from hpcsurrogate.couple.stability import LongRun, RecordNoise

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
    def bare(self) -> Line:
        """The host without a closure."""
        return next(line for line in self.content["contenders"] if line["role"] == "bare")

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


def price_figure(line: Line, bare: Line) -> Figure:
    """What the closure costs in right-hand sides of its host, which calls it once for each."""
    per_step = line["cost_ms_per_time_unit"] * line["host"]["time_step"]
    bare_per_step = bare["cost_ms_per_time_unit"] * bare["host"]["time_step"]
    return Figure(
        "cost of the learned closure in right-hand sides of its host", per_step / bare_per_step - 1, at_most=1.0
    )


def forced_2d(paths: RunPaths) -> Iterator[Figure]:
    """Finite-volume host in two dimensions."""
    comparison = Comparison(read_json(paths.coupling))
    yield from accuracy_figures(comparison)
    yield price_figure(comparison.learned, comparison.bare)
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
    yield price_figure(comparison.learned, comparison.bare)
    learned = comparison.learned
    yield over_dynamic("rollout error over dynamic Smagorinsky's", comparison)
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


def over_dynamic(name: str, comparison: Comparison) -> Figure:
    """Rollout error of the learned closure over that of dynamic Smagorinsky."""
    dynamic = comparison.kind("dynamic_smagorinsky")
    errors = [line and line["rollout_error"] for line in (comparison.learned, dynamic)]
    return Figure(name, ratio(*errors), at_most=0.8)


def unseen_figures(paths: RunPaths) -> Iterator[Figure]:
    """Similarity on flows that training never saw: of each, the mean and the worst; more of other viscosities."""
    cases = read_json(paths.unseen)["cases"]
    similarities = []
    for name, content in cases.items():
        comparison = Comparison(content)
        line = comparison.learned
        similarities.append(line["similarity"])
        yield Figure(f"unseen, {name}: similarity", line["similarity"], line["similarity_interval"])
        if name.endswith("viscosity"):
            yield over_dynamic(f"unseen, {name}: rollout error over dynamic Smagorinsky's", comparison)
            error = line["dissipation_error"]
            yield Figure(f"unseen, {name}: error of dissipation", error and abs(error), at_most=0.1)
    known = [value for value in similarities if value is not None]
    if cases:
        complete = len(known) == len(similarities)
        yield Figure("unseen: mean similarity", sum(known) / len(known) if complete else None, at_least=0.6)
        yield Figure("unseen: worst similarity", min(known) if complete else None, at_least=0.0)


def stress_figures(paths: RunPaths) -> Iterator[Figure]:
    """A-priori errors of the stress beside the least of any closure that sees one point."""
    content = read_json(paths.evaluation)
    errors = {line["name"]: line["relative_error_stress"] for line in content["closures"]}
    floor = content["one_point_floor"]["relative_error_stress"]
    yield Figure("error of the stress: learned", errors["learned"])
    yield Figure("error of the stress: gradient model", errors["gradient 2"])
    yield Figure("error of the stress: any closure of one point, at least", floor)
    yield Figure("error of the stress over the one-point floor", ratio(errors["learned"], floor), at_most=0.85)


def sharp_figures(paths: RunPaths, at_least: float) -> Iterator[Figure]:
    """A-priori correlations of the stress through a sharp cut-off."""
    content = read_json(paths.evaluation)
    lines = {line["name"]: line for line in content["closures"]}
    for name in ("gradient 2", "gradient 4"):
        yield Figure(f"correlation of the stress: {name}", lines[name]["correlation_stress"])
    floor = content["one_point_floor"]["correlation_stress"]
    yield Figure("correlation of the stress: the best closure of one point", floor)
    yield Figure("correlation of the SGS force: learned", lines["learned"]["correlation_sgs_force"])
    yield Figure("correlation of the stress: learned", lines["learned"]["correlation_stress"], at_least=at_least)


def force_figures(paths: RunPaths) -> Iterator[Figure]:
    """A-priori errors of the SGS force beside those of the gradient model."""
    errors = {line["name"]: line["relative_error_sgs_force"] for line in read_json(paths.evaluation)["closures"]}
    for name in ("learned", "gradient 2", "gradient 4"):
        yield Figure(f"error of the SGS force: {name}", errors[name])
    learned = errors["learned"]
    yield Figure("error of the SGS force over the gradient model's", ratio(learned, errors["gradient 2"]), at_most=0.75)
    yield Figure("error of the SGS force over that of fourth order", ratio(learned, errors["gradient 4"]))


def training_figures(paths: RunPaths) -> Iterator[Figure]:
    """How soon the validation error of the last phase is within 2 % of where it ends."""
    lines = [json.loads(text) for text in paths.metrics.read_text().splitlines()]
    last = [line for line in lines if line["phase"] == lines[-1]["phase"]]
    elapsed, validated = 0.0, []
    for line in last:
        elapsed += line["seconds"]
        if "validation_loss" in line:
            validated.append((elapsed, line["validation_loss"]))
    soon = next(seconds for seconds, loss in validated if loss <= 1.02 * validated[-1][1])
    yield Figure("training until the validation error is within 2 % of its last [s]", soon, at_most=300.0)


def long_figures(run: LongRun, noise: RecordNoise, num_starts: int) -> Iterator[Figure]:
    """Of a long run: is it there at the end, and are the statistics those of the record?"""
    name = f"{num_starts} starts, {run.steps} steps each"
    yield Figure(f"{name}: all finite", float(run.finite), at_least=1.0)
    error = run.energy_error
    spread = None if error is None else (error - 2 * noise.energy, error + 2 * noise.energy)
    yield Figure(
        f"{name}: error of energy (interval: of the record's mean)", error and abs(error), spread, at_most=0.05
    )
    yield Figure(f"{name}: log-spectrum error", run.spectrum_log_error, at_most=0.05)
    yield Figure("noise of the spectrum that it is held against", noise.spectrum)
