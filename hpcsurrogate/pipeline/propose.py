"""The next runs of LAMMPS: candidates over the box of the sweep, the best of them, and the record of all rounds."""

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.atomic import read_json, sha256_file, write_json_atomic
from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.material import MaterialSamples, about_material, read_material
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.evaluate.law import LawSamples
from hpcsurrogate.evaluate.propose import choose_runs, error_after
from hpcsurrogate.models.viscous_law import ViscousLaw
from hpcsurrogate.sources.lammps_runs import LammpsRun, planned_runs, read_rounds

log = get_logger("propose")

NUM_CANDIDATES = 512
NUM_RANDOM = 200  # choices at random, beside which the proposed one stands
DIGITS = 3  # of a proposed value
# Of a state that comes from the variables of a run by a linear map: of its spread over the runs, or of its mean, which
# no thermostat holds better in a short run.
LARGEST_MISFIT, LARGEST_FLUCTUATION = 0.2, 0.02


def run_propose(experiment: FluidExperiment, paths: RunPaths) -> dict:
    """Write paths.proposed: `rounds`, whose runs are part of the plan of simulate, and the runs to do `next`.

    Returns
    -------
    dict    what is in the file. A round, and `next`, has its `runs`, each with `variables` and the `expected_error`
            after it; `expected_error` of the viscosity over the sweep's box, root mean square, `now` and after as many
            runs `at_random`; and of the fit that proposes the number of runs and the relative errors of the viscosity,
            `runs_before` and `errors`. `next` is empty without the section, and once a round has taken it

    Raises
    ------
    ConfigError    if the states of the runs are no linear function of the variables in `grid`
    DataError      if proposed.json, the samples or the artifact is missing or damaged

    Notes
    -----
    A round's runs have seeds of their own, so that no run is proposed twice.
    """
    rounds, following = read_rounds(paths.proposed), None
    if experiment.propose is None:
        log.info("the file has no section `propose`: nothing is proposed")
    else:
        following = next_runs(experiment, paths)
        _say(following, list(experiment.simulate.grid))
        if len(rounds) < experiment.propose.rounds:
            rounds, following = [*rounds, following], None
            log.info("round %d of %d: these runs join the sweep", len(rounds), experiment.propose.rounds)
    content = {"rounds": rounds, "next": following}
    write_json_atomic(paths.proposed, content)
    return content


def next_runs(experiment: FluidExperiment, paths: RunPaths) -> dict:
    """Return the runs that the fit in a run directory would gain most from, as in `run_propose`."""
    settings, samples = experiment.propose, read_material(paths.material)
    plan = {run.name: run for run in planned_runs(experiment)}
    runs = [plan[name] for name in about_material(paths.material).runs]
    variables = dict(experiment.simulate.variables) | dict(settings.variables)
    candidates = candidate_states(experiment)
    law = ViscousLaw.of_weights(load_artifact(paths.law).weights)
    viscosity, noise = _viscosity_and_noise(candidates, variables, law, samples, runs)
    factor = float(law.calibration[1])
    chosen, errors = choose_runs(viscosity.log(), factor, noise, settings.runs)
    first_seed = 1 + max(int(run.variables["seed"]) for run in plan.values())
    scores = read_json(paths.fit)
    judged = scores["held_out"] or scores["training"]
    return {
        "runs": [
            {
                "variables": {name: float(column[index]) for name, column in candidates.items()}
                | variables
                | {"seed": first_seed + number},
                "expected_error": errors[number + 1],
            }
            for number, index in enumerate(chosen)
        ],
        "expected_error": {
            "now": errors[0],
            "at_random": _at_random(viscosity.log(), factor, noise, settings.runs, experiment.seed),
        },
        "runs_before": len(runs),
        "errors": {name: error["rms"] for name, error in judged["errors"].items()},
        "material": sha256_file(paths.material),
    }


def candidate_states(experiment: FluidExperiment) -> dict[str, np.ndarray]:
    """Return values of the variables in `grid` that fill the sweep's box evenly, rates of shear in their logarithm.

    Returns
    -------
    dict    name of the variable -> ndarray, shape (NUM_CANDIDATES,), float64, rounded to DIGITS digits
    """
    source, rates = experiment.simulate, set(experiment.ingest.gradient.values())
    points = torch.quasirandom.SobolEngine(len(source.grid), scramble=True, seed=experiment.seed)
    shares = points.draw(NUM_CANDIDATES, dtype=torch.float64).numpy()
    columns = {}
    for name, share in zip(source.grid, shares.T, strict=True):
        values = [value for part in (source, *source.more) for value in part.grid[name]]
        low, high = min(values), max(values)
        is_log = name in rates and low > 0
        column = low * (high / low) ** share if is_log else low + (high - low) * share
        columns[name] = np.array([float(f"{value:.{DIGITS}g}") for value in column])
    return columns


def _viscosity_and_noise(
    candidates: dict[str, np.ndarray],
    variables: dict,
    law: ViscousLaw,
    samples: MaterialSamples,
    runs: list[LammpsRun],
) -> tuple[Tensor, Tensor]:
    """Viscosity of the members, (m, n), and relative standard error of a run, (n,)."""
    density, temperature, rate = _states(candidates, samples, runs)
    with torch.no_grad():
        viscosity = law.coefficients(density, temperature, rate.square())[0]
    error = _stress_error(samples, runs, variables)
    return viscosity, error / (viscosity.mean(0) * rate.clamp_min(torch.finfo(torch.float64).tiny))


def _states(candidates: dict[str, np.ndarray], samples: MaterialSamples, runs: list[LammpsRun]) -> list[Tensor]:
    """Density, temperature and rate of the candidates, by the linear map that the runs' own states follow."""
    known = np.array([[1.0, *(run.variables[name] for name in candidates)] for run in runs])
    wanted = np.stack((np.ones(NUM_CANDIDATES), *candidates.values()), 1)
    shear = LawSamples.of(samples, np.full(len(runs), True)).rate.numpy()
    found = []
    for name, values in (("density", samples.density), ("temperature", samples.temperature), ("rate", shear)):
        constants = np.linalg.lstsq(known, values, rcond=None)[0]
        misfit = np.sqrt(np.mean((known @ constants - values) ** 2))
        if misfit > max(LARGEST_MISFIT * values.std(), LARGEST_FLUCTUATION * values.mean()):
            raise ConfigError(
                f"propose: {name} of the runs is no linear function of {', '.join(candidates)}, so that nobody knows"
                " which run has which state; vary it directly, or remove the section"
            )
        found.append(torch.from_numpy(wanted @ constants))
    return found


def _stress_error(samples: MaterialSamples, runs: list[LammpsRun], variables: dict) -> float:
    """Standard error of the shear stress of a run with these variables: as the others, the shorter the noisier."""
    all_runs = LawSamples.of(samples, np.full(len(runs), True))
    errors, sheared = all_runs.shear_error.numpy(), all_runs.rate.numpy() > 0
    steps = np.array([float(run.variables.get("steps", 1)) for run in runs])
    typical = np.sqrt(np.mean(errors[sheared] ** 2 * steps[sheared]))
    return float(typical / np.sqrt(float(variables.get("steps", steps.mean()))))


def _at_random(log_viscosity: Tensor, factor: float, noise: Tensor, count: int, seed: int) -> float:
    random = np.random.default_rng(seed)
    choices = random.integers(log_viscosity.shape[1], size=(NUM_RANDOM, count)).tolist()
    return float(np.mean([error_after(log_viscosity, factor, noise, choice) for choice in choices]))


def _say(following: dict, names: list[str]) -> None:
    expected, judged = following["expected_error"], following["errors"]["learned"]
    log.info(
        "%d runs: viscosity off by %.2f %%, expected over the whole sweep %.2f %%",
        following["runs_before"], 100 * judged, 100 * expected["now"],
    )  # fmt: skip
    for run in following["runs"]:
        state = ", ".join(f"{name} {run['variables'][name]:g}" for name in names)
        log.info("run at %s: %.2f %% expected after it", state, 100 * run["expected_error"])
    log.info("as many runs at random states: %.2f %% expected", 100 * expected["at_random"])
