"""The fvOption: what it does to the flow, where, and what ends the run."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.openfoam import artifacts
from tests.openfoam.artifacts import KnownForce, write_known_force
from tests.openfoam.cases import TUTORIALS, Case, channel

CELLS = (4, 16, 4)
VISCOSITY = 2e-5  # [m^2/s] of the tutorial
STEP = 0.2  # [s]
HEADER = "FoamFile { version 2.0; format ascii; class dictionary; object fvOptions; }\n"


def parabola(path: Path, num_steps: int = 1) -> Case:
    """A laminar parabola that nothing drives."""
    case = channel(path, num_steps, CELLS)
    case.make_uniform_parabola(CELLS)
    case.set("constant/turbulenceProperties", simulationType="laminar")
    return case


def add_force(case: Case, library: Path, artifact: Path, entries: str = "", selection: str = "all;") -> None:
    """Put the force among the fvOptions of a case."""
    (case.path / "constant/fvOptions").write_text(
        f'{HEADER}drag\n{{\n    type hpcsurrogateForce;\n    selectionMode {selection}\n    artifact "{artifact}";\n'
        f"    {entries}\n}}\n"
    )
    case.set("system/controlDict", libs=f'("{library}")')


def test_a_uniform_force_accelerates_the_flow_by_itself(library, tmp_path):
    """du/dt = f - 2 nu, exact in cells far from the walls."""
    case = parabola(tmp_path / "case", num_steps=5)
    add_force(case, library, write_known_force(tmp_path / "force.pt", KnownForce(3e-4)))
    log = case.solve()
    _, acceleration = case.acceleration_of_parabola(5 * STEP)
    # Linear solvers end at residuals of 1e-13, of velocities whose change is of order 1e-4.
    np.testing.assert_allclose(acceleration[:, 0], 3e-4 - 2 * VISCOSITY, rtol=1e-6)
    np.testing.assert_allclose(acceleration[:, 1:], 0, atol=1e-10)
    num_cells = 2 * np.prod(CELLS)
    assert f"of {5 * num_cells} cells so far 0 got the classical closure" in log


def test_every_input_arrives_where_the_artifact_expects_it(library, tmp_path):
    """f_x = b du/dy + c u, f_z = d Delta, all three of them known for a parabola in cells of one size."""
    b, c, d = 2e-4, 3e-4, 5e-4
    case = parabola(tmp_path / "case")
    add_force(case, library, write_known_force(tmp_path / "force.pt", KnownForce(0.0, b, c, d)))
    case.solve()
    y, acceleration = case.acceleration_of_parabola(STEP)
    force = b * (2 - 2 * y) + c * y * (2 - y)
    # The force is that of the velocity before the step; viscosity takes a little of its curvature within the step.
    expected = force - 2 * VISCOSITY - 2 * c * VISCOSITY * STEP
    np.testing.assert_allclose(acceleration[:, 0], expected, rtol=0, atol=1e-6 * c)
    width = np.cbrt(4 * 2 * 2 / (2 * np.prod(CELLS)))  # of a channel 4 m long, 2 m high and 2 m wide
    np.testing.assert_allclose(acceleration[:, 2], d * width, rtol=1e-6)


@pytest.mark.parametrize("ranks", [1, 2])
def test_selected_cells_alone_get_it(ranks, library, tmp_path):
    """One cell, which is on one rank: the momentum of the whole flow grows by that of the cell."""
    end = f"{STEP:g}"
    without, pushed = (parabola(tmp_path / name) for name in ("without", "pushed"))
    artifact = write_known_force(tmp_path / "force.pt", KnownForce(3e-2))
    add_force(pushed, library, artifact, selection="points; points ((0.1 1.01 0.1));")
    without.solve(ranks)
    log = pushed.solve(ranks)
    assert "of 1 cells so far" in log
    gained = (pushed.field(end, "U") - without.field(end, "U")).mean(0)
    # What the push moves reaches the walls, eight cells away, within the step as (nu dt/h^2)^8.
    expected = [3e-2 * STEP / (2 * np.prod(CELLS)), 0, 0]
    np.testing.assert_allclose(gained, expected, rtol=0, atol=1e-6 * expected[0])


def test_beyond_its_range_it_pushes_nothing(library, tmp_path):
    """The parabola reaches 1 m/s: of this artifact all cells above 0.5 m/s are outside."""
    case, alone = parabola(tmp_path / "case"), parabola(tmp_path / "alone")
    artifact = write_known_force(tmp_path / "force.pt", KnownForce(3e-4), largest=0.5)
    add_force(case, library, artifact, "check no;")
    log = case.solve()
    y, acceleration = case.acceleration_of_parabola(STEP)
    assert "get the classical closure, fallback is 0.5" in log
    np.testing.assert_allclose(acceleration[:, 0], -2 * VISCOSITY, rtol=1e-6)
    add_force(case, library, artifact)
    done = case.run("pimpleFoam", check=False)
    assert done.returncode == 1 and "in the starting field" in done.stderr and "fvOptions.drag" in done.stderr
    add_force(case, library, write_known_force(tmp_path / "none.pt", KnownForce(3e-4), largest=1e-9), "check no;")
    case.solve()
    alone.solve()
    assert (case.field(f"{STEP:g}", "U") == alone.field(f"{STEP:g}", "U")).all()


@pytest.mark.parametrize(
    ("artifact", "entries", "words"),
    [
        ("none.pt", "", ["none.pt"]),
        ("stress.pt", "", ["wanted", "body_force", "found", "sgs_stress"]),
        ("force.pt", "fallback 2;", ["0 to 1"]),
        ("force.pt", "check perhaps;", ["check"]),
    ],
)
def test_what_is_wrong_is_said_with_the_line_of_the_dictionary(artifact, entries, words, library, tmp_path):
    write_known_force(tmp_path / "force.pt", KnownForce(3e-4))
    artifacts.write_artifact(tmp_path / "stress.pt", artifacts.ConstantViscosity(1e-5))
    case = parabola(tmp_path / "case")
    add_force(case, library, tmp_path / artifact, entries)
    done = case.run("pimpleFoam", check=False)
    assert done.returncode == 1 and "Starting time loop" not in done.stdout
    for word in ("FOAM FATAL IO ERROR", "constant/fvOptions.drag", "line", *words):
        assert word in done.stderr


def test_a_compressible_solver_does_not_run_on_without_the_force(library, tmp_path):
    shutil.copytree(TUTORIALS / "compressible/rhoPimpleFoam/laminar/sineWaveDamping", tmp_path / "case")
    case = Case(tmp_path / "case", "rhoPimpleFoam")
    (case.path / "system/fvOptions").unlink()
    case.replace("system/controlDict", r"(?s)functions\s*\{.*\}", "")
    add_force(case, library, write_known_force(tmp_path / "force.pt", KnownForce(1.0)))
    case.run("blockMesh")
    done = case.run("rhoPimpleFoam", check=False)
    assert done.returncode == 1 and "drag: hpcsurrogateForce is for incompressible solvers" in done.stderr
