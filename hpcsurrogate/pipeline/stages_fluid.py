"""The stages of a constitutive law, from runs of LAMMPS."""

from typing import Any

from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline.stage import Stage, state_of_files
from hpcsurrogate.sources.lammps_runs import planned_runs, script_digest


def _what_is_to_run(experiment: FluidExperiment) -> Any:
    return [script_digest(experiment.simulate.script), [run.name for run in planned_runs(experiment)]]


def _simulate(experiment: FluidExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.pipeline.sweep import run_sweep

    run_sweep(experiment, paths, world)


def _ingest(experiment: FluidExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.data.ingest_lammps import run_ingest

    run_ingest(experiment, paths, world)


def _what_runs_in_the_channel(experiment: FluidExperiment) -> Any:
    return None if experiment.couple is None else script_digest(experiment.couple.script)


def _what_it_starts_from(experiment: FluidExperiment) -> Any:
    path = experiment.train.initialise_from
    return None if path is None else state_of_files([path])


def _fit(experiment: FluidExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.pipeline.law import run_fit_law

    run_fit_law(experiment, paths, world)


def _propose(experiment: FluidExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.pipeline.propose import run_propose

    if world.rank == 0:
        run_propose(experiment, paths)


def _couple(experiment: FluidExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.pipeline.channel import run_couple_law

    run_couple_law(experiment, paths, world)


def _report(experiment: FluidExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.report.fluid import run_report_law

    if world.rank == 0:
        run_report_law(experiment, paths)


FLUID_STAGES: tuple[Stage, ...] = (
    Stage(
        "simulate",
        "run LAMMPS at every state of the sweep",
        ("simulate",),
        ("sweep_record",),
        _simulate,
        on_ranks=True,
        inputs=_what_is_to_run,
    ),
    Stage(
        "ingest",
        "average the runs to samples of the law",
        ("ingest",),
        ("material",),
        _ingest,
        on_ranks=True,
        words=("ingest", "lammps"),
    ),
    Stage(
        "fit",
        "train the law, score it on the runs that were held out, write the artifact",
        ("name", "seed", "train"),
        ("fit", "law", "law_manifest", "law_card"),
        _fit,
        on_ranks=True,
        inputs=_what_it_starts_from,
    ),
    Stage(
        "propose",
        "say which runs the law would gain most from, and add them to the sweep in a round",
        ("propose",),
        ("proposed",),
        _propose,
        idle_without="propose",
        back_to="simulate",
    ),
    Stage(
        "couple",
        "predict a channel that training never saw",
        ("couple",),
        ("coupling",),
        _couple,
        on_ranks=True,
        idle_without="couple",
        optional=("channel",),
        inputs=_what_runs_in_the_channel,
    ),
    Stage("report", "figures and one HTML page with the verdict", (), ("report", "figures"), _report),
)
