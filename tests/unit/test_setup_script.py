"""What the set-up says on a machine that lacks something; the set-up itself runs before every test."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TOOLS = [
    "bash",
    "cat",
    "cut",
    "dirname",
    "env",
    "grep",
    "head",
    "id",
    "paste",
    "realpath",
    "rm",
    "sha256sum",
    "tail",
    "tr",
]


@pytest.fixture
def bare_machine(tmp_path):
    """A copy of what the set-up reads, in a path with a space, and a PATH with basic tools and Python alone."""
    project = tmp_path / "a project"
    project.mkdir()
    shutil.copytree(PROJECT / "scripts", project / "scripts")
    for name in ("constraints.txt", "setup.cfg", "pyproject.toml"):
        shutil.copy(PROJECT / name, project)
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(shutil.which(tool))
    (programs / "python3").symlink_to(Path(sys.base_exec_prefix, "bin", "python3"))

    def set_up(**variables):
        environment = {"PATH": str(programs), "HOME": str(tmp_path)} | variables
        command = [programs / "bash", project / "scripts" / "setup.sh"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    set_up.programs, set_up.project = programs, project
    return set_up


def test_a_missing_compiler_is_named_with_the_line_to_ask_for(bare_machine):
    done = bare_machine()
    assert done.returncode != 0
    assert "ask an administrator for: apt-get install g++ make" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (bare_machine.project / ".venv").exists()


def test_a_python_that_does_not_fit_is_named(bare_machine):
    (bare_machine.programs / "python3").unlink()
    (bare_machine.programs / "python3").symlink_to(shutil.which("false"))
    done = bare_machine()
    assert done.returncode != 0
    assert "no Python 3.11 to 3.13 found" in done.stderr
    assert len(done.stderr.splitlines()) == 1
