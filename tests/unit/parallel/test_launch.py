"""Which launcher is called, how, and what is said when there is none."""

import os
import sys

import pytest

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.launch import (
    find_mpirun,
    launcher_command,
    launcher_environment,
    run_ranks,
    without_abort_banners,
)

FRAME = "-" * 74 + "\n"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A directory that is the whole PATH, with an interpreter that has no mpirun beside it."""
    directory = tmp_path / "bin with a space"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return directory


def write_program(path, script):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def test_no_launcher_is_a_configuration_error(programs):
    with pytest.raises(ConfigError, match="mpirun: neither in .* nor on PATH; .*make install"):
        run_ranks(["train", "experiment.yaml"], ranks=2)


def test_the_mpirun_beside_python_comes_before_the_one_on_the_path(programs, tmp_path):
    write_program(programs / "mpirun", "exit 0")
    assert find_mpirun() == str(programs / "mpirun")
    write_program(tmp_path / "elsewhere" / "mpirun", "exit 0")
    assert find_mpirun() == str(tmp_path / "elsewhere" / "mpirun")


def test_open_mpi_gets_its_options_and_another_mpi_does_not(programs):
    write_program(programs / "mpirun", "echo 'mpirun (Open MPI) 4.1.4'")
    assert launcher_command(3)[1:] == ["-np", "3", "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"]
    write_program(programs / "mpirun", "echo 'HYDRA build details: Version: 4.0.2'")
    assert launcher_command(3)[1:] == ["-np", "3"]


def test_inside_an_allocation_srun_starts_the_ranks(programs, monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    with pytest.raises(ConfigError, match="srun is not on PATH"):
        run_ranks(["train"], ranks=2)
    write_program(programs / "srun", f"echo \"$HPCSURROGATE_RANKS $OMP_NUM_THREADS $@\" > '{tmp_path}/call'; exit 4")
    assert run_ranks(["train", "a b.yaml"], ranks=2, threads_per_rank=3) == 4
    ranks, threads, *arguments = (tmp_path / "call").read_text(encoding="utf-8").split(maxsplit=2)
    assert (ranks, threads) == ("2", "3")
    assert arguments[0].startswith("--mpi=pmix --kill-on-bad-exit=1 --cpus-per-task=3 -n 2 ")
    assert arguments[0].rstrip().endswith("-m mpi4py -m hpcsurrogate train a b.yaml")


@pytest.mark.parametrize("user", [0, 1000])
def test_environment_of_the_launcher(monkeypatch, user):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.delenv("OMPI_ALLOW_RUN_AS_ROOT", raising=False)
    environment = launcher_environment(4, threads_per_rank=2)
    assert environment["HPCSURROGATE_RANKS"] == "4"
    assert environment["OMP_NUM_THREADS"] == "2"
    assert ("OMPI_ALLOW_RUN_AS_ROOT" in environment) == (user == 0)


def test_the_one_sided_component_that_complains_is_off_unless_the_user_chose(monkeypatch):
    monkeypatch.delenv("OMPI_MCA_osc", raising=False)
    assert launcher_environment(2)["OMPI_MCA_osc"] == "^ucx"
    monkeypatch.setenv("OMPI_MCA_osc", "ucx")
    assert launcher_environment(2)["OMPI_MCA_osc"] == "ucx"


def test_only_the_banners_of_an_abort_are_dropped():
    abort = [FRAME, "MPI_ABORT was invoked on rank 1\n", FRAME]
    prterun = [FRAME, "prterun has exited due to process rank 1 calling\n", '"abort". This may\n', FRAME]
    killed = [FRAME, "prterun noticed that process rank 1 exited on signal 9\n", FRAME]
    unfinished = [FRAME, "There are not enough slots\n"]
    lines = ["epoch 1\n", *abort, *prterun, "--- a line of one's own ---\n", *killed, *unfinished]
    assert list(without_abort_banners(lines)) == ["epoch 1\n", "--- a line of one's own ---\n", *killed, *unfinished]
