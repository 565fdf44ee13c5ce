"""The last word on a closure of cells: the coarse case of OpenFOAM, run with it and with OpenFOAM's own models."""

import re
import shutil
from pathlib import Path

import numpy as np

from hpcsurrogate.core.atomic import read_json, sha256_file, write_json_atomic
from hpcsurrogate.core.config_cells import LEARNED, CellExperiment, CoarseRuns
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.couple.cell_profiles import NUM_BLOCKS, Moments, Places, wall_shear_stress
from hpcsurrogate.couple.cell_verdict import CoarseRun, judge
from hpcsurrogate.data.ingest_openfoam import averages_between
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.cell_averages import CellAverages
from hpcsurrogate.pipeline.openfoam import case_files, checked_commands, copy_case, do_commands, own_cases
from hpcsurrogate.sources.openfoam import OpenFoamCase
from hpcsurrogate.sources.openfoam_files import read_number, write_velocity
from hpcsurrogate.sources.openfoam_mesh import velocity_on_boundary

log = get_logger("couple")

TURBULENCE = Path("constant", "turbulenceProperties")
TRANSPORT = Path("constant", "transportProperties")
MESH = Path("constant", "polyMesh")
CONTROL = Path("system", "controlDict")
RECORD = "run.json"


def run_couple_cells(experiment: CellExperiment, paths: RunPaths, world: World) -> None:
    """Run the coarse case with every model from the same start, score all beside the fine run, write paths.coupling.

    Parameters
    ----------
    experiment : CellExperiment
    paths : RunPaths
    world : World    its ranks share the models and the times of the fine run; all must call this

    Raises
    ------
    ConfigError    if a model's file or the library is missing, or a run leaves too few times to score
    DataError      if a case is damaged, or no model but the learned one came to its end

    Notes
    -----
    A run that is finished is kept until the coarse case, its start, its commands or, for `learned`, the artifact
    change (tests/openfoam/test_couple.py).
    """
    couple, cases = experiment.couple, own_cases(experiment)
    fine, coarse = OpenFoamCase(cases.simulate.case), OpenFoamCase(cases.prepare.coarse)
    with world.failing_together():
        _require_files(couple, Path(experiment.prepare.coarse))
        commands = checked_commands(couple.run, "couple.run")
        averages, places = averages_between(fine, coarse), Places.of(coarse.mesh, couple.average_over)
        times = fine.times(cases.simulate.velocity, cases.simulate.start, cases.simulate.stop)
        _require_times(times, fine.path, "simulate.start and stop")
        start, _ = averages.velocity_and_stress(fine.field(cases.simulate.velocity, times[0], 3))
        own = [(float(time), _fine_moments(cases, fine, time, averages, places)) for time in world.share(times)]
    of_fine = sorted((pair for of_rank in world.allgather(own) for pair in of_rank), key=lambda pair: pair[0])
    reference = Moments.joined([moments for _, moments in of_fine])
    with world.failing_together():
        runs = {
            model: _coarse_run(model, experiment, commands, coarse, paths, start, places)
            for model in world.share(couple.models)
        }
    runs = {model: run for of_rank in world.allgather(runs) for model, run in of_rank.items()}
    if world.rank == 0:
        outcome = judge({model: runs[model] for model in couple.models}, reference, places)
        write_json_atomic(paths.coupling, outcome)
        log.info(outcome["verdict"])
    world.barrier()


def _require_files(couple: CoarseRuns, case: Path) -> None:
    for model in couple.models:
        path = case / TURBULENCE.with_name(f"{TURBULENCE.name}.{model}")
        if not path.is_file():
            raise ConfigError(f"couple.models: {path}: is missing; write what turbulenceProperties is for {model}")
    if not Path(couple.library).is_file():
        raise ConfigError(f"couple.library: {couple.library}: is missing; build it by `make openfoam`")


def _require_times(times: list[str], case: Path, keys: str) -> None:
    if len(times) < NUM_BLOCKS:
        raise ConfigError(f"{case}: {len(times)} times are too few to score, {NUM_BLOCKS} are needed; see {keys}")


def _fine_moments(
    cases: CellExperiment, fine: OpenFoamCase, time: str, averages: CellAverages, places: Places
) -> Moments:
    velocity = fine.field(cases.simulate.velocity, time, 3)
    mean, _ = averages.velocity_and_stress(velocity)
    return Moments.of(places, mean, _wall(fine, cases.simulate.velocity, velocity))


def _wall(case: OpenFoamCase, name: str, velocity: np.ndarray) -> np.ndarray:
    conditions = case.path / case.times(name)[0] / name
    on_boundary = velocity_on_boundary(conditions, case.mesh, velocity)
    return wall_shear_stress(case.mesh, read_number(case.path / TRANSPORT, "nu"), velocity, on_boundary)


def _coarse_run(
    model: str,
    experiment: CellExperiment,
    commands: list[list[str]],
    meshed: OpenFoamCase,
    paths: RunPaths,
    start: np.ndarray,
    places: Places,
) -> CoarseRun:
    """Do the run of one model unless it is done, and read what is scored of it."""
    couple, name = experiment.couple, experiment.simulate.velocity
    source, folder = Path(experiment.prepare.coarse), paths.coarse_runs / model
    wanted = _what_decides(model, couple, source, paths, start)
    record = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    if record.get("decided_by") != wanted:
        _set_up(model, couple, source, folder, paths)
        shutil.copytree(meshed.path / MESH, folder / MESH, dirs_exist_ok=True)
        write_velocity(folder / OpenFoamCase(folder).times(name)[0] / name, start)
        record = {"decided_by": wanted}
        try:
            record["commands"] = do_commands(commands, folder)
        except DataError as error:
            log.warning("%s", error)
            record["failed"] = str(error)
        write_json_atomic(folder / RECORD, record)
    if "failed" in record:
        return CoarseRun(None, None, None, record["failed"])
    case = OpenFoamCase(folder)
    times = case.times(name)
    scored = case.times(name, float(times[0]) + couple.discard + read_number(folder / CONTROL, "deltaT") / 2)
    _require_times(scored, folder, "couple.discard, and endTime and writeInterval of the coarse case")
    moments = []
    for time in scored:
        velocity = case.field(name, time, 3)
        moments.append(Moments.of(places, velocity, _wall(case, name, velocity)))
    text = "".join(file.read_text(errors="replace") for file in sorted(folder.glob("log.*")))
    return CoarseRun(Moments.joined(moments), _seconds_per_step(text), _fallback_share(text), None)


def _what_decides(model: str, couple: CoarseRuns, source: Path, paths: RunPaths, start: np.ndarray) -> str:
    others = {TURBULENCE, *(TURBULENCE.with_name(f"{TURBULENCE.name}.{other}") for other in couple.models)}
    others.discard(TURBULENCE.with_name(f"{TURBULENCE.name}.{model}"))
    files = [file for file in case_files(source) if file.relative_to(source) not in others]
    files += [paths.pointwise, Path(couple.library)] if model == LEARNED else []
    return digest([list(couple.run), [sha256_file(file) for file in files], digest(start.tolist())])


def _set_up(model: str, couple: CoarseRuns, source: Path, folder: Path, paths: RunPaths) -> None:
    copy_case(source, folder)
    shutil.copyfile(folder / TURBULENCE.with_name(f"{TURBULENCE.name}.{model}"), folder / TURBULENCE)
    if model == LEARNED:
        for file in (paths.pointwise, paths.pointwise.with_name(f"{paths.pointwise.name}.sha256")):
            shutil.copyfile(file, folder / "constant" / file.name)
        with (folder / CONTROL).open("a") as file:
            file.write(f'\nlibs ("{Path(couple.library).resolve()}");\n')


def _seconds_per_step(text: str) -> float | None:
    """Processor time of a step, from OpenFOAM's own clock: the first step, which sets up, is left out."""
    ends = [float(seconds) for seconds in re.findall(r"^ExecutionTime = ([\d.]+) s", text, re.M)]
    return (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else None


def _fallback_share(text: str) -> float | None:
    """Share of the cells that got the classical closure in place of the network; None for other models."""
    found = re.findall(r"hpcsurrogate: of (\S+) cells so far (\S+) got the classical closure", text)
    return float(found[-1][1]) / float(found[-1][0]) if found else None
