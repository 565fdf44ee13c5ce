"""The program runs the fine case itself, in a copy; what goes wrong there is OpenFOAM's own error in one line."""

import re
import signal
import subprocess
import sys
import time

import pytest

from hpcsurrogate.cli import main as cli
from hpcsurrogate.core.atomic import read_json
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_cell_experiment
from hpcsurrogate.pipeline.openfoam import run_fine_case
from hpcsurrogate.sources.openfoam import OpenFoamCase
from tests.openfoam.cases import channel

FILE = """
name: channel
run_dir: {folder}/run
simulate:
  kind: openfoam
  case: fine
  run: {run}
prepare: {{coarse: coarse, validation: 0.3}}
train:
  model: {{kind: tensor_basis, channels: 4}}
  epochs: 1
"""
COMMANDS = "[blockMesh, decomposePar, /usr/bin/mpirun --oversubscribe -np 2 pimpleFoam -parallel]"


@pytest.fixture
def cases(tmp_path, monkeypatch):
    """A fine and a coarse channel that were not run; the fine one has no mesh either."""
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("WM_PROJECT_DIR", "/usr/share/openfoam")  # of OpenFOAM's bashrc
    monkeypatch.setenv("PWD", "/where the user/types")
    channel(tmp_path / "fine", 2, cells=(8, 6, 8))
    channel(tmp_path / "coarse", 2, cells=(4, 3, 4))
    return tmp_path


def write(folder, run=COMMANDS):
    path = folder / "channel.yaml"
    path.write_text(FILE.format(folder=folder, run=run))
    return path


def files_below(folder):
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_one_command_runs_the_case_on_two_ranks_and_learns_from_it(cases, capsys):
    file, before = write(cases), files_below(cases / "fine")
    cli.main(["run", str(file)])
    paths = RunPaths(cases / "run")
    commands = [line["command"] for line in read_json(paths.fine_case_record)["commands"]]
    assert commands[:2] == ["blockMesh", "decomposePar"] and "pimpleFoam" in commands[2]
    assert (paths.fine_case / "processor1").is_dir() and len(OpenFoamCase(paths.fine_case).times("U")) > 1
    assert paths.pointwise.is_file()
    assert files_below(cases / "fine") == before
    capsys.readouterr()
    cli.main(["run", str(file)])
    assert [line.split()[1:] for line in capsys.readouterr().out.splitlines()[:3]] == [["up", "to", "date"]] * 3


def test_an_error_of_openfoam_is_named_with_its_log(cases):
    (cases / "fine" / "system" / "fvSolution").unlink()
    experiment = load_cell_experiment(write(cases, "[blockMesh, pimpleFoam]"))
    with pytest.raises(DataError, match=r"log\.2: `pimpleFoam` ended with code .*fvSolution"):
        run_fine_case(experiment, RunPaths(experiment.run_dir))
    assert not RunPaths(experiment.run_dir).fine_case_record.exists()


def test_openfoam_that_is_not_set_up_is_said(cases, monkeypatch):
    monkeypatch.delenv("WM_PROJECT_DIR")
    experiment = load_cell_experiment(write(cases, "[blockMesh]"))
    with pytest.raises(DataError, match=r"controlDict.*; WM_PROJECT_DIR is not set here: source OpenFOAM's etc/bashrc"):
        run_fine_case(experiment, RunPaths(experiment.run_dir))


@pytest.mark.parametrize(("run", "words"), [("[none-such]", "none-such: is no program"), ("['']", "empty command")])
def test_what_is_no_program_is_refused_before_anything_is_copied(cases, run, words):
    experiment = load_cell_experiment(write(cases, run))
    with pytest.raises(ConfigError, match=words):
        run_fine_case(experiment, RunPaths(experiment.run_dir))
    assert not RunPaths(experiment.run_dir).fine_case.exists()


def test_a_folder_with_a_space_is_refused(cases):
    experiment = load_cell_experiment(write(cases), [f"run_dir={cases}/a run"])
    with pytest.raises(ConfigError, match="holds a space"):
        run_fine_case(experiment, RunPaths(experiment.run_dir))


def test_a_case_without_its_first_time_is_refused(cases):
    (cases / "fine" / "0").rename(cases / "fine" / "zero")
    experiment = load_cell_experiment(write(cases))
    with pytest.raises(ConfigError, match="first time"):
        run_fine_case(experiment, RunPaths(experiment.run_dir))


def test_a_run_that_is_killed_leaves_no_solver_and_starts_again(cases):
    control = cases / "fine" / "system" / "controlDict"
    text = control.read_text()
    control.write_text(re.sub(r"(?m)^(endTime\s+)\S+;", r"\g<1>1e6;", text))
    file = write(cases, "[blockMesh, pimpleFoam]")
    process = subprocess.Popen([sys.executable, "-m", "hpcsurrogate", "simulate", str(file)])
    log, limit = cases / "run" / "case" / "log.2", time.monotonic() + 60
    while not (log.exists() and "Time = " in log.read_text()):
        assert time.monotonic() < limit and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    size, limit = -1, time.monotonic() + 20
    while size != (size := log.stat().st_size):
        assert time.monotonic() < limit, "the solver still writes"
        time.sleep(1.0)
    control.write_text(text)
    assert cli.main(["simulate", str(file)]) in (None, 0)
    assert (cases / "run" / "case" / "run.json").is_file()
