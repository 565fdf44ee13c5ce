"""The RAS model: OpenFOAM's kEpsilon as an artifact, its production, its stress and its restart."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.export.cell_closure import EddyViscosityStress
from tests.openfoam import artifacts
from tests.openfoam.cases import Case, steady_step

NUM_ITERATIONS = 20
MODEL = "hpcsurrogateKEpsilon"
# Both models are the same formula in another order of operations; from a developed flow round-off grows little.
SAME = 1e-10
NAMES = ("U", "k", "epsilon", "nut")


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> Path:
    """The eddy viscosity of kEpsilon as an artifact."""
    return artifacts.write_reynolds(tmp_path_factory.mktemp("linear") / "linear.pt", EddyViscosityStress(0.09))


@pytest.fixture(scope="module")
def developed(tmp_path_factory) -> Path:
    """The flow after some iterations with OpenFOAM's own model: no cell is at rest any more."""
    case = steady_step(tmp_path_factory.mktemp("developed") / "case", NUM_ITERATIONS)
    # Where nut is calculated on a boundary it follows Cmu, not the artifact.
    case.replace("0/nut", r"type\s+calculated;\s*value\s+uniform 0;", "type zeroGradient;")
    case.use_model("kEpsilon")
    case.solve()
    return case.path


def continued(developed: Path, path: Path, num_iterations: int) -> Case:
    """A copy that goes on from the developed flow."""
    shutil.copytree(developed, path)
    case = Case(path, "simpleFoam")
    case.replace("constant/turbulenceProperties", r"kEpsilonCoeffs\s*\{\s*\}", "")
    case.set("system/controlDict", startFrom="latestTime", endTime=str(NUM_ITERATIONS + num_iterations))
    case.set("system/controlDict", writeInterval="1")
    return case


def difference(result: Case, expected: Case, time: int, name: str) -> float:
    """The largest over the largest value."""
    values = expected.field(str(time), name)
    return np.abs(result.field(str(time), name) - values).max() / np.abs(values).max()


@pytest.mark.parametrize(("form", "ranks"), [("stress", 1), ("eddyViscosity", 1), ("stress", 2)])
def test_equals_the_built_in_model_from_rest(form, ranks, library, linear, tmp_path):
    """At the start most cells are not strained at all, and nut has to be k-epsilon's there too.

    Iterations from rest multiply round-off by 1e5. How far that may bring the fields is what the built-in model says
    whose Cmu is changed in its last digit: within it, measured 1e-10 of the velocity after 20 iterations.
    """
    cases = [steady_step(tmp_path / name, NUM_ITERATIONS) for name in ("built-in", "nearly", "ours")]
    built_in, nearly, ours = cases
    built_in.use_model("kEpsilon")
    nearly.use_model("kEpsilon", "Cmu 0.09000000000000002;")
    ours.use_model(MODEL, f'artifact "{linear}"; form {form};', library)
    *_, log = (case.solve(ranks) for case in cases)
    for name in NAMES:
        drift = difference(nearly, built_in, NUM_ITERATIONS, name)
        assert drift < 1e-6 and difference(ours, built_in, NUM_ITERATIONS, name) < 10 * drift, name
    num_cells = len(ours.field(str(NUM_ITERATIONS), "nut"))
    assert f"of {num_cells * (NUM_ITERATIONS + 1)} cells so far 0 got the classical closure" in log


def test_production_is_that_of_the_stress_in_both_equations(library, developed, tmp_path):
    """An artifact of twice the viscosity in a model whose Cmu is 0.09 equals a model whose Cmu is 0.18."""
    artifact = artifacts.write_reynolds(tmp_path / "twice.pt", EddyViscosityStress(0.18))
    built_in, ours = (continued(developed, tmp_path / name, 3) for name in ("built-in", "ours"))
    built_in.use_model("kEpsilon", "Cmu 0.18;")
    built_in.solve()
    ours.use_model(MODEL, f'artifact "{artifact}";', library)
    ours.solve()
    for name in NAMES:
        assert difference(ours, built_in, NUM_ITERATIONS + 3, name) < SAME, name


def test_fields_are_the_stress_of_the_artifact(library, developed, tmp_path):
    """nut and nonlinearStress make up the answer to the gradient, k and epsilon that OpenFOAM itself writes."""
    artifact = artifacts.write_reynolds(tmp_path / "curved.pt", artifacts.CurvedStress(0.05))
    case = continued(developed, tmp_path / "case", 5)
    case.use_model(MODEL, f'artifact "{artifact}";', library)
    case.solve()
    case.run("postProcess", "-latestTime", "-func", "grad(U)")
    end = str(NUM_ITERATIONS + 5)
    gradient = case.field(end, "grad(U)").reshape(-1, 3, 3).transpose(0, 2, 1)  # G_ij = du_i/dx_j
    inputs = (gradient.reshape(-1, 9), case.field(end, "k"), case.field(end, "epsilon"))
    stress = load_artifact(artifact)(*(torch.from_numpy(np.ascontiguousarray(a)) for a in inputs)).numpy()
    strain = 0.5 * (gradient + gradient.transpose(0, 2, 1))
    strain -= np.trace(strain, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)
    strain = strain[:, *np.triu_indices(3)]
    nut, nonlinear = case.field(end, "nut"), case.field(end, "nonlinearStress")
    assert np.abs(nonlinear).max() > 0.01 * np.abs(stress).max()
    np.testing.assert_allclose(nonlinear - 2 * nut[:, None] * strain, stress, rtol=0, atol=1e-12 * np.abs(stress).max())


def test_restarted_run_goes_on_as_if_it_had_not_ended(library, developed, tmp_path):
    artifact = artifacts.write_reynolds(tmp_path / "curved.pt", artifacts.CurvedStress(0.05))
    whole, halves = (continued(developed, tmp_path / name, 6) for name in ("whole", "halves"))
    for case in (whole, halves):
        case.use_model(MODEL, f'artifact "{artifact}";', library)
    whole.solve()
    halves.set("system/controlDict", endTime=str(NUM_ITERATIONS + 3))
    halves.solve()
    halves.set("system/controlDict", endTime=str(NUM_ITERATIONS + 6))
    halves.solve()
    for name in (*NAMES, "nonlinearStress"):
        assert difference(halves, whole, NUM_ITERATIONS + 6, name) < SAME, name


def test_a_stress_that_gives_energy_back_takes_it_from_the_turbulence(library, developed, tmp_path):
    """The same artifact in both forms: as an eddy viscosity, which is zero then, it gives and takes nothing."""
    artifact = artifacts.write_reynolds(tmp_path / "backscatter.pt", artifacts.CurvedStress(-0.02))
    energy = {}
    for form in ("stress", "eddyViscosity"):
        case = continued(developed, tmp_path / form, 1)
        case.use_model(MODEL, f'artifact "{artifact}"; form {form};', library)
        case.solve()
        energy[form] = case.field(str(NUM_ITERATIONS + 1), "k")
    assert energy["stress"].mean() < 0.99 * energy["eddyViscosity"].mean()


def test_what_is_wrong_is_said_with_the_line_of_the_dictionary(library, smagorinsky, linear, tmp_path):
    case = steady_step(tmp_path / "case", 1)
    case.use_model(MODEL, f'artifact "{smagorinsky}";', library)
    done = case.run("simpleFoam", check=False)
    assert done.returncode == 1 and "Starting time loop" not in done.stdout
    for word in ("FOAM FATAL IO ERROR", f"turbulenceProperties.RAS.{MODEL}Coeffs", "line", "turbulent_energy"):
        assert word in done.stderr
    weak = artifacts.write_reynolds(tmp_path / "weak.pt", EddyViscosityStress(0.09), largest=1e-9)
    case.replace("constant/turbulenceProperties", str(smagorinsky), str(weak))
    done = case.run("simpleFoam", check=False)
    # At rest no cell is beyond any range, but those at the inlet and the walls are.
    assert done.returncode == 0 and "got the classical closure: outside" in done.stdout
