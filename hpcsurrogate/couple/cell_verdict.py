"""Who is closest to the fine run: the learned closure or one of the models that a coarse solver has anyway."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcsurrogate.core.config_cells import LEARNED
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.couple.cell_profiles import Moments, Places, Scores

JUDGED = "velocity"  # the error that decides; the others are reported beside it
WHAT = {"velocity": "mean velocity", "stress": "Reynolds stresses", "wall_stress": "wall shear stress"}


@dataclass(frozen=True)
class CoarseRun:
    """What one run left behind.

    Attributes
    ----------
    moments : Moments or None             None if it failed
    seconds_per_step : float or None      of the processor
    fallback_share : float or None        of the cells that the guard kept from the network; None for other models
    failed : str or None                  why it did not come to its end
    """

    moments: Moments | None
    seconds_per_step: float | None
    fallback_share: float | None
    failed: str | None


def judge(runs: dict[str, CoarseRun], reference: Moments, places: Places) -> dict[str, Any]:
    """Score all runs beside the fine one.

    Parameters
    ----------
    runs : dict            model -> run, `learned` among them
    reference : Moments    of the fine run, averaged onto the coarse mesh
    places : Places

    Returns
    -------
    dict    content of couple.json: `verdict`, `helped` (closer in the mean velocity than the best other model, beyond
            noise), `best_classical`, `cost_ratio` (of a step, to that model's), and for every model errors with
            intervals, cost and profile

    Raises
    ------
    DataError    if no model but the learned one came to its end
    """
    finished = {name: run.moments for name, run in runs.items() if run.moments is not None}
    others = [name for name in finished if name != LEARNED]
    if not others:
        failure = next(run.failed for name, run in runs.items() if name != LEARNED)
        raise DataError(f"no model but the learned one came to its end: {failure}")
    scores = Scores.of(finished, reference, places.of_places)
    best = min(others, key=lambda name: scores.errors[name][JUDGED])
    of_models = {name: _of_run(name, run, scores) for name, run in runs.items()}
    outcome = {
        "best_classical": best,
        "models": of_models,
        "reference": _as_lists(reference) | {"noise": scores.noise, "times": len(reference.first)},
        "places": {"centre": places.centre.tolist(), "volume": places.of_places.tolist()},
    }
    if LEARNED not in finished:
        verdict = f"The learned closure failed in the coarse run: {runs[LEARNED].failed}"
        return outcome | {"verdict": verdict, "helped": False, "cost_ratio": None}
    cost_ratio = runs[LEARNED].seconds_per_step / runs[best].seconds_per_step
    low, high = scores.difference(LEARNED, best, JUDGED)
    return outcome | {
        "verdict": _verdict(scores, best, (low, high), cost_ratio),
        "helped": high < 0,
        "difference": {"to": best, "interval": [low, high]},
        "cost_ratio": cost_ratio,
    }


def _of_run(name: str, run: CoarseRun, scores: Scores) -> dict[str, Any]:
    if run.moments is None:
        return {"failed": run.failed}
    errors = {
        error: {"value": value, "interval": list(scores.interval(name, error))}
        for error, value in scores.errors[name].items()
    }
    cost = {"seconds_per_step": run.seconds_per_step, "fallback_share": run.fallback_share}
    return {"errors": errors, "times": len(run.moments.first)} | cost | _as_lists(run.moments)


def _as_lists(moments: Moments) -> dict[str, Any]:
    profile = moments.profile()
    values = {"velocity": profile.velocity, "stress": profile.stress, "wall_stress": profile.wall}
    return {"profile": {name: np.asarray(value).tolist() for name, value in values.items()}}


def _verdict(scores: Scores, best: str, difference: tuple[float, float], cost_ratio: float) -> str:
    listed = ", ".join(f"{name} {100 * errors[JUDGED]:.2f} %" for name, errors in scores.errors.items())
    low, high = difference
    if high < 0:
        outcome = f"The learned closure is closer than the best of the others, {best}"
    elif low > 0:
        outcome = f"The learned closure lost: {best} is closer"
    else:
        outcome = f"The learned closure and {best} cannot be told apart"
    beside = ", ".join(
        f"{WHAT[name]} {100 * scores.errors[LEARNED][name]:.1f} % against {100 * scores.errors[best][name]:.1f} %"
        for name in WHAT
        if name != JUDGED
    )
    return (
        f"In coarse runs the mean velocity is off that of the fine run by: {listed}; the fine run's own noise is "
        f"{100 * scores.noise[JUDGED]:.2f} %. {outcome} (difference {100 * low:.2f} to {100 * high:.2f} %); {beside}. "
        f"A step costs {cost_ratio:.2f} times that with {best}."
    )
