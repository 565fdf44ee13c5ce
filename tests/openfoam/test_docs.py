"""docs/openfoam.md: the dictionaries on the page are some that run."""

import re
import shutil
from pathlib import Path

from hpcsurrogate.export.cell_closure import EddyViscosityStress
from tests.openfoam.artifacts import KnownForce, write_known_force, write_reynolds
from tests.openfoam.cases import channel, steady_step

PAGE = Path(__file__).resolve().parents[2] / "docs/openfoam.md"


def test_dictionaries_of_the_page_run(library, smagorinsky, tmp_path):
    libs, turbulence = re.findall(r"```cpp\n(.*?)```", PAGE.read_text(), re.DOTALL)
    case = channel(tmp_path / "case", 2, (3, 4, 2))
    with (case.path / "system/controlDict").open("a") as file:
        file.write(libs.replace("build/openfoam/libhpcsurrogateOpenFOAM.so", str(library)))
    header = "FoamFile { version 2.0; format ascii; class dictionary; object turbulenceProperties; }\n"
    (case.path / "constant/turbulenceProperties").write_text(header + turbulence)
    for file in (smagorinsky, smagorinsky.with_name("pointwise.pt.sha256")):
        shutil.copy(file, case.path / "constant")
    log = case.solve()
    assert "Selecting LES turbulence model hpcsurrogate" in log
    # 3 x 8 x 2 cells, once at the start and once in each of two steps.
    assert "hpcsurrogate: of 144 cells so far 0 got the classical closure: outside 0" in log


def test_reynolds_stress_of_the_page_runs(library, tmp_path):
    (turbulence,) = re.findall(r"```c\n(simulationType RAS.*?)```", PAGE.read_text(), re.DOTALL)
    case = steady_step(tmp_path / "case", 2)
    case.set("system/controlDict", libs=f'("{library}")')
    header = "FoamFile { version 2.0; format ascii; class dictionary; object turbulenceProperties; }\n"
    (case.path / "constant/turbulenceProperties").write_text(header + turbulence)
    write_reynolds(case.path / "constant/anisotropy.pt", EddyViscosityStress(0.09))
    # 12,225 cells, once at the start and once in each of two iterations.
    assert "hpcsurrogate: of 36675 cells so far 0 got the classical closure: outside 0" in case.solve()


def test_force_of_the_page_runs(library, tmp_path):
    (force,) = re.findall(r"```c\n(canopy.*?)```", PAGE.read_text(), re.DOTALL)
    case = channel(tmp_path / "case", 2, (3, 4, 2))
    case.set("constant/turbulenceProperties", simulationType="laminar")
    case.set("system/controlDict", libs=f'("{library}")')
    header = "FoamFile { version 2.0; format ascii; class dictionary; object fvOptions; }\n"
    (case.path / "constant/fvOptions").write_text(header + force)
    write_known_force(case.path / "constant/force.pt", KnownForce(1e-3))
    # 3 x 8 x 2 cells in each of two steps.
    assert "hpcsurrogate: of 96 cells so far 0 got the classical closure: outside 0" in case.solve()
