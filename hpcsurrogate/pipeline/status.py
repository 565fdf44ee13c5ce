"""Where an experiment stands: its stages, its jobs, its training. Only reads, and takes no lock."""

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import AnyExperiment, load_any
from hpcsurrogate.pipeline import records
from hpcsurrogate.pipeline.jobs import queued_jobs, slurm_folder, submitted_jobs
from hpcsurrogate.pipeline.kinds import stage_index, stages_of
from hpcsurrogate.pipeline.stage import Stage
from hpcsurrogate.pipeline.training_status import training_lines


def run_status(file_or_run_dir: str | Path, say: Callable[[str], None] = print) -> None:
    """Say what is done, running and missing; the jobs that SLURM has for it; and how far its training has come.

    Parameters
    ----------
    file_or_run_dir : str or Path    experiment file, or run directory, whose own copy of the experiment counts
    say : callable                   receives each line

    Raises
    ------
    ConfigError    if there is no such file or run directory, or the file is wrong
    DataError      if a record, jobs.json or attempts.json is damaged

    Notes
    -----
    Nothing is written or locked (tests/unit/pipeline/test_status.py).
    """
    experiment, paths = _experiment_and_paths(Path(file_or_run_dir))
    say(f"{experiment.name} in {paths.run_dir}")
    for line in [*_stage_lines(experiment, paths), *_job_lines(paths), *_training_lines(experiment, paths)]:
        say(line)


def _experiment_and_paths(given: Path) -> tuple[AnyExperiment, RunPaths]:
    if not given.is_dir():
        experiment = load_any(given)
        return experiment, RunPaths(experiment.run_dir)
    paths = RunPaths(given)
    for file in (paths.config, slurm_folder(paths) / "experiment.yaml"):
        if file.exists():
            return load_any(file), paths
    raise ConfigError(f"{given}: is no run directory (it has no {paths.config.name}); give an experiment or one of its")


def _stage_lines(experiment: AnyExperiment, paths: RunPaths) -> list[str]:
    return [f"{stage.name:<11} {_stage_state(stage, experiment, paths)}" for stage in stages_of(experiment)]


def _training_lines(experiment: AnyExperiment, paths: RunPaths) -> list[str]:
    if not isinstance(experiment, Experiment):
        return []
    stages = stages_of(experiment)
    record = records.read_record(stages[stage_index(stages, "train")], paths)
    return training_lines(experiment, paths, finished=record is not None and record["finished"])


def _stage_state(stage: Stage, experiment: AnyExperiment, paths: RunPaths) -> str:
    record = records.read_record(stage, paths)
    reason = records.why_stale(stage, experiment, paths)
    if record is None:
        return "missing"
    if reason is None:
        ranks = f" on {record['ranks']} ranks" if record["ranks"] > 1 else ""
        return f"done in {record['seconds']} s{ranks}"
    if not record["finished"]:
        begun = f"begun {record['provenance']['time']}"
        worker = _worker(paths)
        return f"running, {begun}: {worker}" if worker else f"interrupted, {begun} on {record['provenance']['host']}"
    return f"to be done again: {reason}"


def _worker(paths: RunPaths) -> str | None:
    """Who works in the run directory, as its lock file says; None if that process is seen to be over.

    The lock itself is not tried: that would take it for a moment. Of a process on another host nothing can be seen.
    """
    text = paths.lock.read_text(encoding="utf-8") if paths.lock.exists() else ""
    match = re.fullmatch(r"process (\d+) on (\S+)", text)
    if match is None:
        return None
    number, host = match.groups()
    if host != socket.gethostname():
        return f"{text}, unless it was ended there"
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # somebody else's
        pass
    return text


def _job_lines(paths: RunPaths) -> list[str]:
    submitted = submitted_jobs(paths)
    try:
        queued = {job.group: job for job in queued_jobs(paths)}
    except ConfigError as error:
        return [f"jobs        {', '.join(f'{group} {number}' for group, number in submitted.items())}: {error}"]
    lines = []
    for group, number in submitted.items():
        job = queued.get(group)
        state = f"{job.state.lower()} ({job.reason})" if job else "over"
        lines.append(f"job {group:<7} {number} {state}; output {slurm_folder(paths)}/*-{group}-{number}.out")
    return lines
