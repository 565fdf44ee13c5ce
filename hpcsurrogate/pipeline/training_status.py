"""How far a training has come, from the files that it writes: read while it runs, by anybody who may read them."""

import json
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.train.attempts import read_attempt

RECENT = 200  # steps whose median time tells how long one takes now
_CHECKPOINT = re.compile(r"step-(\d+)")


def training_lines(experiment: Experiment, paths: RunPaths, finished: bool) -> list[str]:
    """What there is to say of a training that began; empty if none did.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths
    finished : bool    whether it has come to its end, so that no time is left

    Returns
    -------
    list of str    step, losses, time left, newest checkpoint, requeues: a line for each that is known

    Raises
    ------
    DataError    if attempts.json is damaged
    """
    records = read_records(paths.metrics)
    lines = [_last_step(records, paths.metrics)] if records else []
    if records and not finished:
        lines.append(_time_left(records, experiment, paths))
    checkpoints = _checkpoint_steps(paths.checkpoints)
    if checkpoints:
        newest = max(checkpoints)
        lines.append(f"checkpoint  step {newest}, {_age(checkpoints[newest])} ago; {len(checkpoints)} kept")
    attempt = read_attempt(paths)
    if attempt is not None:
        stuck = f", {attempt['without_progress']} in a row without progress" if attempt["without_progress"] else ""
        lines.append(f"requeues    {attempt['requeues']} of job {attempt['job']}{stuck}")
    return lines


def read_records(metrics: Path) -> list[dict[str, Any]]:
    """The objects of metrics.jsonl; a last line that is just being written is left out."""
    if not metrics.exists():
        return []
    records = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


@dataclass(frozen=True)
class PlannedPhase:
    """A phase of training and the steps that it takes if it does not stop early."""

    name: str
    num_steps: int


def planned_phases(experiment: Experiment, paths: RunPaths) -> list[PlannedPhase]:
    """The phases that this experiment asks for, by the number of snapshots that are prepared.

    Raises
    ------
    DataError    if the catalogue of prepared/ is damaged or missing

    Notes
    -----
    The same numbers as the training's own (tests/unit/pipeline/test_status.py).
    """
    from hpcsurrogate.data.catalogue import Catalogue  # here, because it loads HDF5

    train = experiment.train
    filters = [0]
    if "filter_width" in getattr(train.model, "scalars", ()):
        filters += range(1, len(experiment.prepare.more_filters) + 1)
    num_samples = 0
    for number in filters:
        catalogue = Catalogue.read(paths.prepared_through(number))
        num_samples += sum(catalogue.entry(realisation).num_snapshots for realisation in experiment.prepare.split.train)
    steps_per_epoch = -(-num_samples // train.apriori.batch_size)
    return [
        PlannedPhase("apriori", train.apriori.epochs * steps_per_epoch),
        PlannedPhase("unrolled", train.unrolled.iterations),
    ]


def _last_step(records: list[dict[str, Any]], metrics: Path) -> str:
    last = records[-1]
    phase = [record for record in records if record["phase"] == last["phase"]]
    validations = [record["validation_loss"] for record in phase if record.get("validation_loss") is not None]
    loss = "not finite" if last.get("loss") is None else f"{last['loss']:.5g}"
    text = f"last step   {last['step']}, phase {last['phase']}, {_age(metrics.stat().st_mtime)} ago; loss {loss}"
    if validations:
        text += f", validation loss {validations[-1]:.5g}, best {min(validations):.5g}"
    return text


def _time_left(records: list[dict[str, Any]], experiment: Experiment, paths: RunPaths) -> str:
    try:
        phases = planned_phases(experiment, paths)
    except DataError as error:  # such as that prepare is being done anew
        return f"time left   not known: {error}"
    name = records[-1]["phase"]
    steps = [record for record in records if record["phase"] == name]
    position = [phase.name for phase in phases].index(name)
    left = max(0, phases[position].num_steps - len(steps))
    seconds = statistics.median(record["seconds"] for record in steps[-RECENT:])
    text = f"time left   {_duration(left * seconds)} for the {left} steps left of this phase at {seconds:.3g} s each"
    later = [f"{phase.num_steps} steps of phase {phase.name}" for phase in phases[position + 1 :] if phase.num_steps]
    return ", then ".join([text, *later]) + "; less if it stops early"


def _checkpoint_steps(folder: Path) -> dict[int, float]:
    """Step -> time of its manifest, of each checkpoint that is there now; one may vanish while we look."""
    steps = {}
    for path in folder.glob("step-*/manifest.json"):
        match = _CHECKPOINT.fullmatch(path.parent.name)
        try:
            modified = path.stat().st_mtime
        except FileNotFoundError:
            continue
        if match:
            steps[int(match[1])] = modified
    return steps


def _age(moment: float) -> str:
    return _duration(max(0.0, time.time() - moment))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
