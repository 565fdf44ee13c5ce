"""Runs LAMMPS at every state of a sweep, on the ranks or in parts; what is finished is kept."""

import re
import resource
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.config_fluid import FluidExperiment, LammpsSource
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline.children import child_settings
from hpcsurrogate.sources.lammps_runs import RECORD, LammpsRun, planned_runs, script_digest

log = get_logger("simulate")

LOG, SCRIPT = "log.lammps", "script.lmp"


def run_sweep(experiment: FluidExperiment, paths: RunPaths, world: World, part: tuple[int, int] | None = None) -> None:
    """Do the runs that are missing, and write paths.sweep_record unless this is only a part.

    Parameters
    ----------
    experiment : FluidExperiment
    paths : RunPaths
    world : World                       its ranks share the runs, longest first; all must call this
    part : (number, of how many), optional    number counts from 1: only this part of the plan, for arrays of jobs

    Raises
    ------
    ConfigError    if LAMMPS or the script is missing, or the script is in other units
    DataError      if LAMMPS ended a run early, unless `simulate.failed` is leave_out; the other runs are done first

    Notes
    -----
    A run is finished when its run.json is there, which is written last; others are done again from their start
    (tests/pipeline/test_lammps_sweep.py).
    """
    source = experiment.simulate
    with world.failing_together():
        command = lammps_command(source)
        require_units(source)
        script = script_digest(source.script)
        runs = planned_runs(experiment)
        ordered = sorted(runs, key=_steps, reverse=True)
        mine = ordered if part is None else ordered[part[0] - 1 :: part[1]]
        missing = [run for run in mine if run.record(paths.sweep, script) is None]
    # Not that each rank looks for itself: a run that one has just finished would shift the shares of the others.
    missing = world.bcast(missing)
    if missing:
        log.info("%d of %d runs to do", len(missing), len(mine))
    failures: list[str] = []
    for run in world.share(missing):
        failure = do_run(run, paths.sweep, command, source.script, script)
        if failure is not None:
            failures.append(failure)
            log.warning(failure)
    failures = [failure for of_rank in world.allgather(failures) for failure in of_rank]
    if failures and source.failed == "stop":
        raise DataError(
            f"{len(failures)} of {len(mine)} runs failed, the first: {failures[0]}; correct the sweep, or leave them"
            " out by simulate.failed=leave_out"
        )
    if part is None and world.rank == 0:
        _write_record(runs, paths, script, failures)
    world.barrier()


def do_run(run: LammpsRun, sweep: Path, command: Sequence[str], script_path: str, script: str) -> str | None:
    """Do one run in its own folder, empty before.

    Returns
    -------
    str or None    one line that says what ended it early
    """
    folder = sweep / run.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # LAMMPS reads it as it runs: the user may go on writing his own.
    shutil.copyfile(script_path, folder / SCRIPT)
    arguments = [word for name, value in run.variables.items() for word in ("-var", name, str(value))]
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = subprocess.run(
        [*command, "-in", SCRIPT, "-log", LOG, "-screen", "none", *arguments],
        cwd=folder,
        capture_output=True,
        check=False,
        **child_settings(signal.SIGKILL),
    )
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    written = (folder / LOG).read_text(errors="replace") if (folder / LOG).exists() else ""
    if finished.returncode:
        reason = _error_line(written) or _error_line(finished.stderr + finished.stdout) or "it gave no reason"
        return f"{folder}: LAMMPS ended with code {finished.returncode}: {reason}"
    record = {
        "variables": run.variables,
        "script": script,
        "lammps": written.partition("\n")[0],
        "seconds": round(seconds, 3),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 3),
    }
    write_json_atomic(folder / RECORD, record)
    log.info("%s: done in %.1f s", run.name, seconds)
    return None


def lammps_command(source: LammpsSource) -> list[str]:
    """Return the words that start LAMMPS.

    Raises
    ------
    ConfigError    if the first is no program
    """
    words = shlex.split(source.command)
    if not words or shutil.which(words[0]) is None:
        raise ConfigError(
            f"simulate.command: {source.command} is no program here; install LAMMPS (Debian: apt-get install lammps),"
            " load your site's module, or name it"
        )
    return words


def require_units(source: LammpsSource) -> None:
    """Compare the script's `units` with those of the file; a script without the line is in lj, as LAMMPS has it.

    Raises
    ------
    ConfigError    if they differ
    """
    if not Path(source.script).is_file():
        raise ConfigError(f"{source.script}: file does not exist; correct simulate.script")
    number, units = 1, "lj"
    for place, line in enumerate(Path(source.script).read_text(errors="replace").splitlines(), 1):
        if found := re.match(r"\s*units\s+(\S+)", line):
            number, units = place, found[1]
    if units != source.units:
        raise ConfigError(f"{source.script}:{number}: units {units}, but simulate.units is {source.units}")


def _steps(run: LammpsRun) -> float:
    steps = run.variables.get("steps", 0)
    return float(steps) if isinstance(steps, int | float) else 0.0


def _error_line(text: str) -> str | None:
    return next((line.strip() for line in text.splitlines() if line.lstrip().startswith("ERROR")), None)


def _write_record(runs: Sequence[LammpsRun], paths: RunPaths, script: str, failures: list[str]) -> None:
    finished = {run.name: record for run in runs if (record := run.record(paths.sweep, script)) is not None}
    write_json_atomic(paths.sweep_record, {"runs": finished, "failed": failures})
