"""From samples of a fluid to a law of its stress: the ensemble, its calibration, scores, and the artifact."""

import torch

from hpcsurrogate.core.atomic import sha256_file, write_json_atomic
from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.metadata import NewtonianDescription, ValidityRange
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.data.material import about_material, read_material
from hpcsurrogate.evaluate.law import (
    LawSamples,
    LogPolynomial,
    fit_carreau,
    fit_newtonian,
    fit_pressure,
    scores_of,
    viscosities_at_rest,
    viscosity_of,
)
from hpcsurrogate.export.law import describe_law, write_law
from hpcsurrogate.models.viscous_law import ViscousLaw
from hpcsurrogate.parallel.world import World
from hpcsurrogate.sources.lammps_units import UNITS
from hpcsurrogate.train.law import calibration, fit_ensemble
from hpcsurrogate.train.law_transfer import read_first_law

log = get_logger("fit")

NUM_GOLDEN_RUNS = 64  # whose states the artifact is tested on whenever it is loaded


def run_fit_law(experiment: FluidExperiment, paths: RunPaths, world: World) -> dict | None:
    """Train on paths.material; write paths.law, the artifact, and paths.fit, the scores.

    Parameters
    ----------
    experiment : FluidExperiment
    paths : RunPaths
    world : World    its ranks share the members of the ensemble; all must call this

    Returns
    -------
    dict    what is in paths.fit, on rank 0 alone: `held_out` and `training`, each with the relative errors of the
            viscosity by `learned`, `carreau` and `newtonian`, and the `coverage` of the learned law's intervals;
            `viscosity_at_rest` of every density and temperature; `calibration`; the classical laws' constants,
            `newtonian` and `carreau`

    Raises
    ------
    ConfigError, DataError, ModelRefusedError    as `read_first_law`
    ConfigError, DataError, DivergedError    if there are too few members or samples, or the loss is not finite
    """
    if experiment.train.members < 2:
        raise ConfigError(f"train.members: {experiment.train.members} has no spread; give 2 or more")
    samples = read_material(paths.material)
    training = LawSamples.of(samples, ~samples.held_out)
    with world.failing_together():
        other = read_first_law(experiment.train)
    members, folds = fit_ensemble(experiment.train, training, experiment.seed, world, other)
    if world.rank:
        return None
    law = ViscousLaw.joined([member.chosen([0]) for member in members])
    law.calibration = calibration(members, folds, training)
    carreau, newtonian = fit_carreau(training), fit_newtonian(training)
    rivals = {"learned": viscosity_of(law), "carreau": carreau, "newtonian": newtonian}
    scores = {
        "training": scores_of(law, rivals, training),
        "held_out": scores_of(law, rivals, LawSamples.of(samples, samples.held_out))
        if samples.held_out.any()
        else None,
        "viscosity_at_rest": viscosities_at_rest(law, samples),
        "calibration": law.calibration.tolist(),
        "carreau": constants_of(carreau),
        "newtonian": constants_of(newtonian),
    }
    _write_artifact(experiment, paths, law, training, newtonian, scores)
    write_json_atomic(paths.fit, scores)
    _say(scores)
    return scores


def constants_of(law: LogPolynomial) -> dict:
    """Return a classical law as JSON; `LogPolynomial(**...)` with the constants as a tensor gives it back."""
    return {
        "density": law.density, "temperature": law.temperature, "constants": law.constants.tolist(), "knee": law.knee
    }  # fmt: skip


def _write_artifact(
    experiment: FluidExperiment, paths: RunPaths, law: ViscousLaw, training: LawSamples, newtonian: LogPolynomial,
    scores: dict,
) -> None:  # fmt: skip
    ranges = (training.gradient.square().sum(1).sqrt(), training.density, training.temperature)
    gradient, density, temperature = ((float(values.min()), float(values.max())) for values in ranges)
    judged = scores["held_out"] or scores["training"]
    best = min(("carreau", "newtonian"), key=lambda name: judged["errors"][name]["rms"])
    metadata = describe_law(
        experiment.name,
        UNITS[about_material(paths.material).units],
        ValidityRange(velocity_magnitude=None, gradient_magnitude=gradient, density=density, temperature=temperature),
        NewtonianDescription(
            density=newtonian.density,
            temperature=newtonian.temperature,
            log_viscosity=tuple(newtonian.constants.tolist()),
            pressure=tuple(fit_pressure(training).tolist()),
        ),
        {
            "target": "viscosity of held-out runs" if scores["held_out"] else "viscosity of the runs of training",
            "learned": _line("learned", judged),
            "best_classical": _line(best, judged),
        },
        sha256_file(paths.material),
        digest(experiment),
    )
    chosen = torch.linspace(0, len(training.density) - 1, min(NUM_GOLDEN_RUNS, len(training.density))).round().long()
    golden = training.at(chosen)
    write_law(paths.law, law, metadata, (golden.density, golden.temperature, golden.gradient.contiguous()))


def _line(name: str, judged: dict) -> dict:
    return {"name": name, "relative_error_viscosity": judged["errors"][name]["rms"]}


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
