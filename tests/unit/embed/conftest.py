"""A small valid artifact: a scripted eddy viscosity, with metadata, golden vectors and checksum."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hpcsurrogate.core.metadata import ArtifactMetadata
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.script import artifact_bytes, script_module, write_artifact

SCRIPT = Path(__file__).parents[3] / "scripts" / "artifact_forgeries.py"
FIELD = {"unit": "m/s", "components": ["x", "y"], "layout": "staggered", "axes": "bcxy"}
METADATA = {
    "schema_version": 2, "name": "laplacian", "kind": "grid", "dtype": "float32",
    "inputs": [FIELD | {"field": "velocity"}], "outputs": [FIELD | {"field": "commutator", "unit": "m/s^2"}],
    "filter": {"kind": "face_average", "width": 0.1},
    "host": {"kind": "finite_volume", "order": 2, "grid_spacing": [0.1, 0.1], "time_step": 0.01},
    "validity": {"velocity_magnitude": [0.0, 1.0], "gradient_magnitude": [0.0, 1.0]},
    "halo": 2, "fallback": {"kind": "smagorinsky", "constant": 0.17, "width": 0.1},
    "training_data_digest": "0" * 64, "config_digest": "0" * 64, "provenance": {},
    "certificate": {"residuals": {}, "a_priori": {}, "a_posteriori": "unverified"},
}  # fmt: skip


class Laplacian(nn.Module):
    """Acceleration = viscosity times the five-point sum of differences."""

    reach = 1

    def __init__(self):
        super().__init__()
        self.viscosity = nn.Parameter(torch.tensor(0.3))

    def forward(self, velocity: Tensor) -> Tensor:
        around = velocity.roll(1, -1) + velocity.roll(-1, -1) + velocity.roll(1, -2) + velocity.roll(-1, -2)
        return self.viscosity * (around - 4 * velocity)


@pytest.fixture
def metadata() -> ArtifactMetadata:
    return ArtifactMetadata.from_json(json.dumps(METADATA))


@pytest.fixture
def laplacian(metadata) -> GridClosure:
    return GridClosure(Laplacian(), metadata.fallback, metadata.validity, "staggered", (0.1, 0.1))


@pytest.fixture
def golden_input() -> Tensor:
    return torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def artifact_path(tmp_path, laplacian, metadata, golden_input) -> Path:
    path = tmp_path / "model.pt"
    with torch.no_grad():
        golden_output = laplacian(golden_input)
    write_artifact(path, artifact_bytes(script_module(laplacian), metadata, [golden_input], golden_output))
    return path


@pytest.fixture(scope="session")
def artifact_forgeries():
    spec = importlib.util.spec_from_file_location("artifact_forgeries", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def good(artifact_forgeries) -> bytes:
    """Content of a small whole artifact."""
    return artifact_forgeries.good_artifact()
