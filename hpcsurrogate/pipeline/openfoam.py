"""Cases of OpenFOAM that the program runs itself: commands in a copy of a case, with progress and their own logs."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.config_cells import CellExperiment
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.pipeline.children import child_settings
from hpcsurrogate.pipeline.stage import state_of_files

log = get_logger("openfoam")

PARTS = ("constant", "system")  # of a case, beside the folder of its first time
TOLD = 10  # times in a run that its progress is said
TURBULENCE = Path("constant", "turbulenceProperties")
FATAL = "FOAM FATAL"
ENVIRONMENT = "WM_PROJECT_DIR"  # what every set-up of OpenFOAM sets


def own_cases(experiment: CellExperiment) -> CellExperiment:
    """Return the experiment with the cases that are read: the user's, or the copies in which commands were done."""
    paths, simulate, prepare = RunPaths(experiment.run_dir), experiment.simulate, experiment.prepare
    if simulate.run:
        simulate = simulate.model_copy(update={"case": str(paths.fine_case)})
    if prepare.run:
        prepare = prepare.model_copy(update={"coarse": str(paths.coarse_case)})
    return experiment.model_copy(update={"simulate": simulate, "prepare": prepare})


def case_files(case: Path) -> list[Path]:
    """Return the files that make up a case before it is run, sorted.

    Raises
    ------
    ConfigError    if it has no system, constant or first time
    """
    folders = [case / part for part in PARTS] + [case / _first_time(case)]
    return sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())


def turbulence_of(model: str) -> Path:
    """Return where a case has the turbulenceProperties of a model, one of several."""
    return TURBULENCE.with_name(f"{TURBULENCE.name}.{model}")


def is_of_model(file: Path, model: str) -> bool:
    """Whether a file of a case matters to a model: not the turbulenceProperties of another one."""
    return not file.name.startswith(TURBULENCE.name) or file.name == turbulence_of(model).name


def what_is_run(experiment: CellExperiment) -> Any:
    """The state of what decides a fine run, for its record."""
    return state_of_files(case_files(Path(experiment.simulate.case)))


def run_fine_case(experiment: CellExperiment, paths: RunPaths) -> None:
    """Copy the fine case to paths.fine_case, do its commands there, and write paths.fine_case_record.

    What an earlier attempt left is removed first: a run of OpenFOAM that was cut off need not be whole.

    Raises
    ------
    ConfigError    if a command is no program here, or the path holds a space, which OpenFOAM does not bear
    DataError      if a command ends with an error, naming OpenFOAM's own
    """
    words = checked_commands(experiment.simulate.run, "simulate.run")
    copy_case(Path(experiment.simulate.case), paths.fine_case)
    write_json_atomic(paths.fine_case_record, {"commands": do_commands(words, paths.fine_case)})


def mesh_coarse_case(experiment: CellExperiment, paths: RunPaths) -> None:
    """Copy the coarse case to paths.coarse_case and do the commands there that make its mesh, if there are any.

    Raises
    ------
    ConfigError, DataError    as `run_fine_case`
    """
    if experiment.prepare.run:
        words = checked_commands(experiment.prepare.run, "prepare.run")
        copy_case(Path(experiment.prepare.coarse), paths.coarse_case)
        do_commands(words, paths.coarse_case)


def copy_case(source: Path, case: Path) -> None:
    """Put system, constant and the first time of a case into a new folder; what was there is removed.

    Raises
    ------
    ConfigError    if the source is no case, or the new path holds a space
    """
    if " " in str(case.resolve()):
        raise ConfigError(
            f"run_dir: {case.resolve()} holds a space, which OpenFOAM does not bear; choose another folder"
        )
    files = case_files(source)
    shutil.rmtree(case, ignore_errors=True)
    for file in files:
        target = case / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def checked_commands(commands: Sequence[str], key: str) -> list[list[str]]:
    """Split commands of the experiment's key into words.

    Raises
    ------
    ConfigError    if one is no program here
    """
    split = [shlex.split(command) for command in commands]
    for words, command in zip(split, commands, strict=True):
        if not words or shutil.which(words[0]) is None:
            raise ConfigError(f"{key}: {command or 'an empty command'}: is no program here; install it or name it")
    return split


def do_commands(commands: Sequence[list[str]], case: Path) -> list[dict[str, Any]]:
    """Do commands in a case, one after the other, the output of the first in log.1; return each with its seconds.

    Raises
    ------
    DataError    if one ends with an error, naming OpenFOAM's own
    """
    done = []
    for number, words in enumerate(commands, 1):
        started = time.monotonic()
        _run(words, case, case / f"log.{number}")
        done.append({"command": shlex.join(words), "seconds": round(time.monotonic() - started, 3)})
        log.info("%s: %s: done in %.1f s", case, done[-1]["command"], done[-1]["seconds"])
    return done


def _run(words: list[str], case: Path, log_file: Path) -> None:
    """Do one command; its output goes to the log file, the times it reaches are said."""
    end, told = _end_time(case), 0
    settings = child_settings(signal.SIGTERM)
    settings["env"]["PWD"] = str(case.resolve())  # OpenFOAM believes it, and would not bear a space in the user's own
    with (
        log_file.open("w") as file,
        subprocess.Popen(words, cwd=case, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **settings) as process,
    ):
        for line in process.stdout:
            file.write(line)
            reached = re.match(r"Time = ([\d.e+-]+)s?$", line)
            if reached and end and float(reached[1]) >= (told + 1) / TOLD * end:
                told = int(float(reached[1]) / end * TOLD)
                log.info("%s: t = %s of %g s", case, reached[1], end)
    if process.returncode:
        reason = _reason(log_file.read_text(errors="replace")) or "it gave no reason"
        advice = "correct the case"
        if ENVIRONMENT not in os.environ:
            advice = f"{ENVIRONMENT} is not set here: source OpenFOAM's etc/bashrc, or {advice}"
        raise DataError(f"{log_file}: `{shlex.join(words)}` ended with code {process.returncode}: {reason}; {advice}")


def _reason(text: str) -> str:
    """What stands behind OpenFOAM's FATAL line, or else the last line, in one."""
    _, found, rest = text.partition(FATAL)
    lines = [re.sub(r"^\[\d+\]\s*", "", line).strip() for line in (rest if found else text).splitlines()]
    lines = [line for line in lines if line]
    return " ".join(lines[1:3]) if found else lines[-1] if lines else ""


def _first_time(case: Path) -> str:
    times = [folder.name for folder in case.glob("*") if re.fullmatch(r"\d+(\.\d+)?", folder.name) and folder.is_dir()]
    if not times or any(not (case / part).is_dir() for part in PARTS):
        raise ConfigError(
            f"{case}: needs the folders system, constant and that of a first time, such as 0; correct the path"
        )
    return min(times, key=float)


def _end_time(case: Path) -> float | None:
    found = re.search(r"^\s*endTime\s+([^\s;]+);", (case / "system" / "controlDict").read_text(errors="replace"), re.M)
    try:
        return float(found[1]) if found else None
    except ValueError:
        return None  # an expression or a macro: no progress is said
