"""A fluid of few runs learns from another one of many."""

import numpy as np
import pytest
import torch

from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.material import MaterialFile, write_material
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.evaluate.law import LawSamples, scores_of, viscosity_of
from hpcsurrogate.models.viscous_law import ViscousLaw
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline.law import run_fit_law
from hpcsurrogate.train.law import fit_ensemble
from hpcsurrogate.train.law_transfer import read_first_law, scales_for
from tests.unit.train.test_law import experiment, made_runs

TWICE = 2.0


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The artifact of a fluid with 45 runs."""
    paths = RunPaths(tmp_path_factory.mktemp("other"))
    samples = made_runs(noise=5e-3)
    write_material(paths.material, samples, MaterialFile("lj", tuple(map(str, samples.state)), "made"))
    run_fit_law(experiment(paths.run_dir), paths, World())
    return paths.law


def thicker(noise, seed=1):
    """Runs of a fluid that is twice as viscous."""
    samples = made_runs(noise=noise, seed=seed)
    samples.stress[:, 1] += (TWICE - 1) * made_runs(noise=0.0).stress[:, 1]
    return samples


def settings_of(tmp_path, **train) -> FluidExperiment:
    return experiment(tmp_path, **train).train


def test_the_unit_of_viscosity_is_that_of_the_runs(other):
    law = ViscousLaw.of_weights(load_artifact(other).weights)
    samples = thicker(noise=1e-4)
    scales = scales_for(law, LawSamples.of(samples, np.full(len(samples.density), True)))
    assert float(scales[6] / law.scales[6]) == pytest.approx(TWICE, rel=0.01)
    assert torch.equal(scales[[0, 1, 2, 3, 7]], law.scales[[0, 1, 2, 3, 7]])


def test_six_runs_teach_more_to_whom_knows_another_fluid(other, tmp_path):
    few, exact = thicker(noise=2e-2), thicker(noise=1e-9)
    whole = LawSamples.of(exact, np.full(len(exact.density), True))
    errors = {}
    for name, first in (("drawn", None), ("other", str(other))):
        errors[name] = []
        for seed in (0, 1):
            chosen = np.random.default_rng(seed).choice(len(few.density), 6, replace=False)
            settings = settings_of(tmp_path, initialise_from=first, epochs=600)
            members, _ = fit_ensemble(settings, LawSamples.of(few, chosen), 0, World(), read_first_law(settings))
            law = ViscousLaw.joined([member.chosen([0]) for member in members])
            errors[name].append(scores_of(law, {"learned": viscosity_of(law)}, whole)["errors"]["learned"]["rms"])
    assert max(errors["other"]) < 0.5 * min(errors["drawn"])


def test_what_cannot_be_started_from_is_said(other, tmp_path):
    for train, kind, words in (
        ({"initialise_from": str(tmp_path / "none.pt")}, DataError, "none.pt"),
        (
            {"initialise_from": str(other), "model": {"kind": "viscous_law", "channels": 9}},
            ConfigError,
            r"train\.initialise_from: .* has 2 layers of width 8, train\.model 2 of 9; make them equal",
        ),
    ):
        with pytest.raises(kind, match=words):
            read_first_law(settings_of(tmp_path, **train))
