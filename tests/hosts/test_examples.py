"""The programs of docs/examples, which docs/hosts.md shows: built as the page says, and equal in all languages."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from random_artifacts import random_velocity, write_random_artifact

from hpcsurrogate.core.config import FiniteVolumeHost, Flow

PROJECT = Path(__file__).parents[2]
EXAMPLES = PROJECT / "docs/examples"
HOST = FiniteVolumeHost(kind="finite_volume", grid=(64, 64), time_step=0.01)
FLOW = Flow(viscosity=1e-3, domain=(2 * math.pi, 2 * math.pi))
LINE = r"u (-?\d*\.\d+) cells (\d+) outside (\d+) not finite (\d+) failed (\d+)\n"


@pytest.fixture(scope="module")
def programs(build_host) -> dict[str, list[str]]:
    compiled = {language: build_host(EXAMPLES, f"closure_{language}") for language in ("c", "cpp", "fortran")}
    commands = {language: [str(program)] for language, program in compiled.items()}
    return commands | {"python": [sys.executable, str(EXAMPLES / "closure.py")]}


def artifact(path: Path, strength: float = 1.0, dtype: torch.dtype = torch.float64) -> Path:
    """A random network whose trained range is that of noise of so many m/s."""
    write_random_artifact(path, {"kind": "quadratic_stencil"}, HOST, FLOW, strength * random_velocity(HOST, dtype))
    return path


def run(command: list[str], path: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        [*command, str(path)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def results(programs: dict[str, list[str]], path: Path) -> dict[str, tuple[float, list[int]]]:
    found = {}
    for language, command in programs.items():
        done = run(command, path)
        match = re.fullmatch(LINE, done.stdout)
        assert done.returncode == 0 and match, f"{language}: {done.stdout}{done.stderr}"
        found[language] = float(match[1]), [int(count) for count in match.groups()[1:]]
    return found


def test_all_languages_arrive_at_the_same_field(programs, tmp_path):
    found = results(programs, artifact(tmp_path / "model.pt"))
    start = math.sin(2 * math.pi * 6 / 64) * math.cos(2 * math.pi * 7.5 / 64)
    value, counts = found["python"]
    assert abs(value - start) > 1e-4, "the closure must move the field, or the comparison shows nothing"
    assert counts == [10 * 64 * 64, 0, 0, 0]
    assert found == {language: (pytest.approx(value, abs=2e-12), counts) for language in programs}


def test_all_languages_see_the_same_cells_fall_back(programs, tmp_path):
    """Trained on a flow too slow for these vortices: part of the cells are outside, then the time step is cut."""
    found = results(programs, artifact(tmp_path / "model.pt", strength=0.05))
    value, counts = found["python"]
    assert counts[0] // 2 < counts[1] < counts[0]
    assert found == {language: (pytest.approx(value, abs=2e-12), counts) for language in programs}


@pytest.mark.parametrize("language", ["c", "cpp", "fortran", "python"])
def test_a_missing_model_is_one_line(programs, tmp_path, language):
    done = run(programs[language], tmp_path / "model.pt")
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "model.pt" in done.stderr


@pytest.mark.parametrize("language", ["c", "cpp", "fortran"])
def test_an_artifact_for_another_grid_is_refused(programs, tmp_path, language):
    coarse = HOST.model_copy(update={"grid": (32, 32)})
    write_random_artifact(tmp_path / "model.pt", {"kind": "quadratic_stencil"}, coarse, FLOW, random_velocity(coarse))
    done = run(programs[language], tmp_path / "model.pt")
    assert done.returncode == 1
    assert "grid spacing" in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_build_commands_of_the_page_build_them(tmp_path, is_long):
    """In the short form the page must at least say what the tests' own build does."""
    page = (PROJECT / "docs/hosts.md").read_text(encoding="utf-8")
    (block,) = [text for text in re.findall(r"^```bash\n(.*?)^```$", page, re.M | re.S) if "cmake -S" in text]
    assert 'cmake -S docs/examples -B build -DCMAKE_PREFIX_PATH="$(hpcsurrogate cmake-dir)"' in block
    if not is_long:
        return
    (tmp_path / "docs").symlink_to(PROJECT / "docs")
    (tmp_path / "run").mkdir()
    artifact(tmp_path / "run/model.pt")
    command = tmp_path / "bin/hpcsurrogate"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{PROJECT}" exec "{sys.executable}" -m hpcsurrogate "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {"PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-ec", block], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(LINE, done.stdout)
