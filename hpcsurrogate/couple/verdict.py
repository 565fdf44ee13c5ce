"""The answer in plain words: did the learned closure help, against what, and at what price.

Works on the lines of couple.json (one dictionary per contender), so that it can be read beside that file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcsurrogate.couple.bootstrap import ENOUGH_REALISATIONS, bootstrap_weights, interval

Line = dict[str, Any]

# Share of the cells from which on the verdict says that a host with the guard would have run differently.
NOTABLE_FALLBACK = 1e-3
RELATIONS = {">": "more than", ">=": "at least", "<": "fewer than"}


@dataclass(frozen=True)
class Margin:
    """How much longer than its best rival the learned closure stays with the flow, start by start."""

    rival: str
    time: float  # mean over the starts [s]
    interval: tuple[float, float]  # bootstrap 95 % [s]


@dataclass(frozen=True)
class Judgement:
    """The lines that matter and what follows from them."""

    sentence: str
    helped: bool
    margin: Margin | None
    bare: Line
    best_classical: Line | None
    learned: Line | None


@dataclass(frozen=True)
class Circumstances:
    """What the numbers of the sentence depend on."""

    threshold: float  # correlation [-]
    realisations: tuple[int, ...]  # that each start is in


def judge(lines: Sequence[Line], circumstances: Circumstances) -> Judgement:
    """Decide whether the learned closure helped, and say so.

    It helped if all its runs stayed finite, also when they were carried on, and it clearly stays with the flow longer
    than the best rival in the same kind of host on the same grid: no closure, or the best classical contender, a host
    of higher order included. Clearly is where the interval of the difference over the same starts lies above zero: what
    makes a start hard is hard for both, so that the ends of their own intervals tell neither that they differ nor that
    they do not.

    Parameters
    ----------
    lines : sequence of dict    contenders as in couple.json
    circumstances : Circumstances

    Notes
    -----
    Every outcome has a test (tests/unit/couple/test_verdict.py).
    """
    bare = next(line for line in lines if line["role"] == "bare")
    best_classical = find_best_classical(lines, bare)
    learned_lines = _learned_lines(lines)
    if not learned_lines:
        sentence = "No learned closure was among the contenders. " + _classical_sentence(bare, best_classical)
        return Judgement(sentence, False, None, bare, best_classical, None)
    learned = max(learned_lines, key=_merit)
    rival = max((line for line in (bare, best_classical) if line), key=lambda line: line["decorrelation_time"])
    margin = find_margin(learned, rival, circumstances.realisations)
    helped = learned["stable"] and _blow_up_later(learned) is None and margin.interval[0] > 0
    parts = [
        _opening(learned, rival, margin, helped, circumstances),
        _against(learned, bare, best_classical),
        _price(learned, bare, lines),
        _better_elsewhere(lines, learned),
        _beyond_training(learned),
        _caution(learned, circumstances),
    ]
    return Judgement(" ".join(part for part in parts if part), helped, margin, bare, best_classical, learned)


def _learned_lines(lines: Sequence[Line]) -> list[Line]:
    """The experiment's own artifact; others only where that is not among the contenders."""
    learned = [line for line in lines if line["role"] == "learned" and line["ladder_of"] is None]
    return [line for line in learned if line["own_artifact"]] or learned


def find_best_classical(lines: Sequence[Line], bare: Line) -> Line | None:
    """Return the classical contender that stays with the flow longest in the bare host's kind of host and grid.

    One that blew up is taken only if all did. None if there is no classical contender on that grid.
    """
    candidates = [
        line
        for line in lines
        if line["role"] == "classical" and line["grid"] == bare["grid"] and line["host"]["kind"] == bare["host"]["kind"]
    ]
    return max(candidates, key=_merit, default=None)


def find_margin(learned: Line, rival: Line, realisations: Sequence[int]) -> Margin:
    """Bootstrap the difference of two times to decorrelation over the same starts, whose realisations are given.

    A difference that all starts share has an interval of no width (tests/unit/couple/test_verdict.py).
    """
    longer = np.subtract(learned["decorrelation_times"], rival["decorrelation_times"])
    return Margin(rival["name"], float(longer.mean()), interval(bootstrap_weights(realisations) @ longer))


def _blow_up_later(line: Line) -> float | None:
    """When a run blew up that was finite as long as it was compared [s]."""
    return (line["endurance"] or {}).get("blow_up_time")


def _merit(line: Line) -> tuple[bool, float]:
    return line["stable"], line["decorrelation_time"]


def _opening(learned: Line, rival: Line, margin: Margin, helped: bool, circumstances: Circumstances) -> str:
    low, high = learned["decorrelation_interval"]
    realisations = circumstances.realisations
    starts = f"{_number(len(realisations), 'start')} in {_number(len(set(realisations)), 'realisation')}"
    measured = (
        f"on {_grid(learned)} it keeps the vorticity correlation above {circumstances.threshold:g} "
        f"for {_time(learned)} (95 % interval {low:.3g} to {high:.3g}, {starts})"
    )
    least, most = margin.interval
    difference = f"{margin.time:.3g} s, {least:.3g} to {most:.3g}, from the same starts"
    if helped:
        return f"The learned closure helped: {measured}, longer than '{rival['name']}' by {difference}."
    if not learned["stable"]:
        blow_up = f"a run with it blew up at {learned['blow_up_time']:.3g} s"
        return f"The learned closure did not help: {blow_up}; {measured}."
    if (later := _blow_up_later(learned)) is not None:
        return f"The learned closure did not help: carried on, a run with it blew up at {later:.3g} s; {measured}."
    if learned["decorrelation_time"] > rival["decorrelation_time"]:
        reason = f"that is not clearly longer than '{rival['name']}' ({_time(rival)}): by {difference}"
    else:
        reason = f"'{rival['name']}' in the same kind of host does as well or better ({_time(rival)})"
    return f"The learned closure did not help: {measured}, and {reason}."


def _against(learned: Line, bare: Line, best_classical: Line | None) -> str:
    no_model = f"Without a closure the same host reaches {_time(bare)}"
    if best_classical is None:
        return f"{no_model}; no classical closure was run in it."
    return (
        f"{no_model}, with the best classical contender, '{best_classical['name']}'{_constant(best_classical)}, "
        f"{_time(best_classical)} at {best_classical['cost_ratio_time']:.3g} times the bare host's cost."
    )


def _price(learned: Line, bare: Line, lines: Sequence[Line]) -> str:
    price = (
        f"It costs {learned['cost_ratio_time']:.3g} times the bare host's time "
        f"({learned['cost_ms_per_time_unit']:.3g} ms a simulated second against {bare['cost_ms_per_time_unit']:.3g} ms)"
    )
    if learned["effective_grid"] is None:
        relation, points = learned["effective_grid_bound"].split()
        need = f"{price}; to be as accurate the bare host would need {RELATIONS[relation]} {points} points along x"
        rung = next((line for line in lines if line["role"] == "ladder" and line["grid"][0] == int(points)), None)
        if rung is None:
            return f"{need}."
        ratio = rung["cost_ratio_time"] / learned["cost_ratio_time"]
        return f"{need}, and on {points} it costs {ratio:.3g} times as much."
    comparison = f"{learned['speed_up']:.3g} times as much"
    if learned["speed_up"] < 1:
        comparison = f"only {comparison}, so that the learned closure does not pay"
    return (
        f"{price}; to be as accurate the bare host needs about {learned['effective_grid']:.0f} points along x, "
        f"where it costs {comparison}."
    )


def _better_elsewhere(lines: Sequence[Line], learned: Line) -> str:
    """Name the best of the contenders that are more accurate than the learned closure, and the best bargain."""
    others = [
        line for line in lines if line["role"] in ("bare", "classical") and line["stable"] and line["ladder_of"] is None
    ]
    accurate = [line for line in others if line["decorrelation_time"] > learned["decorrelation_time"]]
    own_value = 1.0 if learned["speed_up"] is None else max(learned["speed_up"], 1.0)
    bargains = [line for line in others if line["speed_up"] is not None and line["speed_up"] > own_value]
    sentences = []
    if accurate:
        best = max(accurate, key=lambda line: line["decorrelation_time"])
        sentences.append(
            f"{len(accurate)} of {len(others)} other contenders stayed with the flow longer, longest '{best['name']}' "
            f"({_time(best)}, at {best['cost_ratio_time']:.3g} times the bare host's cost)."
        )
    if bargains:
        best = max(bargains, key=lambda line: line["speed_up"])
        sentences.append(
            f"The best bargain is '{best['name']}': {_time(best)}, {best['speed_up']:.3g} times cheaper than the bare "
            f"host on the {best['effective_grid']:.0f} points along x that are as accurate."
        )
    return " ".join(sentences)


def _beyond_training(learned: Line) -> str:
    if learned["fallback_fraction"] < NOTABLE_FALLBACK:
        return ""
    return (
        f"{100 * learned['fallback_fraction']:.2g} % of the cells in its runs were beyond what it was trained on, "
        "where a host that keeps the guard gets the artifact's classical closure instead."
    )


def _caution(learned: Line, circumstances: Circumstances) -> str:
    num_realisations = len(set(circumstances.realisations))
    sentences = []
    if learned["reached_end"]:
        sentences.append("Some of its runs outlasted couple.duration: a longer one would tell more.")
    if len(circumstances.realisations) == 1:
        sentences.append("One start says nothing about the spread.")
    elif num_realisations < ENOUGH_REALISATIONS:
        few = _number(num_realisations, "realisation")
        sentences.append(f"From no more than {few} the intervals look surer than they are.")
    return " ".join(sentences)


def _classical_sentence(bare: Line, best_classical: Line | None) -> str:
    if best_classical is None:
        return f"The host without a closure follows filtered DNS for {_time(bare)}."
    return (
        f"The best classical contender, '{best_classical['name']}'{_constant(best_classical)}, follows filtered DNS "
        f"for {_time(best_classical)}, no closure for {_time(bare)}."
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def _time(line: Line) -> str:
    return f"{'at least ' if line['reached_end'] else ''}{line['decorrelation_time']:.3g} s"


def _constant(line: Line) -> str:
    return "" if line["constant"] is None else f" (constant {line['constant']:.3g})"


def _grid(line: Line) -> str:
    return " x ".join(str(n) for n in line["grid"])
