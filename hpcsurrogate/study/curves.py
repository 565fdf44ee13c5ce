"""Validation losses of a training as it goes, and the rule by which a trial is given up."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

# Fewer say nothing of a median, or of where a training is going.
SMALLEST_FIELD = 4
FIRST_COMPARED = 3


def read_curve(metrics: Path, phase: str) -> list[float]:
    """Validation losses of one phase in the order of their steps, from a file that may grow meanwhile.

    Parameters
    ----------
    metrics : Path    metrics.jsonl; may be missing
    phase : str       apriori or unrolled

    Returns
    -------
    list of float [-]    of a step that was done twice, because training went back to a checkpoint, the later one
    """
    losses: dict[int, float] = {}
    try:
        lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    for line in lines:
        if '"validation_loss"' not in line or not line.endswith("\n"):
            continue
        record = json.loads(line)
        if record["phase"] == phase:
            losses[record["step"]] = record["validation_loss"]
    return [losses[step] for step in sorted(losses)]


def falls_behind(curve: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Whether a trial is worse than the median of the others after as many validations, each by its best so far.

    Parameters
    ----------
    curve : sequence of float      of the trial, so far
    others : sequence of curves    of complete trials; those that ended earlier count with their best

    Returns
    -------
    bool    False before FIRST_COMPARED validations, and with fewer than SMALLEST_FIELD others
            (tests/unit/study/test_curves.py)
    """
    count, others = len(curve), [other for other in others if other]
    if count < FIRST_COMPARED or len(others) < SMALLEST_FIELD:
        return False
    return min(curve) > statistics.median(min(other[:count]) for other in others)
