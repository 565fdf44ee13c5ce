"""From samples of a fluid to a law of its stress: the ensemble, what its spread is worth, and scores on held-out runs.

Legend: gamma = rate of shear; eta = sigma : D / gamma^2, the viscosity; noise = standard error of a run.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from hpcsurrogate.core.atomic import atomic_path, write_json_atomic
from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.material import MaterialSamples, read_material
from hpcsurrogate.models.viscous_law import ViscousLaw
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.law import LawSamples, fit_ensemble

log = get_logger("fit")

COVERAGES = {"50 %": 0.6745, "68 %": 0.9945, "95 %": 1.96}  # and how many standard deviations of a normal law they are
LARGEST_FACTOR = 100.0
KNEES = 200  # values of gamma_s that Carreau's law is tried with


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


Viscosity = Callable[[LawSamples], Tensor]


def viscosity_of(law: ViscousLaw) -> Viscosity:
    """Return how the ensemble's mean viscosity, shape (n,), follows from samples."""

    def viscosity(samples: LawSamples) -> Tensor:
        return law.coefficients(samples.density, samples.temperature, samples.rate.square())[0].mean(0)

    return viscosity


def fit_newtonian(training: LawSamples) -> Viscosity:
    """Return Newton's law: log viscosity quadratic in density and temperature, whatever the rate."""
    return _fit_log_viscosity(training, None)[1]


def fit_carreau(training: LawSamples) -> Viscosity:
    """Return Carreau's law with all of its constants functions of the state; the strongest classical rival.

    log eta is quadratic in density, temperature and s = log(1 + (gamma / gamma_s)^2) / 2, so that viscosity at rest and
    exponent both depend on the state; gamma_s is the best of many (Carreau 1972, doi:10.1122/1.549276).
    """
    rates = training.rate[training.rate > 0]
    knees = torch.logspace(math.log10(0.1 * rates.min()), math.log10(10 * rates.max()), KNEES, dtype=torch.float64)
    return min((_fit_log_viscosity(training, float(knee)) for knee in knees), key=lambda found: found[0])[1]


def _fit_log_viscosity(training: LawSamples, knee: float | None) -> tuple[float, Viscosity]:
    """Weighted least squares in log eta, on runs whose viscosity is positive; the misfit and the law."""

    def terms(samples: LawSamples) -> Tensor:
        a = samples.density / training.density.mean() - 1
        t = samples.temperature / training.temperature.mean() - 1
        columns = [torch.ones_like(a), a, t, a * a, a * t, t * t]
        if knee is not None:
            s = 0.5 * torch.log1p((samples.rate / knee).square())
            columns += [s, a * s, t * s, s * s]
        return torch.stack(columns, 1)

    shear = training.shear(training.stress)
    usable = (shear > 0) & (training.rate > 0)
    sure = (shear / training.shear_error)[usable]
    wanted = (shear[usable] / training.rate[usable]).log()
    matrix = terms(training)[usable]
    constants = torch.linalg.lstsq(matrix * sure[:, None], (wanted * sure)[:, None], driver="gelsd").solution[:, 0]
    misfit = float(((matrix @ constants - wanted) * sure).square().sum())
    return misfit, lambda samples: (terms(samples) @ constants).exp()


def scores_of(law: ViscousLaw, rivals: dict[str, Viscosity], samples: LawSamples) -> dict:
    """Relative errors of the viscosity, root mean square and largest, and the coverage of the law's intervals."""
    measured = samples.shear(samples.stress) / samples.rate
    noise = samples.shear_error / samples.rate
    errors = {}
    with torch.no_grad():
        for name, viscosity in rivals.items():
            relative = (viscosity(samples) - measured) / measured
            errors[name] = {"rms": float(relative.square().mean().sqrt()), "largest": float(relative.abs().max())}
        error, spread = _errors_and_spread(law, samples)[1]
        spread = (law.calibration[1] * spread).square() + samples.shear_error.square()
    covered = {name: float((error.abs() < width * spread.sqrt()).double().mean()) for name, width in COVERAGES.items()}
    return {
        "runs": len(measured),
        "noise": float((noise / measured).square().mean().sqrt()),
        "errors": errors,
        "coverage": covered,
    }


def calibration(members: list[ViscousLaw], folds: list[Tensor], training: LawSamples) -> Tensor:
    """Return the factors on the spread of pressure and of shear stress, shape (2,), that unseen states ask for.

    With the factor c, the squared errors of the ensembles that did not see a state are on average those of a normal law
    of variance c^2 spread^2 + noise^2.
    """
    parts: tuple[list, list] = ([], [])
    noises: tuple[list, list] = ([], [])
    with torch.no_grad():
        for number, rows in enumerate(folds, 1):
            law, unseen = ViscousLaw.joined([member.chosen([number]) for member in members]), training.at(rows)
            for part, found in zip(parts, _errors_and_spread(law, unseen), strict=True):
                part.append(torch.stack(found))
            noises[0].append(unseen.pressure_error)
            noises[1].append(unseen.shear_error)
    return torch.stack(
        [_factor(*torch.cat(part, 1), torch.cat(noise)) for part, noise in zip(parts, noises, strict=True)]
    )


def _errors_and_spread(law: ViscousLaw, samples: LawSamples) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Error of the mean and standard deviation of the members, of the pressure and of the shear stress, (n,) each."""
    pressure, deviator = law.parts(samples.density, samples.temperature, samples.gradient)
    shear = samples.shear(deviator)
    return (
        (pressure.mean(0) - samples.pressure, pressure.std(0)),
        (shear.mean(0) - samples.shear(samples.stress), shear.std(0)),
    )


def _factor(error: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
    low, high = 1 / LARGEST_FACTOR, LARGEST_FACTOR
    for _ in range(60):
        middle = math.sqrt(low * high)
        too_sure = (error.square() / ((middle * spread).square() + noise.square())).mean() > 1
        low, high = (middle, high) if too_sure else (low, middle)
    return torch.tensor(high, dtype=torch.float64)


def viscosities_at_rest(law: ViscousLaw, samples: MaterialSamples) -> list[dict[str, float]]:
    """The law at a vanishing rate, with its standard deviation, for every density and temperature of the sweep."""
    columns = np.stack((samples.density, samples.temperature), 1)
    # A thermostat holds its temperature to some thousandths: runs that agree so far are of one state.
    _, group = np.unique(np.stack((columns[:, 0].round(6), columns[:, 1].round(2)), 1), axis=0, return_inverse=True)
    means = np.stack([columns[group.ravel() == number].mean(0) for number in range(group.max() + 1)])
    density, temperature = torch.from_numpy(means).unbind(1)
    with torch.no_grad():
        viscosity = law.coefficients(density, temperature, torch.zeros_like(density))[0]
    deviation = viscosity.std(0) * law.calibration[1]
    return [
        {"density": float(a), "temperature": float(t), "viscosity": float(v), "standard_deviation": float(d)}
        for a, t, v, d in zip(density, temperature, viscosity.mean(0), deviation, strict=True)
    ]


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
