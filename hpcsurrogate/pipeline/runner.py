"""Do one stage with its record; or walk all of them, skip what is up to date, start ranks where they are wanted."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from hpcsurrogate.core import errors
from hpcsurrogate.core.atomic import read_json, write_text_atomic
from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import AnyExperiment, dump_experiment, load_any
from hpcsurrogate.parallel.launch import run_alone, run_ranks
from hpcsurrogate.parallel.world import World, get_world
from hpcsurrogate.pipeline import records
from hpcsurrogate.pipeline.consistency import check_consistency
from hpcsurrogate.pipeline.kinds import stage_index, stages_of, verdict_file
from hpcsurrogate.pipeline.lock import run_lock
from hpcsurrogate.pipeline.stage import Stage

log = get_logger("pipeline")

ERRORS_BY_EXIT_CODE = {
    error.exit_code: error
    for error in (
        errors.ConfigError,
        errors.DataError,
        errors.DivergedError,
        errors.ModelRefusedError,
        errors.RankLostError,
        errors.RequeueRequested,
    )
}


def execute_stage(name: str, experiment: AnyExperiment, world: World, locked: bool = False) -> None:
    """Do one stage, whatever its record says, and write its record. Called by every rank.

    Parameters
    ----------
    name : str                 a stage
    experiment : Experiment    the same on every rank
    world : World
    locked : bool              the run directory is locked already by the pipeline that started this process

    Raises
    ------
    DataError      if the stage before is not done, or was done with another configuration
    ConfigError    if another process works in the run directory
    HpcsurrogateError    whatever the stage itself raises; its record then says that it was interrupted
    """
    import torch  # here, so that a run with nothing to do answers at once

    # Also where the user started the ranks, and for the stages of one process: threads that share a core with another
    # program wait for each other far longer than they compute.
    torch.set_num_threads(experiment.threads_per_rank)
    stages, paths = stages_of(experiment), RunPaths(experiment.run_dir)
    position = stage_index(stages, name)
    stage = stages[position]
    lock = nullcontext() if locked or world.rank else run_lock(paths)
    with lock:
        if world.rank == 0:
            _require_done(stages[:position], experiment, paths)
            write_text_atomic(paths.config, dump_experiment(experiment))
            records.record_start(stage, experiment, paths)
        world.barrier()
        started = time.monotonic()
        stage.work(experiment, paths, world)
        world.barrier()
        if world.rank == 0:
            records.record_end(stage, experiment, paths, time.monotonic() - started, world.size)


def execute_part(experiment: AnyExperiment, world: World, part: tuple[int, int]) -> None:
    """Do a part of the runs of a sweep, for one job of an array: without a record, and beside other parts.

    Parameters
    ----------
    part : tuple of int    number, from 1 on, and of how many

    Raises
    ------
    ConfigError    if the experiment has no sweep, or there is no such part
    """
    from hpcsurrogate.pipeline.sweep import run_sweep

    number, count = part
    if not isinstance(experiment, FluidExperiment):
        raise errors.ConfigError("--part: only a sweep of LAMMPS runs can be done in parts")
    if not 1 <= number <= count:
        raise errors.ConfigError(f"--part {number}/{count}: parts are numbered from 1 to {count}")
    run_sweep(experiment, RunPaths(experiment.run_dir), world, part)


def _require_done(stages: Sequence[Stage], experiment: AnyExperiment, paths: RunPaths) -> None:
    for stage in stages:
        reason = records.why_stale(stage, experiment, paths)
        if reason:
            raise errors.DataError(
                f"{paths.run_dir}: stage {stage.name} is needed first ({reason}); "
                f"do it with `hpcsurrogate {' '.join(stage.command)} FILE`, or all with `hpcsurrogate run FILE`"
            )


def run_pipeline(
    experiment_path: str | Path,
    overrides: Sequence[str] = (),
    start: str | None = None,
    until: str | None = None,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Walk the stages: skip what is up to date, do what is not and all after it.

    Parameters
    ----------
    experiment_path : str or Path    YAML file
    overrides : sequence of str      `section.key=value`
    start : str or None              do this stage and all after it again, whatever their records say
    until : str or None              last stage
    dry_run : bool                   only say what would be done; nothing is written
    say : callable                   receives one line per stage, with its time

    Raises
    ------
    ConfigError    if started under several ranks, if `start` comes after `until`, or like `load_experiment`
    DataError      if a stage before `start` is not up to date
    HpcsurrogateError    of the class whose exit code a failed stage gave
    """
    if get_world().size > 1:
        raise errors.ConfigError("run: starts its own ranks; call it without mpirun or srun, set `ranks` in the file")
    experiment = load_any(experiment_path, overrides)
    check_consistency(experiment)
    stages, paths = stages_of(experiment), RunPaths(experiment.run_dir)
    first = stage_index(stages, start) if start else 0
    last = stage_index(stages, until) if until else len(stages) - 1
    if first > last:
        raise errors.ConfigError(f"--from {start} comes after --until {until}")
    with nullcontext() if dry_run else run_lock(paths):
        _require_done(stages[:first], experiment, paths)
        if not dry_run:
            write_text_atomic(paths.config, dump_experiment(experiment))
        stale, asked, position = False, start is not None, first
        while position <= last:
            stage = stages[position]
            reason = "asked for" if asked else records.why_stale(stage, experiment, paths)
            # Once a stage was done, the next compares what it made now; a dry run cannot know that yet.
            reason = reason or ("a stage before it" if dry_run and stale else None)
            stale = stale or reason is not None
            _do_or_skip(stage, reason, experiment, paths, dry_run, say)
            position += 1
            back = None if dry_run or stage.back_to is None else stage_index(stages, stage.back_to)
            # What lies before this stage was up to date a moment ago: only the stage itself can have changed that.
            if back is not None and records.why_stale(stages[back], experiment, paths) is not None:
                asked, position = False, back
        judged = verdict_file(experiment, paths)
        if judged is not None and not dry_run and last == len(stages) - 1:
            say(f"report: {paths.report}")
            say(read_json(judged)["verdict"])


def _do_or_skip(
    stage: Stage,
    reason: str | None,
    experiment: AnyExperiment,
    paths: RunPaths,
    dry_run: bool,
    say: Callable[[str], None],
) -> None:
    if reason is None:
        say(f"{stage.name:<10} up to date")
        return
    on_ranks = stage.on_ranks and experiment.ranks > 1 and not stage.is_idle(experiment)
    ranks = f" on {experiment.ranks} ranks" if on_ranks else ""
    if dry_run:
        say(f"{stage.name:<10} would run{ranks}: {reason}; {stage.summary}")
        return
    log.info("%s%s: %s", stage.name, ranks, stage.summary)
    started = time.monotonic()
    _do_stage(stage, experiment, paths)
    say(f"{stage.name:<10} done in {time.monotonic() - started:.1f} s{ranks}")


def _do_stage(stage: Stage, experiment: AnyExperiment, paths: RunPaths) -> None:
    """Do a stage here, in a fresh process, or on ranks; those read the resolved file, since the user may edit his."""
    if stage.is_idle(experiment) or not (stage.on_ranks or stage.fresh_process):
        execute_stage(stage.name, experiment, World(), locked=True)
        return
    arguments = [*stage.command, str(paths.config), "--locked"]
    record_before = records.read_record(stage, paths)
    if stage.on_ranks and experiment.ranks > 1:
        exit_code = run_ranks(arguments, experiment.ranks, experiment.threads_per_rank)
    else:
        exit_code = run_alone(arguments)
    if exit_code:
        raise _error_of(stage.name, exit_code)
    # srun also ends with 0 when SLURM could not launch the ranks; the record is what the stage itself wrote.
    record = records.read_record(stage, paths)
    if record is None or record == record_before or not record["finished"]:
        raise errors.RankLostError(
            f"stage {stage.name}: exit code 0, but its ranks never ran to the end; what the launcher said stands above"
        )


def _error_of(name: str, exit_code: int) -> errors.HpcsurrogateError:
    """The error whose class has this exit code; a signal (128 + n, or -n) means that the process was lost."""
    if exit_code == errors.RequeueRequested.exit_code:
        return errors.RequeueRequested(f"stage {name} wrote a checkpoint and stopped on request; run it again to go on")
    if exit_code < 0 or exit_code > 128:
        number = -exit_code if exit_code < 0 else exit_code - 128
        return errors.RankLostError(f"stage {name}: a process was ended by signal {number}; its last lines stand above")
    # 1 is a fault of the program; what is no code of ours was left by MPI when another rank was lost under srun.
    unknown = errors.HpcsurrogateError if exit_code == errors.HpcsurrogateError.exit_code else errors.RankLostError
    kind = ERRORS_BY_EXIT_CODE.get(exit_code, unknown)
    return kind(f"stage {name} ended with exit code {exit_code}; what went wrong stands above")
