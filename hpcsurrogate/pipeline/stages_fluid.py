"""The stages of a constitutive law, from runs of LAMMPS."""

from typing import Any

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline.stage import Stage, state_of_files
from hpcsurrogate.sources.lammps_runs import planned_runs, proposed_states, script_digest


def _what_is_to_run(experiment: FluidExperiment) -> Any:
    paths = RunPaths(experiment.run_dir)
    runs = planned_runs(experiment.simulate, proposed_states(paths.proposal))
    return [script_digest(experiment.simulate.script), [run.name for run in runs]]


def _simulate(experiment: FluidExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.pipeline.sweep import run_sweep

    run_sweep(experiment, paths, world)


def _ingest(experiment: FluidExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.data.ingest_lammps import run_ingest

    run_ingest(experiment, paths, world)


def _fit(experiment: FluidExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.pipeline.law import run_fit_law

    run_fit_law(experiment, paths, world)


def _propose(experiment: FluidExperiment, paths: RunPaths, world: World) -> None:
    """Another round, as long as the file asks for more than there were: what was proposed and run stays."""
    from hpcsurrogate.pipeline.law import run_propose

    if world.rank:
        return
    rounds = read_json(paths.proposal)["rounds"] if paths.proposal.exists() else []
    if experiment.propose is not None and len(rounds) < experiment.propose.rounds:
        rounds = [*rounds, run_propose(experiment, paths)]
    write_json_atomic(paths.proposal, {"rounds": rounds})


def _channel(experiment: FluidExperiment, paths: RunPaths, world: World) -> None:
    from hpcsurrogate.pipeline.channel import run_channel

    if world.rank == 0:
        run_channel(experiment, paths)


def _training_start(experiment: FluidExperiment) -> Any:
    start = experiment.train.initialise_from
    return state_of_files((start,)) if start is not None else None


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
        "train the law and write the artifact",
        ("name", "seed", "train"),
        ("fit", "pointwise"),
        _fit,
        on_ranks=True,
        inputs=_training_start,
    ),
    Stage("propose", "name the states that are worth a run", ("propose",), ("proposal",), _propose, back_to="simulate"),
    Stage(
        "channel",
        "run the law in a channel beside LAMMPS",
        ("channel",),
        ("channel",),
        _channel,
    ),
)
