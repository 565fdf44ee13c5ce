"""From samples of a fluid to a law of its stress: the ensemble, its calibration, and scores on held-out runs."""

from safetensors.torch import save

from hpcsurrogate.core.atomic import atomic_path, write_json_atomic
from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.material import read_material
from hpcsurrogate.evaluate.law import (
    LawSamples,
    fit_carreau,
    fit_newtonian,
    scores_of,
    viscosities_at_rest,
    viscosity_of,
)
from hpcsurrogate.models.viscous_law import ViscousLaw
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.law import calibration, fit_ensemble

log = get_logger("fit")


def run_fit_law(experiment: FluidExperiment, paths: RunPaths, world: World) -> dict | None:
    """Train on paths.material; write paths.law, the weights, and paths.fit, the scores.

    Parameters
    ----------
    experiment : FluidExperiment
    paths : RunPaths
    world : World    its ranks share the members of the ensemble; all must call this

    Returns
    -------
    dict    what is in paths.fit, on rank 0 alone: `held_out` and `training`, each with the relative errors of the
            viscosity by `learned`, `carreau` and `newtonian`, and the `coverage` of the learned law's intervals;
            `viscosity_at_rest` of every density and temperature; `calibration`

    Raises
    ------
    ConfigError, DataError, DivergedError    if there are too few members or samples, or the loss is not finite
    """
    if experiment.train.members < 2:
        raise ConfigError(f"train.members: {experiment.train.members} has no spread; give 2 or more")
    samples = read_material(paths.material)
    training = LawSamples.of(samples, ~samples.held_out)
    members, folds = fit_ensemble(experiment.train, training, experiment.seed, world)
    if world.rank:
        return None
    law = ViscousLaw.joined([member.chosen([0]) for member in members])
    law.calibration = calibration(members, folds, training)
    rivals = {"learned": viscosity_of(law), "carreau": fit_carreau(training), "newtonian": fit_newtonian(training)}
    scores = {
        "training": scores_of(law, rivals, training),
        "held_out": scores_of(law, rivals, LawSamples.of(samples, samples.held_out))
        if samples.held_out.any()
        else None,
        "viscosity_at_rest": viscosities_at_rest(law, samples),
        "calibration": law.calibration.tolist(),
    }
    with atomic_path(paths.law) as temporary:
        temporary.write_bytes(save({name: value.contiguous() for name, value in law.state_dict().items()}))
    write_json_atomic(paths.fit, scores)
    _say(scores)
    return scores


def _say(scores: dict) -> None:
    for split in ("training", "held_out"):
        if (found := scores[split]) is None:
            continue
        for name, error in found["errors"].items():
            log.info(
                "%s: %-9s viscosity off by %.2f %% (largest %.2f %%); the runs' own noise is %.2f %%",
                split, name, 100 * error["rms"], 100 * error["largest"], 100 * found["noise"],
            )  # fmt: skip
        log.info(
            "%s: intervals cover %s", split, ", ".join(f"{k}: {100 * v:.0f} %" for k, v in found["coverage"].items())
        )
    judged = scores["held_out"] or scores["training"]
    best = min(judged["errors"], key=lambda name: judged["errors"][name]["rms"])
    if best != "learned":
        log.warning("the learned law loses to %s; take that one, or give it more runs", best)
