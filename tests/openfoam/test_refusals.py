"""What is wrong ends the run before its first step, in OpenFOAM's own words; what falls back is counted in the log."""

import re
import shutil
from pathlib import Path

import pytest

from tests.hosts.artifacts import write_pointwise_2d
from tests.openfoam import artifacts
from tests.openfoam.cases import Case, channel

CELLS = (3, 4, 2)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A case with its mesh, to be copied."""
    return channel(tmp_path_factory.mktemp("prepared") / "case", 2, CELLS).path


@pytest.fixture
def case(prepared, tmp_path) -> Case:
    shutil.copytree(prepared, tmp_path / "case")
    return Case(tmp_path / "case", "pimpleFoam")


def refuse(case: Case, library: Path, coefficients: str, *words: str) -> None:
    """Run and demand an error of the dictionary, before the first step, that holds these words."""
    case.use_model("hpcsurrogate", coefficients, library)
    done = case.run("pimpleFoam", check=False)
    assert done.returncode == 1
    assert "FOAM FATAL IO ERROR" in done.stderr
    assert "Starting time loop" not in done.stdout
    for word in ("turbulenceProperties", *words):
        assert word in done.stderr


def test_missing_artifact(case, library):
    refuse(case, library, 'artifact "none.pt";', str(case.path / "none.pt"))


def test_no_artifact_named(case, library):
    refuse(case, library, "fallback 0.5;", "artifact")


def test_damaged_artifact(case, library, smagorinsky):
    for file in (smagorinsky, smagorinsky.with_name("pointwise.pt.sha256")):
        shutil.copy(file, case.path / "constant")
    with (case.path / "constant/pointwise.pt").open("r+b") as file:
        file.seek(2000)
        file.write(b"x")
    refuse(case, library, 'artifact "constant/pointwise.pt";', "SHA-256")


def test_artifact_of_two_dimensions(case, library):
    artifact = write_pointwise_2d(case.path / "flat.pt")
    refuse(case, library, f'artifact "{artifact}";', "flat.pt", "no closure of kind pointwise in three dimensions")


@pytest.mark.parametrize(
    ("key", "word"),
    [("fallback 2;", "0 to 1"), ("form stresses;", "stress or eddyViscosity"), ("check perhaps;", "check")],
)
def test_wrong_key(case, library, smagorinsky, key, word):
    refuse(case, library, f'artifact "{smagorinsky}"; {key}', word)


def test_missing_scheme(case, library, smagorinsky):
    case.replace("system/fvSchemes", r"div\(nonlinearStress\) Gauss linear;", "")
    case.use_model("hpcsurrogate", f'artifact "{smagorinsky}";', library)
    done = case.run("pimpleFoam", check=False)
    assert done.returncode == 1 and "div(nonlinearStress)" in done.stderr
    assert "Starting time loop" not in done.stdout


def test_flow_beyond_the_trained_range(case, library):
    """All cells of the noise have steeper gradients than this artifact knows."""
    core = artifacts.OpenFOAMSmagorinsky()
    artifact = artifacts.write_artifact(case.path / "weak.pt", core, largest_gradient=1e-6)
    refuse(case, library, f'artifact "{artifact}";', "48 of 48 cells get the classical closure")
    case.replace("constant/turbulenceProperties", 'weak.pt";', 'weak.pt"; check no;')
    done = case.run("pimpleFoam")
    num_cells = 2 * CELLS[0] * CELLS[1] * CELLS[2]
    assert len(re.findall("48 of 48 cells get the classical closure", done.stdout)) == 1  # one warning
    assert f"of {3 * num_cells} cells so far {3 * num_cells} got the classical closure: outside" in done.stdout


def test_artifact_of_a_force(case, library):
    artifact = artifacts.write_known_force(case.path / "force.pt", artifacts.KnownForce(1.0))
    refuse(case, library, f'artifact "{artifact}";', "wanted", "sgs_stress", "found", "body_force")
