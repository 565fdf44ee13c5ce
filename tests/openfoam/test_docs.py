"""docs/openfoam.md: the dictionaries on the page are some that run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from hpcsurrogate.export.cell_closure import EddyViscosityStress
from tests.openfoam.artifacts import KnownForce, write_known_force, write_reynolds
from tests.openfoam.cases import channel, steady_step

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/openfoam.md"


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


def test_the_lines_from_pimplefoam_to_a_verdict_run(library, tmp_path):
    """As written, on the page's own cases, made small and short."""
    lines = re.search(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    assert len(lines.splitlines()) <= 15
    shutil.copytree(ROOT / "configs/openfoam", tmp_path / "configs/openfoam")
    for case, cells, step in (("fine", "(12 16 12)", "0.1"), ("coarse", "(6 8 6)", "0.2")):
        system = tmp_path / "configs/openfoam/channel" / case / "system"
        change(system / "blockMeshDict", r"cells \(.*\)", f"cells {cells}")
        for key, value in {"endTime": "6", "deltaT": step, "writeInterval": "0.2"}.items():
            change(system / "controlDict", rf"{key} .*;", f"{key} {value};")
    # The target is the library's script, and where it puts the file; the fixture has built it.
    (tmp_path / "Makefile").write_text(
        f"openfoam:\n\tmkdir -p build/openfoam\n\tcp {library} build/openfoam/libhpcsurrogateOpenFOAM.so\n"
    )
    assert "build.sh build/openfoam" in (ROOT / "Makefile").read_text()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PWD": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-e", "-c", lines], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "In coarse runs the mean velocity is off" in done.stderr + done.stdout
    assert (tmp_path / "runs/channel/report.html").is_file()


def change(file, pattern, replacement):
    text, found = re.subn(pattern, replacement, file.read_text())
    assert found, f"{file}: {pattern}"
    file.write_text(text)
