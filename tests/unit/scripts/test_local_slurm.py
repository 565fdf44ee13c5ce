"""What scripts/local_slurm.sh says where it cannot help; that it starts and stops a SLURM is used by tests/faults."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "local_slurm.sh"
TOOLS = ("bash", "id", "paste", "python3", "realpath")


@pytest.fixture
def local_slurm(tmp_path):
    """`local_slurm(*arguments)` on a machine with basic tools alone: no srun, and no apt-get to install it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(shutil.which(tool))

    def call(*arguments):
        environment = {"PATH": str(programs), "HOME": str(tmp_path)}
        command = [programs / "bash", SCRIPT, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return call


def test_missing_packages_are_named_with_the_line_to_ask_for(local_slurm, tmp_path):
    done = local_slurm("start", tmp_path / "slurm")
    assert done.returncode == 1
    assert "srun" in done.stderr
    assert done.stderr.endswith("ask an administrator for: apt-get install slurm-wlm munge libpmix-dev\n")
    assert done.stdout == ""
    assert not (tmp_path / "slurm").exists()


def test_there_is_nothing_to_stop_where_nothing_was_started(local_slurm, tmp_path):
    done = local_slurm("stop", tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"local_slurm: error: {tmp_path}: no SLURM was started there\n"


def test_the_status_where_nothing_was_started_is_that_nothing_runs(local_slurm, tmp_path):
    done = local_slurm("status", tmp_path)
    assert done.returncode == 0
    assert [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()] == ["does not run"] * 4


@pytest.mark.parametrize("arguments", [(), ("restart",), ("start", "here", "there")])
def test_a_wrong_call_names_the_right_one(local_slurm, arguments):
    done = local_slurm(*arguments)
    assert done.returncode == 1
    assert done.stderr == "local_slurm: error: usage: scripts/local_slurm.sh start|stop|status [DIRECTORY]\n"


def test_templates_are_correct_shell():
    templates = sorted((SCRIPT.parents[1] / "slurm").glob("*.sbatch"))
    assert [path.stem for path in templates] == ["couple", "pipeline", "prepare", "sweep", "train", "tune"]
    for path in templates:
        assert subprocess.run(["bash", "-n", path], capture_output=True, text=True).stderr == ""
        without_file = subprocess.run(["bash", path], capture_output=True, text=True, env=dict(os.environ), timeout=30)
        assert (without_file.returncode, without_file.stderr[:6]) == (2, "usage:")
