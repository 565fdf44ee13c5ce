"""The stages of a closure for single cells, from a fine run of OpenFOAM to coarse ones with it."""

from pathlib import Path
from typing import Any

from hpcsurrogate.core.config_cells import LEARNED, CellExperiment
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline.openfoam import (
    case_files,
    is_of_model,
    mesh_coarse_case,
    own_cases,
    run_fine_case,
    what_is_run,
)
from hpcsurrogate.pipeline.stage import Stage, state_of_files


def _what_lies_in_the_cases(experiment: CellExperiment) -> Any:
    own, coarse = own_cases(experiment), Path(experiment.prepare.coarse)
    fine, velocity = Path(own.simulate.case), experiment.simulate.velocity
    patterns = [f"{folder}*/{velocity}{ending}" for folder in ("", "processor*/") for ending in ("", ".gz")]
    files = [file for pattern in patterns for file in fine.glob(pattern)]
    files += [file for case in (fine, coarse) for file in case.glob("constant/polyMesh/*")]
    return state_of_files(sorted([*files, *coarse.glob(f"*/{velocity}"), *coarse.glob("system/*")]))


def _simulate(experiment: CellExperiment, paths: RunPaths, world: World) -> None:
    if world.rank == 0:
        run_fine_case(experiment, paths)


def _ingest(experiment: CellExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.data.ingest_openfoam import run_ingest

    with world.failing_together():
        if world.rank == 0:
            mesh_coarse_case(experiment, paths)
    run_ingest(own_cases(experiment), paths.cells, world)


def _fit(experiment: CellExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.pipeline.cells import run_fit

    if world.rank == 0:
        run_fit(experiment, paths)


def _what_runs(experiment: CellExperiment) -> Any:
    if experiment.couple is None:
        return None
    return state_of_files([*case_files(Path(experiment.prepare.coarse)), experiment.couple.library])


def _what_calibrates(experiment: CellExperiment) -> Any:
    if experiment.calibrate is None:
        return None
    settings = experiment.couple.model_dump(mode="json", exclude={"models"})
    return [settings, [state for state in _what_runs(experiment) if is_of_model(Path(state[0]), LEARNED)]]


def _calibrate(experiment: CellExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.pipeline.coarse_runs import run_calibrate_cells

    run_calibrate_cells(experiment, paths, world)


def _couple(experiment: CellExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.pipeline.coarse_runs import run_couple_cells

    run_couple_cells(experiment, paths, world)


def _report(experiment: CellExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.report.cells import run_report_cells

    if world.rank == 0:
        run_report_cells(experiment, paths)


CELL_STAGES: tuple[Stage, ...] = (
    Stage("simulate", "run the fine case", ("simulate",), ("fine_case_record",), _simulate, inputs=what_is_run),
    Stage(
        "ingest",
        "average the fine run onto the coarse mesh",
        ("simulate", "prepare"),
        ("cells",),
        _ingest,
        on_ranks=True,
        inputs=_what_lies_in_the_cases,
        words=("ingest", "openfoam"),
    ),
    Stage(
        "fit",
        "train on the samples and write the artifact",
        ("name", "seed", "train", "export"),
        ("fit", "weights", "pointwise"),
        _fit,
    ),
    Stage(
        "calibrate",
        "weigh the parts of its stress in coarse runs",
        ("calibrate",),
        ("calibration",),
        _calibrate,
        on_ranks=True,
        optional=("calibrated",),
        idle_without="calibrate",
        inputs=_what_calibrates,
    ),
    Stage(
        "couple",
        "run the coarse case with it and with the solver's own models",
        ("couple",),
        ("coupling",),
        _couple,
        on_ranks=True,
        inputs=_what_runs,
    ),
    Stage("report", "figures and one HTML page with the verdict", (), ("report", "figures"), _report),
)
