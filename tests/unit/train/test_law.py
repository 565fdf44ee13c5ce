"""The training finds a fluid's law from noisy runs, and knows how well."""

import json

import numpy as np
import pytest
import torch

from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.material import MaterialFile, MaterialSamples, write_material
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.evaluate.law import LawSamples, fit_carreau
from hpcsurrogate.models.viscous_law import ViscousLaw
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline.law import run_fit_law
from hpcsurrogate.train.law import fit_ensemble

RATES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)


def viscosity(density, temperature, rate):
    """Of a fluid that thins; near the one of docs/lammps.md."""
    return 3.2 * np.exp(6 * (density - 0.84) - 0.5 * (temperature - 0.7)) * (1 + (rate / 0.4) ** 2) ** -0.2


def made_runs(noise, seed=0, rates=RATES, densities=(0.78, 0.81, 0.84), temperatures=(0.7, 0.85, 1.0)):
    """Runs of shear with a Gaussian error in every component of the stress."""
    random = np.random.default_rng(seed)
    density, temperature, rate = (part.ravel() for part in np.meshgrid(densities, temperatures, rates, indexing="ij"))
    gradient, stress = np.zeros((len(rate), 9)), np.zeros((len(rate), 6))
    gradient[:, 1] = rate
    pressure = 10 * density**2 + temperature + 0.5 * rate**2
    stress[:, 1] = viscosity(density, temperature, rate) * rate
    for component in (0, 3, 5):
        stress[:, component] = -pressure
    error = np.full_like(stress, noise)
    return MaterialSamples(
        density, temperature, gradient, stress + noise * random.standard_normal(stress.shape), error,
        np.arange(len(rate)), np.isclose(rate, 0.2),
    )  # fmt: skip


def experiment(run_dir, **train):
    content = {
        "name": "made",
        "run_dir": str(run_dir),
        "simulate": {"kind": "lammps", "script": "none", "grid": {"rate": [1.0]}},
        "train": {"model": {"kind": "viscous_law", "channels": 8}, "members": 3, "epochs": 1500} | train,
    }
    return FluidExperiment.model_validate_json(json.dumps(content))


@pytest.fixture
def paths(tmp_path):
    found = RunPaths(tmp_path)
    samples = made_runs(noise=5e-3)
    write_material(found.material, samples, MaterialFile("lj", tuple(map(str, samples.state)), "made"))
    return found


def test_a_law_is_found_from_noisy_runs_and_its_intervals_hold(paths):
    scores = run_fit_law(experiment(paths.run_dir), paths, World())
    held_out = scores["held_out"]
    # Noise is 1 % of the stress at rate 0.2; the law, of many runs, must be much nearer to the truth than one run is.
    assert held_out["errors"]["learned"]["rms"] < 0.02
    assert held_out["errors"]["learned"]["rms"] < 0.2 * held_out["errors"]["newtonian"]["rms"]
    assert held_out["coverage"]["95 %"] > 0.7
    rest = {(row["density"], row["temperature"]): row for row in scores["viscosity_at_rest"]}
    for (density, temperature), row in rest.items():
        assert row["viscosity"] == pytest.approx(viscosity(density, temperature, 0), rel=0.03)
    assert json.loads(paths.fit.read_text()) == scores
    artifact = load_artifact(paths.law)
    again = ViscousLaw.of_weights(artifact.weights)
    assert again.members == 3 and again.calibration.tolist() == scores["calibration"]
    assert artifact.metadata.certificate.a_priori["learned"]["relative_error_viscosity"] == pytest.approx(
        held_out["errors"]["learned"]["rms"]
    )
    cells = [torch.tensor([value], dtype=torch.float64) for value in (0.82, 0.85)]
    gradient = torch.zeros(1, 9, dtype=torch.float64)
    gradient[0, 1] = 0.1
    exact = 0.1 * viscosity(0.82, 0.85, 0.1)
    assert float(artifact(*cells, gradient)[0, 1]) == pytest.approx(exact, rel=0.02)
    assert float(artifact.classical(*cells, gradient)[0, 1]) == pytest.approx(exact, rel=0.3)


def test_carreau_is_recovered_exactly_from_runs_without_noise():
    samples = made_runs(noise=1e-9)
    found = fit_carreau(LawSamples.of(samples, ~samples.held_out))
    unseen = LawSamples.of(samples, samples.held_out)
    exact = viscosity(samples.density, samples.temperature, 0.2)[samples.held_out]
    # The knee 0.4 lies between two of 200 that are 4 % apart.
    assert found(unseen.density, unseen.temperature, unseen.rate).numpy() == pytest.approx(exact, rel=1e-3)


def test_few_long_runs_and_many_short_ones_are_better_than_either():
    short = made_runs(noise=0.04, seed=1)
    long = made_runs(noise=0.004, seed=2, densities=(0.81,), temperatures=(0.85,))
    both = MaterialSamples(
        **{
            name: np.concatenate([getattr(short, name), getattr(long, name)])
            for name in MaterialSamples.__annotations__
        }
    )
    truth = made_runs(noise=1e-9)
    exact = viscosity(truth.density, truth.temperature, truth.velocity_gradient[:, 1])
    errors = {}
    for name, samples in (("short", short), ("long", long), ("both", both)):
        law = fit_carreau(LawSamples.of(samples, np.full(len(samples.density), True)))
        states = LawSamples.of(truth, np.full(len(exact), True))
        found = law(states.density, states.temperature, states.rate).numpy()
        errors[name] = np.sqrt(np.mean((found / exact - 1) ** 2))
    assert errors["both"] < errors["short"] and errors["both"] < errors["long"]


def test_what_cannot_be_fitted_is_said(paths):
    with pytest.raises(ConfigError, match=r"train\.members: 1 has no spread"):
        run_fit_law(experiment(paths.run_dir, members=1), paths, World())
    samples = made_runs(noise=1e-3)
    settings = experiment(paths.run_dir).train
    one = LawSamples.of(samples, samples.state == 0)
    with pytest.raises(DataError, match="1 state is too little"):
        fit_ensemble(settings, one, 0, World())
    wrong = LawSamples.of(samples, ~samples.held_out)
    wrong.stress.mul_(-1)
    with pytest.raises(DataError, match="viscosity of the runs is not positive"):
        fit_ensemble(settings, wrong, 0, World())


def test_a_seed_gives_the_same_law_again(paths):
    samples = made_runs(noise=5e-3)
    settings = experiment(paths.run_dir, members=2, epochs=20).train
    training = LawSamples.of(samples, ~samples.held_out)
    first, second = (fit_ensemble(settings, training, 3, World())[0] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
