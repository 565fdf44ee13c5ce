"""Which keys of an experiment may be searched over, and how the values of a trial become overrides."""

import difflib
import json
from collections.abc import Mapping
from typing import Any

from hpcsurrogate.core.config import Experiment, Train, Tune
from hpcsurrogate.core.config_jobs import Choices, Range
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.study.runs import changed_experiment

Value = str | int | float | bool
Values = dict[str, Value]  # key of the experiment -> value of a trial

# They name, place or launch a run, or are the search itself.
NOT_SEARCHED = frozenset({"name", "run_dir", "seed", "ranks", "threads_per_rank", "tune", "slurm"})


def check_parameters(experiment: Experiment, tune: Tune) -> None:
    """Check that every key of `tune.parameters` exists, that its ends are allowed, and that trials can be compared.

    Parameters
    ----------
    experiment : Experiment
    tune : Tune            its section `tune`

    Raises
    ------
    ConfigError    naming the key: it does not exist (with the nearest one that does), changes nothing of the result,
                   takes a value that the experiment may not have, or changes what the objective measures, such as the
                   split of the data (tests/unit/study/test_tune_keys.py)
    """
    known = flatten(experiment)
    for key, space in tune.parameters.items():
        place = f"tune.parameters: {key}"
        if key.split(".")[0] in NOT_SEARCHED or key.removeprefix("train.") in Train.OPERATIONAL:
            raise ConfigError(f"{place}: says how a run is done, not what is trained; leave it out")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{place}: is no single value of this experiment; did you mean '{near}'?")
        for value in ends(space):
            try:
                changed = changed_experiment(experiment, overrides({key: value}))
            except ConfigError as error:
                raise ConfigError(f"{place}: {json.dumps(value)} cannot be: {error}") from None
            _require_comparable(place, value, _measured(experiment, tune), _measured(changed, tune), tune)


def ends(space: Range | Choices) -> tuple[Value, ...]:
    """Both ends of a range, or all choices."""
    return space.choices if isinstance(space, Choices) else (space.low, space.high)


def overrides(values: Mapping[str, Value]) -> list[str]:
    """The values as `key=value` of the command line; JSON is what the experiment file's YAML reads back unchanged."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def flatten(experiment: Experiment) -> dict[str, Any]:
    """Every single value of an experiment by its key, such as `couple.contenders.0.name`; None for what is not set."""
    found: dict[str, Any] = {}

    def walk(path: str, content: Any) -> None:
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in items:
            if isinstance(value, (dict, list)):
                walk(f"{path}{key}.", value)
            else:
                found[f"{path}{key}"] = value

    walk("", experiment.model_dump(mode="json"))
    return found


def last_phase(experiment: Experiment) -> str:
    """Name of the phase that ends a training, as in metrics.jsonl."""
    return "unrolled" if experiment.train.unrolled.iterations else "apriori"


def _measured(experiment: Experiment, tune: Tune) -> dict[str, Any]:
    """What the objective means: equal in all trials, or their numbers cannot be compared."""
    measured = {
        "the flow": experiment.flow,
        "the fine data": experiment.simulate,
        "prepare.split": experiment.prepare.split,
        "the comparison": experiment.couple,
    }
    if tune.objective == "aposteriori":
        return measured
    measured |= {"the host": experiment.host, "the pairs": experiment.prepare, "the last phase": last_phase(experiment)}
    if last_phase(experiment) == "apriori":
        return measured | {"the validated target": experiment.train.apriori.target}
    return measured | {"the validated length": max(experiment.train.unrolled.snapshots)}


def _require_comparable(place: str, value: Value, before: dict[str, Any], after: dict[str, Any], tune: Tune) -> None:
    for what, content in before.items():
        if after.get(what) != content:
            way_out = "leave it out" + (", or set tune.objective: aposteriori" if tune.objective == "apriori" else "")
            raise ConfigError(f"{place}: {value} changes {what}, so trials could not be compared; {way_out}")
