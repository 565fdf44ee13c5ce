"""The stages of a closure for single cells, from a fine run of OpenFOAM."""

from pathlib import Path
from typing import Any

from hpcsurrogate.core.config_cells import CellExperiment
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline.openfoam import fine_experiment, run_case, what_is_run
from hpcsurrogate.pipeline.stage import Stage, state_of_files


def _what_lies_in_the_cases(experiment: CellExperiment) -> Any:
    fine, coarse = Path(fine_experiment(experiment).simulate.case), Path(experiment.prepare.coarse)
    velocity = experiment.simulate.velocity
    patterns = [f"{folder}*/{velocity}{ending}" for folder in ("", "processor*/") for ending in ("", ".gz")]
    files = [file for pattern in patterns for file in fine.glob(pattern)]
    files += [file for case in (fine, coarse) for file in case.glob("constant/polyMesh/*")]
    return state_of_files(sorted([*files, *coarse.glob(f"*/{velocity}"), coarse / "system" / "controlDict"]))


def _simulate(experiment: CellExperiment, paths: RunPaths, world: World) -> None:
    if world.rank == 0:
        run_case(experiment, paths)


def _ingest(experiment: CellExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.data.ingest_openfoam import run_ingest

    run_ingest(fine_experiment(experiment), paths.cells, world)


def _fit(experiment: CellExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.pipeline.cells import run_fit

    if world.rank == 0:
        run_fit(experiment, paths)


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
        ("fit", "pointwise"),
        _fit,
    ),
)
