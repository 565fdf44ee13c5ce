"""Hand the stages that are missing to SLURM: one job a group of stages, each after the one before it."""

import importlib.resources
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from hpcsurrogate.core.atomic import write_text_atomic
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import dump_experiment, load_experiment
from hpcsurrogate.pipeline import records
from hpcsurrogate.pipeline.consistency import check_consistency
from hpcsurrogate.pipeline.jobs import ask_slurm, queued_jobs, record_jobs, slurm_folder
from hpcsurrogate.pipeline.kinds import stage_index
from hpcsurrogate.pipeline.lock import run_lock
from hpcsurrogate.pipeline.stages import STAGES


@dataclass(frozen=True)
class Group:
    """Stages that one job does.

    Attributes
    ----------
    name : str            part of the job's name
    stages : tuple        names, in order
    """

    name: str
    stages: tuple[str, ...]


GROUPS = (
    Group("data", ("simulate", "prepare")),
    Group("train", ("train",)),
    Group("score", tuple(stage.name for stage in STAGES[stage_index(STAGES, "train") + 1 :])),
)


def submit_experiment(
    file: str | Path,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Submit what is not up to date as a chain of jobs.

    What the jobs do is settled now: they read run_dir/slurm/experiment.yaml, not the user's file.

    Parameters
    ----------
    file : str or Path             experiment
    overrides : sequence of str    `section.key=value`
    dry_run : bool                 only print the scripts; nothing is written, SLURM is not asked
    say : callable                 receives what is printed

    Raises
    ------
    ConfigError    if a job of this run directory is queued already, if a command works there, if ranks and nodes do not
                   fit together, if SLURM is not there or refuses, or like `load_experiment`; no job of a chain that
                   SLURM refused in part stays in the queue
    DataError      if a record of a stage is damaged

    Notes
    -----
    tests/unit/pipeline/test_submit.py; with a real SLURM in tests/faults/test_scheduler_faults.py.
    """
    experiment = load_experiment(file, overrides)
    check_consistency(experiment)
    if experiment.slurm.nodes > experiment.ranks:
        raise ConfigError(f"slurm.nodes: {experiment.slurm.nodes} is more than ranks: {experiment.ranks}; lower it")
    paths = RunPaths(Path(experiment.run_dir).absolute())
    groups = missing_groups(experiment, paths)
    if not groups:
        say(f"{experiment.run_dir}: everything is up to date")
        return
    scripts = {group.name: render_job(group, experiment, paths) for group in groups}
    with nullcontext() if dry_run else run_lock(paths):
        if dry_run:
            _print_scripts(scripts, paths, say)
        else:
            _require_no_job(paths)
            write_text_atomic(_experiment_file(paths), dump_experiment(experiment))
            _submit_chain(scripts, paths, say)


def missing_groups(experiment: Experiment, paths: RunPaths) -> list[Group]:
    """The groups of stages that are not up to date, and all after them."""
    for position, group in enumerate(GROUPS):
        stages = (STAGES[stage_index(STAGES, name)] for name in group.stages)
        if any(records.why_stale(stage, experiment, paths) for stage in stages):
            return list(GROUPS[position:])
    return []


def render_job(group: Group, experiment: Experiment, paths: RunPaths) -> str:
    """The batch script of one group of stages.

    Raises
    ------
    ConfigError    if a path holds a character that a batch script cannot
    """
    slurm = experiment.slurm
    options = [f"--partition={slurm.partition}"] if slurm.partition else []
    options += [f"--account={slurm.account}"] if slurm.account else []
    options += [f"--gpus-per-task={slurm.gpus_per_rank}"] if slurm.gpus_per_rank and group.name == "train" else []
    values = {
        "STAGES": f"The stages {', '.join(group.stages)}" if len(group.stages) > 1 else f"The stage {group.stages[0]}",
        "NAME": experiment.name,
        "GROUP": group.name,
        "NODES": str(slurm.nodes),
        "RANKS": str(experiment.ranks),
        "THREADS": str(experiment.threads_per_rank),
        "TIME": slurm.time,
        "WORKING_DIRECTORY": _quoted(Path.cwd()),
        "OUTPUT": _quoted(slurm_folder(paths) / "%x-%j.out"),
        "OPTIONS": "".join(f"#SBATCH {option}\n" for option in (*options, *slurm.options)),
        "SETUP": _lines([f"module load {shlex.join(slurm.modules)}"] * bool(slurm.modules) + list(slurm.setup)),
        "PYTHON": shlex.quote(sys.executable),
        "EXPERIMENT": shlex.quote(str(_experiment_file(paths))),
        "LAST": group.stages[-1],
        "MAX_REQUEUES": str(slurm.max_requeues),
    }
    script = importlib.resources.files("hpcsurrogate.pipeline").joinpath("job.sbatch").read_text(encoding="utf-8")
    for name, value in values.items():
        script = script.replace(f"@{name}@", value)
    return script


def _quoted(path: Path) -> str:
    """A path for an #SBATCH line, which has quotes but no way to write a quote."""
    if any(character in str(path) for character in '"\\\n'):
        raise ConfigError(f"{path}: a batch script cannot name a path with quotes, backslashes or line ends; move it")
    return f'"{path}"'


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _experiment_file(paths: RunPaths) -> Path:
    return slurm_folder(paths) / "experiment.yaml"


def _print_scripts(scripts: dict[str, str], paths: RunPaths, say: Callable[[str], None]) -> None:
    before = None
    for name, script in scripts.items():
        after = f", after {before} has ended with exit code 0" if before else ""
        say(f"# --- {slurm_folder(paths) / name}.sbatch{after}\n{script}")
        before = name


def _require_no_job(paths: RunPaths) -> None:
    for job in queued_jobs(paths):
        raise ConfigError(
            f"{paths.run_dir}: job {job.number} ({job.group}) is {job.state.lower()} already; wait for it, "
            f"end it with `scancel {job.number}`, or set another run_dir"
        )


def _submit_chain(scripts: dict[str, str], paths: RunPaths, say: Callable[[str], None]) -> None:
    jobs: dict[str, str] = {}
    after: list[str] = []
    try:
        for name, script in scripts.items():
            file = slurm_folder(paths) / f"{name}.sbatch"
            write_text_atomic(file, script)
            # A job that its forerunner's failure leaves without hope is taken from the queue.
            jobs[name] = ask_slurm(["sbatch", "--parsable", *after, str(file)]).strip().partition(";")[0]
            record_jobs(paths, jobs)
            say(f"{name:<6} job {jobs[name]}" + (f", {after[0].removeprefix('--dependency=')}" if after else ""))
            after = [f"--dependency=afterok:{jobs[name]}", "--kill-on-invalid-dep=yes"]
    except ConfigError:
        if jobs:
            ask_slurm(["scancel", *jobs.values()])
        raise
    say(f"what becomes of them: hpcsurrogate status {paths.run_dir}")
