"""Small cases from the tutorials of OpenFOAM, changed and run as a user would; nothing of them is kept here."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TUTORIALS = Path("/usr/share/doc/openfoam-examples/examples")
WRITTEN = {
    "writeFormat": "ascii",
    "writePrecision": "17",  # a double comes back as the same one
    "timePrecision": "10",
    "writeCompression": "off",
    "runTimeModifiable": "no",
}


@dataclass
class Case:
    """A case in a folder of its own."""

    path: Path
    solver: str

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """Run a program of OpenFOAM in the case, its floating-point traps set."""
        surroundings = {
            "WM_PROJECT_DIR": "/usr/share/openfoam",
            "PWD": str(self.path),  # taken for where it is; that of the tests may hold a space, which it does not bear
            "FOAM_SIGFPE": "true",
            "OMP_NUM_THREADS": "1",
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_rmaps_base_oversubscribe": "1",
            "OMPI_MCA_mpi_yield_when_idle": "1",
        }
        done = subprocess.run(
            command,
            cwd=self.path,
            env={**os.environ, **surroundings, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def solve(self, ranks: int = 1) -> str:
        """Run the solver, on several ranks through decomposePar and reconstructPar, and return its log."""
        if ranks == 1:
            return self.run(self.solver).stdout
        self.run("decomposePar", "-force")
        # OpenFOAM's own MPI, not one that is on the PATH before it.
        log = self.run("/usr/bin/mpirun", "-np", str(ranks), self.solver, "-parallel").stdout
        self.run("reconstructPar")
        return log

    def set(self, file: str, **entries: str) -> None:
        """Change the first entries of these names in a file, or put them at its end."""
        text = (self.path / file).read_text()
        for key, value in entries.items():
            text, found = re.subn(rf"(?m)^(\s*{key}\s+)[^;{{]*;", rf"\g<1>{value};", text, count=1)
            text += "" if found else f"\n{key} {value};\n"
        (self.path / file).write_text(text)

    def replace(self, file: str, pattern: str, replacement: str) -> None:
        """Replace what a regular expression finds, which it has to."""
        text, found = re.subn(pattern, replacement, (self.path / file).read_text())
        assert found, f"{file}: {pattern} is not in it"
        (self.path / file).write_text(text)

    def use_model(self, name: str, coefficients: str = "", library: Path | None = None) -> None:
        """Choose the LES or RAS model, with the content of its dictionary, and the library that holds it."""
        kind = "RASModel" if "RASModel" in (self.path / "constant/turbulenceProperties").read_text() else "LESModel"
        self.set("constant/turbulenceProperties", **{kind: name})
        text = (self.path / "constant/turbulenceProperties").read_text()
        (self.path / "constant/turbulenceProperties").write_text(
            text.replace(f"{name};", f"{name};\n    {name}Coeffs\n    {{\n{coefficients}\n    }}\n", 1)
        )
        if library is not None:
            self.set("system/controlDict", libs=f'("{library}")')

    def make_uniform_parabola(self, cells: tuple[int, int, int]) -> None:
        """Make of the channel cells of one size, and u = y (2 - y) [m/s] along it that no force drives."""
        self.replace("system/blockMeshDict", r"simpleGrading \(1 [\d.]+ 1\)", "simpleGrading (1 1 1)")
        (self.path / "constant/fvOptions").unlink()
        self.replace("system/fvSolution", r"tolerance\s+1e-0[56]", "tolerance 1e-13")
        self.run("blockMesh")
        nx, ny, nz = cells
        half = (np.arange(ny) + 0.5) / ny
        values = [y * (2 - y) for y in np.concatenate((half, 1 + half))]
        rows = "\n".join(
            f"({u:.17g} 0 0)" for part in (values[:ny], values[ny:]) for _ in range(nz) for u in part for _ in range(nx)
        )
        self.replace(
            "0/U",
            r"(?s)internalField[^;]*;",
            f"internalField nonuniform List<vector> {2 * nx * ny * nz}\n(\n{rows}\n);",
        )

    def acceleration_of_parabola(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Return y [m] and the mean change of the parabola's velocity [m/s^2] over the run, in the middle half."""
        self.run("postProcess", "-latestTime", "-func", "writeCellCentres")
        velocity, y = self.field(f"{time:g}", "U"), self.field(f"{time:g}", "C")[:, 1]
        velocity[:, 0] -= y * (2 - y)
        middle = np.abs(y - 1) < 0.5
        return y[middle], velocity[middle] / time

    def field(self, time: str, name: str) -> np.ndarray:
        """Return the values of a field in the cells, shape (cells,) or (cells, components)."""
        text = (self.path / time / name).read_text()
        match = re.search(r"internalField\s+nonuniform\s+List<\w+>\s+\d+\s*\(\n(.*?)\n\)\s*;", text, re.DOTALL)
        assert match, f"{time}/{name}: no list of values in it"
        rows = match.group(1).replace("(", " ").replace(")", " ").split("\n")
        values = np.array(" ".join(rows).split(), dtype=np.float64)
        return values.reshape(len(rows), -1).squeeze(1) if len(rows) == len(values) else values.reshape(len(rows), -1)


def channel(path: Path, num_steps: int, cells: tuple[int, int, int] = (20, 13, 16)) -> Case:
    """Make the turbulent channel of the tutorials with so many cells in each half, started from noise on its mean flow.

    Noise has gradients of all directions, and a divergence until the first pressure has taken it away.
    """
    shutil.copytree(TUTORIALS / "incompressible/pimpleFoam/LES/channel395", path)
    shutil.rmtree(path / "0")
    (path / "0.orig").rename(path / "0")
    case = Case(path, "pimpleFoam")
    case.replace("system/blockMeshDict", r"\(40 25 30\)", "({} {} {})".format(*cells))
    case.replace("system/controlDict", r"(?s)functions\s*\{.*\}", "")
    case.set(
        "system/controlDict", endTime=f"{0.2 * num_steps:g}", writeInterval=str(num_steps), deltaT="0.2", **WRITTEN
    )
    case.replace("system/fvSchemes", r"divSchemes\s*\{", "divSchemes\n{\n    div(nonlinearStress) Gauss linear;\n")
    case.replace("system/decomposeParDict", r"numberOfSubdomains\s+4", "numberOfSubdomains 2")
    case.replace("system/decomposeParDict", r"\(1 2 2\)", "(2 1 1)")
    case.set("system/fvSolution", pRefCell="0")
    case.run("blockMesh")
    num_cells = 2 * cells[0] * cells[1] * cells[2]
    noise = np.random.default_rng(0).normal(0, 0.02, (num_cells, 3)) + (0.1335, 0, 0)
    values = "\n".join("({:.17g} {:.17g} {:.17g})".format(*row) for row in noise)
    case.replace("0/U", r"internalField[^;]*;", f"internalField nonuniform List<vector> {num_cells}\n(\n{values}\n);")
    return case


def step(path: Path, num_steps: int) -> Case:
    """Make the flow over a backward-facing step of the tutorials, on its own mesh of 12,225 cells."""
    shutil.copytree(TUTORIALS / "incompressible/pisoFoam/LES/pitzDaily", path)
    case = Case(path, "pisoFoam")
    case.replace("system/controlDict", r"(?s)functions\s*\{.*\}", "")
    case.set("system/controlDict", endTime=f"{1e-5 * num_steps:g}", writeInterval=str(num_steps), **WRITTEN)
    case.replace("system/fvSchemes", r"divSchemes\s*\{", "divSchemes\n{\n    div(nonlinearStress) Gauss linear;\n")
    return _divided_in_two(case)


def steady_step(path: Path, num_iterations: int) -> Case:
    """Make the mean flow over the same step, by iterations that start from rest; it has div(nonlinearStress)."""
    shutil.copytree(TUTORIALS / "incompressible/simpleFoam/pitzDaily", path)
    case = Case(path, "simpleFoam")
    case.replace("system/controlDict", r"(?s)functions\s*\{.*\}", "")
    case.set("system/controlDict", endTime=str(num_iterations), writeInterval=str(num_iterations), **WRITTEN)
    return _divided_in_two(case)


def _divided_in_two(case: Case) -> Case:
    header = "FoamFile { version 2.0; format ascii; class dictionary; object decomposeParDict; }\n"
    body = "numberOfSubdomains 2;\nmethod simple;\ncoeffs { n (2 1 1); }\n"
    (case.path / "system/decomposeParDict").write_text(header + body)
    case.run("blockMesh")
    return case
