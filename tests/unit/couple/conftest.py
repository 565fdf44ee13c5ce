"""Small recorded flows, and an exported closure, for the tests of the coarse runs."""

import math

import pytest
import torch
from torch import Tensor, nn

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.metadata import (
    ArtifactMetadata,
    Certificate,
    FallbackDescription,
    FieldPort,
    FilterDescription,
    HostDescription,
    ValidityRange,
)
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.script import artifact_bytes, script_module, write_artifact
from hpcsurrogate.parallel.world import World

DNS = {
    "kind": "dns",
    "grid": (48, 48),
    "realisations": 3,
    "duration": 1.2,
    "snapshot_interval": 0.1,
    "initial_wavenumber": 3,
    "time_step": 0.0125,
    "cfl": 0.9,
}


def make_experiment(**changes) -> Experiment:
    """An experiment on decaying turbulence; `changes` replace whole sections or single keys of one."""
    sections = {
        "name": "couple-test",
        "run_dir": "run",
        "flow": {"viscosity": 2e-3},
        "host": {"kind": "finite_volume", "grid": (16, 16), "time_step": 0.05},
        "simulate": dict(DNS),
        "prepare": {"filter": {"kind": "face_average"}, "split": {"train": (0,), "validation": (1,), "test": (2,)}},
        "train": {"engine": "none", "model": {"kind": "cnn"}},
        "couple": {
            "duration": 1.0,
            "starts": 2,
            "lengthen_steps": False,
            "contenders": ({"name": "bare", "closure": {"kind": "none"}},),
        },
    }
    for key, value in changes.items():
        sections[key] = sections[key] | value if isinstance(value, dict) else value
    return Experiment.model_validate(sections)


@pytest.fixture(scope="session", name="make_experiment")
def experiment_factory():
    return make_experiment


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> RunPaths:
    """Three realisations of 13 snapshots on 48 x 48."""
    paths = RunPaths(tmp_path_factory.mktemp("couple"))
    run_simulate(make_experiment(), paths, World())
    return paths


class Damping(nn.Module):
    """A closure with one number: it slows every velocity component down at `rate` [1/s]."""

    reach = 0

    def __init__(self, rate: float):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate))

    def forward(self, velocity_bcxy: Tensor) -> Tensor:
        return -self.rate * velocity_bcxy


@pytest.fixture(scope="session")
def export_damping():
    """Return export(path, experiment, rate, dtype): writes an artifact that damps."""

    def export(path, experiment: Experiment, rate: float, dtype: torch.dtype = torch.float32) -> None:
        port = {"components": ("x", "y"), "layout": "staggered"}
        metadata = ArtifactMetadata(
            name="damping",
            kind="grid",
            inputs=(FieldPort(field="velocity", unit="m/s", **port),),
            outputs=(FieldPort(field="commutator", unit="m/s^2", **port),),
            dtype=str(dtype).removeprefix("torch."),
            filter=FilterDescription(kind="face_average", width=0.1),
            host=HostDescription(kind="finite_volume", order=2, grid_spacing=(2 * math.pi / 16,) * 2, time_step=0.05),
            validity=ValidityRange(velocity_magnitude=(0.0, 1.0), gradient_magnitude=(0.0, 1.0)),
            halo=2,
            fallback=FallbackDescription(kind="smagorinsky", constant=0.17, width=0.1),
            training_data_digest="0" * 64,
            config_digest="0" * 64,
            provenance={},
            certificate=Certificate(residuals={}, a_priori={}),
        )
        module = GridClosure(Damping(rate), metadata.fallback, metadata.validity, "staggered", (0.1, 0.1)).to(dtype)
        generator = torch.Generator().manual_seed(0)
        velocity = torch.randn(1, 2, *experiment.host.grid, generator=generator, dtype=dtype)
        with torch.no_grad():
            write_artifact(path, artifact_bytes(script_module(module), metadata, [velocity], module(velocity)))

    return export
