"""How training scales: the same batch on more ranks (strong), and batches that grow with the ranks (weak)."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import provenance
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.pipeline.consistency import check_consistency
from hpcsurrogate.pipeline.lock import run_lock
from hpcsurrogate.pipeline.records import why_stale
from hpcsurrogate.study.children import StopSignals
from hpcsurrogate.study.runs import DATA_STAGES
from hpcsurrogate.study.scaling_figure import write_scaling_figure
from hpcsurrogate.study.scaling_runs import Measurement, time_steps
from hpcsurrogate.study.tune_keys import last_phase

HEADER = f"{'ranks':>7}{'batch':>7}{'ms a step':>11}{'samples/s':>11}{'efficiency':>12}"
OVERSUBSCRIBED = "  more threads than cores: they wait for each other"


def measure_scaling(
    file: str | Path,
    overrides: Sequence[str],
    ranks: Sequence[int],
    steps: int,
    say: Callable[[str], None] = print,
) -> None:
    """Measure strong and weak scaling of an experiment's training, print two tables, write scaling.json and the figure.

    Each point is a real training of a few steps of the last phase, on the prepared data of the experiment.

    Parameters
    ----------
    file : str or Path            YAML file
    overrides : sequence of str   `section.key=value`
    ranks : sequence of int       numbers of ranks; the smallest is what the others are compared with
    steps : int [-]               measured on each
    say : callable                receives the lines of the tables

    Raises
    ------
    ConfigError          if a number is not positive, ranks do not divide the batch, the engine knows one rank only, or
                         matplotlib is not installed
    DataError            if the data are not prepared
    HpcsurrogateError    if a training fails: of its class, with what it said last
    """
    experiment = load_experiment(file, overrides)
    check_consistency(experiment)
    numbers, paths = sorted(set(ranks)), RunPaths(experiment.run_dir)
    _require_possible(experiment, numbers, steps)
    with run_lock(paths):
        _require_data(experiment, paths)
        strong, weak = _measure(experiment, paths, numbers, steps)
        content = _content(experiment, strong, weak)
        write_json_atomic(paths.run_dir / "scaling.json", content)
        write_scaling_figure(content, paths.figures / "scaling.png")
    for line in tables(content):
        say(line)
    say(f"written: {paths.run_dir / 'scaling.json'}, {paths.figures / 'scaling.png'}")


def available_cores() -> int:
    """Cores that this process may use, times the nodes of the job if SLURM runs it."""
    return len(os.sched_getaffinity(0)) * int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))


def points(measurements: Sequence[Measurement], threads: int, cores: int) -> list[dict[str, Any]]:
    """Efficiency of each measurement against the first: samples a second and rank, over those of the first.

    Returns
    -------
    list of dict    ranks, batch_size, step_seconds (median), step_seconds_quartiles, samples_per_second,
                    efficiency [-]: t1 n1 / (t n) for equal batches, t1 / t if they grow with the ranks n
                    (tests/unit/study/test_scaling.py), oversubscribed: whether ranks x threads exceed the cores
    """
    first = measurements[0].samples_per_second / measurements[0].ranks
    return [
        {
            "ranks": measured.ranks,
            "batch_size": measured.batch_size,
            "step_seconds": measured.median,
            "step_seconds_quartiles": np.quantile(measured.seconds, [0.25, 0.75]).tolist(),
            "samples_per_second": measured.samples_per_second,
            "efficiency": measured.samples_per_second / measured.ranks / first,
            "oversubscribed": measured.ranks * threads > cores,
        }
        for measured in measurements
    ]


def tables(content: dict[str, Any]) -> list[str]:
    """The lines that are printed of scaling.json's content."""
    lines = [
        f"phase {content['phase']}, engine {content['engine']}, median of {content['steps']} steps, "
        f"{content['threads_per_rank']} thread(s) a rank, {content['cores']} cores"
    ]
    for kind, title in (("strong", "strong scaling: the same batch"), ("weak", "weak scaling: the same share a rank")):
        lines += ["", title, HEADER]
        for point in content[kind]:
            row = f"{point['ranks']:>7}{point['batch_size']:>7}{1e3 * point['step_seconds']:>11.2f}"
            row += f"{point['samples_per_second']:>11.1f}{point['efficiency']:>11.0%} "
            lines.append(row + (OVERSUBSCRIBED if point["oversubscribed"] else ""))
    return lines


def _measure(
    experiment: Experiment, paths: RunPaths, numbers: Sequence[int], steps: int
) -> tuple[list[Measurement], list[Measurement]]:
    """Measurements of both kinds, smallest number of ranks first; the first is the same training."""
    batch = _batch_size(experiment)
    jobs = {(ranks, size) for ranks in numbers for size in (batch, batch * ranks // numbers[0])}
    with StopSignals() as stop:
        measured = {
            (ranks, size): time_steps(experiment, paths.run_dir / ".scaling", ranks, size, steps, stop)
            for ranks, size in sorted(jobs)
        }
    weak = [measured[ranks, batch * ranks // numbers[0]] for ranks in numbers]
    return [measured[ranks, batch] for ranks in numbers], weak


def _content(experiment: Experiment, strong: Sequence[Measurement], weak: Sequence[Measurement]) -> dict[str, Any]:
    threads, cores = experiment.threads_per_rank, available_cores()
    return {
        "phase": last_phase(experiment),
        "engine": experiment.train.engine,
        "exact": experiment.train.exact,
        "device": experiment.train.device,
        "steps": len(strong[0].seconds),
        "threads_per_rank": threads,
        "cores": cores,
        "strong": points(strong, threads, cores),
        "weak": points(weak, threads, cores),
        "provenance": provenance(),
    }


def _batch_size(experiment: Experiment) -> int:
    return getattr(experiment.train, last_phase(experiment)).batch_size


def _require_possible(experiment: Experiment, numbers: Sequence[int], steps: int) -> None:
    if not numbers or min(numbers) < 1 or steps < 1:
        raise ConfigError(
            "scaling: --ranks and --steps must be positive whole numbers, such as --ranks 1,2,4 --steps 30"
        )
    if experiment.train.engine == "none" and max(numbers) > 1:
        raise ConfigError("scaling: train.engine is none, which has one rank; set it to horovod or torch")
    batch, phase = _batch_size(experiment), last_phase(experiment)
    unfit = [str(ranks) for ranks in numbers if batch % ranks]
    if unfit:
        raise ConfigError(
            f"scaling: train.{phase}.batch_size {batch} cannot be split over {' or '.join(unfit)} ranks; "
            "change --ranks or the batch"
        )


def _require_data(experiment: Experiment, paths: RunPaths) -> None:
    for stage in DATA_STAGES:
        reason = why_stale(stage, experiment, paths)
        if reason:
            raise DataError(
                f"{paths.run_dir}: stage {stage.name} is needed first ({reason}); "
                f"do it with `hpcsurrogate run FILE --until prepare`"
            )
