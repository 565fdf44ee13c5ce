"""The last word on a fluid's law: a channel of LAMMPS that training never saw; without one, the held-out runs."""

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.config_fluid import ChannelCase, FluidExperiment
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.couple.channel import Comparison, compare
from hpcsurrogate.couple.channel_profile import read_profile
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.evaluate.law import CLASSICAL, read_classical
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline.sweep import do_run, lammps_command
from hpcsurrogate.sources.lammps_runs import LammpsRun, make_run, script_digest

log = get_logger("couple")


def run_couple_law(experiment: FluidExperiment, paths: RunPaths, world: World) -> None:
    """Do the two runs of the channel that are missing, predict the second by every law, write paths.coupling.

    Parameters
    ----------
    experiment : FluidExperiment
    paths : RunPaths
    world : World    its ranks share the runs; all must call this

    Raises
    ------
    ConfigError      if LAMMPS or the script is missing
    DataError        if LAMMPS ended a run early, or what it left, fit.json or the artifact is missing or damaged
    DivergedError    if a law does not carry the force
    """
    case = experiment.couple
    if case is not None:
        _do_runs(experiment, case, paths, world)
    if world.rank == 0:
        outcome = _verdict_of_runs(read_json(paths.fit)) if case is None else _compare(case, paths)
        write_json_atomic(paths.coupling, outcome)
        log.info(outcome["verdict"])
    world.barrier()


def channel_runs(case: ChannelCase) -> tuple[LammpsRun, LammpsRun]:
    """Return the run whose walls move and the one that a force drives."""
    return tuple(
        make_run(dict(case.variables) | {name: getattr(case, name), "seed": 1}, [name]) for name in ("speed", "force")
    )


def _do_runs(experiment: FluidExperiment, case: ChannelCase, paths: RunPaths, world: World) -> None:
    with world.failing_together():
        command, script = lammps_command(experiment.simulate), script_digest(case.script)
        missing = [run for run in channel_runs(case) if run.record(paths.channel, script) is None]
    missing = world.bcast(missing)
    with world.failing_together():
        for run in world.share(missing):
            failure = do_run(run, paths.channel, command, case.script, script)
            if failure is not None:
                raise DataError(f"{failure}; correct couple.script or its variables")


def _compare(case: ChannelCase, paths: RunPaths) -> dict:
    couette, poiseuille = channel_runs(case)
    profiles = [read_profile(paths.channel / run.name / case.profile) for run in (couette, poiseuille)]
    comparison = Comparison.of(*profiles, case.speed, case.force, case.wall_layer, case.cells)
    classical = read_classical(read_json(paths.fit))
    record = poiseuille.record(paths.channel, script_digest(case.script))
    outcome = compare(comparison, load_artifact(paths.law), classical, record["cpu_seconds"])
    if outside := outcome["laws"]["learned"]["faces_outside"]:
        log.warning("%d faces are outside of what the law was trained on: density, temperature or rate", outside)
    return outcome


def _verdict_of_runs(scores: dict) -> dict:
    what = "held-out runs" if scores["held_out"] else "runs of training"
    judged = scores["held_out"] or scores["training"]
    errors = judged["errors"]
    best = min(CLASSICAL, key=lambda name: errors[name]["rms"])
    listed = ", ".join(f"{name} {100 * errors[name]['rms']:.1f} %" for name in errors)
    helped = errors["learned"]["rms"] < errors[best]["rms"]
    verdict = f"Viscosity of the {what} is off by: {listed}; their own noise is {100 * judged['noise']:.1f} %."
    return {"verdict": verdict, "helped": helped, "best_classical": best}
