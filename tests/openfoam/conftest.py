"""The library for OpenFOAM, built once and kept, as those of tests/hosts are; without an OpenFOAM nothing is tested."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.openfoam import artifacts
from tests.openfoam.cases import TUTORIALS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import openfoam_build


@pytest.fixture(scope="session", autouse=True)
def openfoam() -> None:
    """Skip if there is no OpenFOAM here; where CI is set that is a failure."""
    if shutil.which("pimpleFoam") and TUTORIALS.is_dir():
        return
    reason = "no OpenFOAM here; apt-get install openfoam libopenfoam openfoam-examples"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def library(openfoam) -> Path:
    """libhpcsurrogateOpenFOAM.so; at the first call on a machine OpenFOAM's sources are fetched for it."""
    return openfoam_build.library()


@pytest.fixture(scope="session")
def smagorinsky(tmp_path_factory) -> Path:
    """OpenFOAM's Smagorinsky as an artifact in float64."""
    path = tmp_path_factory.mktemp("smagorinsky") / "pointwise.pt"
    return artifacts.write_artifact(path, artifacts.OpenFOAMSmagorinsky())
