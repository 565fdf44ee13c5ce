"""What is said on a machine that lacks what the tests need; that it is there on this one, `make test` has seen to."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPILERS = {"gcc": "true", "g++": "true", "gfortran": "true", "cmake": "true"}
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "test_system.sh"


@pytest.fixture
def check(tmp_path):
    """`check({program: text of a shell script})` -> what the script says to one who is not root and has only these."""

    def run(programs):
        for name, text in {"id": "echo 1000", **programs}.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
        for tool in ("bash", "paste"):
            (tmp_path / tool).symlink_to(shutil.which(tool))
        (tmp_path / "python3").symlink_to(Path(sys.base_exec_prefix, "bin", "python3"))
        command = [tmp_path / "bash", SCRIPT]
        return subprocess.run(
            command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_missing_packages_are_named_in_one_line(check):
    done = check(COMPILERS)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "ask an administrator for: apt-get install strace slurm-wlm" in done.stderr
    assert not any(compiler in done.stderr for compiler in COMPILERS)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_missing_compiler_is_named(check, compiler):
    others = {name: text for name, text in COMPILERS.items() if name != compiler}
    done = check({**others, "sbatch": "true", "strace": "true"})
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.endswith(f"ask an administrator for: apt-get install {compiler}\n")


def test_a_machine_that_forbids_tracing_is_told_apart(check):
    done = check({**COMPILERS, "sbatch": "true", "strace": "exit 1"})
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "strace may not trace here" in done.stderr


def test_nothing_is_said_when_all_is_there(check):
    done = check({**COMPILERS, "sbatch": "true", "strace": "true"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
