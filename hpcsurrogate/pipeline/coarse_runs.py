"""A closure of cells in coarse runs of OpenFOAM: calibrated there, and then judged beside OpenFOAM's own models."""

from itertools import product
from pathlib import Path

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.config_cells import LEARNED, CellExperiment
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.couple.cell_verdict import JUDGED, judge
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.export.pointwise import write_pointwise
from hpcsurrogate.models.build import build_cell_model, with_weights
from hpcsurrogate.models.stress_gains import StressGains
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline.coarse_case import CoarseCase

Gains = tuple[float, float, float]  # dissipation, backscatter, rest


def run_couple_cells(experiment: CellExperiment, paths: RunPaths, world: World) -> None:
    """Run the coarse case with every model from the same start, score all beside the fine run, write paths.coupling.

    Start and reference are of the times that training and calibration did not see.

    Parameters
    ----------
    experiment : CellExperiment
    paths : RunPaths
    world : World    its ranks share the models and the times of the fine run; all must call this

    Raises
    ------
    ConfigError    if a model's file or the library is missing, or a run leaves too few times to score
    DataError      if a case is damaged, or no model but the learned one came to its end
    """
    models = experiment.couple.models
    learned = paths.pointwise if experiment.calibrate is None else paths.calibrated
    with world.failing_together():
        case = CoarseCase.of(experiment, models)
        times = case.times(training=False)
        start = case.start(times[0])
    reference = case.reference(times, world)
    runs = world.map(
        lambda model: case.run(paths.coarse_runs / model, model, start, learned if model == LEARNED else None), models
    )
    with world.failing_together():
        if world.rank == 0:
            outcome = judge(dict(zip(models, runs, strict=True)), reference, case.places)
            write_json_atomic(paths.coupling, outcome)
            get_logger("couple").info(outcome["verdict"])


def run_calibrate_cells(experiment: CellExperiment, paths: RunPaths, world: World) -> None:
    """Run the coarse case with all combinations of gains, write paths.calibrated with the best and paths.calibration.

    The best has the least error of the mean velocity, by the fine run at the times of training.

    Parameters
    ----------
    experiment : CellExperiment
    paths : RunPaths
    world : World    its ranks share the runs; all must call this

    Raises
    ------
    ConfigError    as `run_couple_cells`
    DataError      if a case or the artifact is damaged, or no run came to its end
    """
    if experiment.calibrate is None:
        if world.rank == 0:
            write_json_atomic(paths.calibration, {"runs": []})
        return
    with world.failing_together():
        case = CoarseCase.of(experiment, [LEARNED])
        times = case.times(training=True)
        start = case.start(times[0])
    exact = case.reference(times, world).profile()

    def error_with(gains: Gains) -> float | None:
        name = "-".join(f"{gain:g}" for gain in gains)
        artifact = paths.calibration_runs / f"{name}.pt"
        write_with_gains(artifact, experiment, paths, gains)
        run = case.run(paths.calibration_runs / name, LEARNED, start, artifact)
        failed = run.moments is None
        return None if failed else float(run.moments.profile().errors(exact, case.places.of_places)[JUDGED])

    tried = experiment.calibrate
    combinations = list(product(tried.dissipation, tried.backscatter, tried.rest))
    errors = dict(zip(combinations, world.map(error_with, combinations), strict=True))
    with world.failing_together():
        if world.rank == 0:
            _write_best(errors, experiment, paths)


def write_with_gains(path: Path, experiment: CellExperiment, paths: RunPaths, gains: Gains) -> None:
    """Write the artifact of a run again, with gains on the parts of its stress."""
    artifact = load_artifact(paths.pointwise)
    core = StressGains(with_weights(build_cell_model(experiment.train.model), paths.weights, "fit"), *gains)
    write_pointwise(path, core, artifact.metadata, artifact.golden_inputs)


def _write_best(errors: dict[Gains, float | None], experiment: CellExperiment, paths: RunPaths) -> None:
    finished = {gains: error for gains, error in errors.items() if error is not None}
    if not finished:
        raise DataError(f"{paths.calibration_runs}: no run with any gains came to its end; take smaller gains or steps")
    best = min(finished, key=finished.__getitem__)
    write_with_gains(paths.calibrated, experiment, paths, best)
    names = ("dissipation", "backscatter", "rest")
    runs = [dict(zip(names, gains, strict=True)) | {"error": error} for gains, error in sorted(errors.items())]
    write_json_atomic(paths.calibration, {"best": dict(zip(names, best, strict=True)), "runs": runs})
    listed = ", ".join(f"{name} {gain:g}" for name, gain in zip(names, best, strict=True))
    get_logger("calibrate").info("%s: mean velocity off by %.2f %% on training times", listed, 100 * finished[best])
