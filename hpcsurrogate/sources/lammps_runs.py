"""The runs of LAMMPS that a sweep plans: which there are, what each is given, and what it left behind."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsurrogate.core.atomic import read_json, sha256_file
from hpcsurrogate.core.config_fluid import FluidExperiment, Sweep
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest

RECORD = "run.json"
Variables = dict[str, float | int | str]


@dataclass(frozen=True)
class LammpsRun:
    """One run.

    Attributes
    ----------
    name : str              of its folder: the values that tell it apart, and a digest of all variables
    variables : dict        what the script is given by `-var`
    """

    name: str
    variables: Variables

    def record(self, sweep: Path, script: str) -> dict | None:
        """Return run.json in the run's folder; None if the run is not finished, or was one of another script.

        Raises
        ------
        DataError    if the file is damaged
        """
        path = sweep / self.name / RECORD
        if not path.exists():
            return None
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("variables"), dict) or "script" not in content:
            raise DataError(f"{path}: is no record of a run; remove it, and the run is done again")
        return content if content["script"] == script else None


def planned_runs(experiment: FluidExperiment) -> list[LammpsRun]:
    """Return every run of a sweep: those of the file, then those of the rounds that were proposed.

    Parameters
    ----------
    experiment : FluidExperiment

    Returns
    -------
    list of LammpsRun    in the order of the file, and of the rounds

    Raises
    ------
    ConfigError    if two runs would be the same
    DataError      if proposed.json is damaged
    """
    source, shown = experiment.simulate, [*experiment.simulate.grid, "seed"]
    runs = [run for part in (source, *source.more) for run in _runs_of(part)]
    if experiment.propose is not None:
        rounds = read_rounds(RunPaths(experiment.run_dir).proposed)[: experiment.propose.rounds]
        runs += [make_run(run["variables"], shown) for one in rounds for run in one["runs"]]
    names = [run.name for run in runs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"simulate: run {twice} stands in the sweep twice; give one of them another seed")
    return runs


def read_rounds(path: Path) -> list[dict]:
    """Return the rounds of proposed.json, oldest first; none if there is no such file.

    Raises
    ------
    DataError    if the file is damaged
    """
    if not path.exists():
        return []
    content = read_json(path)
    try:
        rounds = content["rounds"]
        for run in (run for one in rounds for run in one["runs"]):
            dict(run["variables"])["seed"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: is no record of proposed runs ({error!r}); remove it, and they are proposed again"
        ) from None
    return rounds


def finished_runs(experiment: FluidExperiment, sweep: Path) -> list[LammpsRun]:
    """Return the planned runs that are finished, in the order of the plan.

    Raises
    ------
    DataError    if a record is damaged
    """
    script = script_digest(experiment.simulate.script)
    return [run for run in planned_runs(experiment) if run.record(sweep, script) is not None]


def script_digest(script: str | Path) -> str:
    """Return the SHA-256 of a script.

    Raises
    ------
    ConfigError    if there is no such file
    """
    if not Path(script).is_file():
        raise ConfigError(f"{script}: file does not exist; correct simulate.script, relative to the experiment file")
    return sha256_file(Path(script))


def _runs_of(part: Sweep) -> list[LammpsRun]:
    states = (dict(zip(part.grid, values, strict=True)) for values in itertools.product(*part.grid.values()))
    return [
        make_run(state | part.variables | {"seed": seed}, [*state, "seed"])
        for state, seed in itertools.product(states, part.seeds)
    ]


def make_run(variables: Variables, shown: Sequence[str]) -> LammpsRun:
    """Return the run with these variables, some of which its folder's name shows."""
    values = "_".join(f"{name}{variables[name]}" for name in shown)
    return LammpsRun(f"{values}_{digest(variables)[:8]}", variables)
