"""Sweeps of real LAMMPS runs: kept, shared by ranks and by jobs, stopped, failed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcsurrogate.core.atomic import read_json
from hpcsurrogate.core.config_fluid import FluidExperiment
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_fluid_experiment
from hpcsurrogate.data.material import read_material
from hpcsurrogate.parallel.launch import run_ranks
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline.stages_fluid import FLUID_STAGES
from hpcsurrogate.pipeline.sweep import run_sweep
from tests.lammps_program import require_lammps

SCRIPT = Path(__file__).resolve().parents[2] / "configs" / "lammps" / "shear.lmp"
FILE = """\
name: small
run_dir: {run_dir}
simulate:
  kind: lammps
  script: {script}
  grid: {{rate: [0.5, 1.0], rho: [0.8442], T: [0.722]}}
  variables: {{steps: {steps}, melting: 500, start: 200}}
ingest: {{blocks: 4, held_out: [{{rate: 0.5}}]}}
train: {{model: {{kind: viscous_law}}}}
"""


@pytest.fixture
def make(tmp_path):
    """A small sweep as an experiment file."""
    require_lammps()

    def write(script=SCRIPT, steps=2000):
        path = tmp_path / "small.yaml"
        path.write_text(FILE.format(run_dir=tmp_path / "run", script=script, steps=steps))
        return path

    return write


def sweep(file, *overrides, part=None):
    experiment = load_fluid_experiment(file, overrides)
    paths = RunPaths(experiment.run_dir)
    run_sweep(experiment, paths, World(), part)
    return paths


def command(*arguments):
    return [sys.executable, "-m", "hpcsurrogate", *map(str, arguments)]


def test_ranks_do_the_runs_and_what_is_finished_is_kept(make, tmp_path):
    """Under mpirun a LAMMPS that is linked with MPI must not take itself for one of our ranks."""
    file = make()
    assert run_ranks(["simulate", str(file)], ranks=2) == 0
    paths = RunPaths(tmp_path / "run")
    runs = read_json(paths.sweep_record)["runs"]
    assert [run["variables"]["rate"] for run in runs.values()] == [0.5, 1.0]
    assert all(run["lammps"].startswith("LAMMPS (") and run["cpu_seconds"] > 0 for run in runs.values())
    assert run_ranks(["ingest", "lammps", str(file)], ranks=2) == 0
    samples = read_material(paths.material)
    assert samples.held_out.tolist() == [True, False]
    # The viscosity at rate 1 is 2.19 (docs/lammps.md); of ten time units of 256 atoms a tenth is the standard error.
    assert samples.stress[1, 1] / samples.velocity_gradient[1, 1] == pytest.approx(2.18, rel=0.2)
    assert sweep(file, "simulate.grid.rate=[0.5,1.0,0.8]") == paths
    again = read_json(paths.sweep_record)["runs"]
    assert len(again) == 3 and all(again[name] == runs[name] for name in runs)


def test_parts_make_the_whole(make):
    file = make(steps=100)
    paths = sweep(file, part=(1, 2))
    assert len(list(paths.sweep.glob("*/run.json"))) == 1 and not paths.sweep_record.exists()
    sweep(file, part=(2, 2))
    before = {path: path.stat().st_mtime_ns for path in paths.sweep.glob("*/run.json")}
    assert len(before) == 2
    sweep(file)
    assert {path: path.stat().st_mtime_ns for path in paths.sweep.glob("*/run.json")} == before
    assert len(read_json(paths.sweep_record)["runs"]) == 2


def test_a_changed_script_is_run_again(make, tmp_path):
    script = tmp_path / "mine.lmp"
    script.write_text(SCRIPT.read_text())
    file = make(script, steps=100)
    paths = sweep(file)
    before = read_json(paths.sweep_record)["runs"]
    script.write_text(SCRIPT.read_text() + "\n# slower\n")
    sweep(file)
    after = read_json(paths.sweep_record)["runs"]
    assert all(after[name]["script"] != before[name]["script"] for name in before)


def test_failed_runs_are_named_and_left_out_only_on_request(make, tmp_path):
    """At rate 1 the script asks for a file that is not there."""
    script = tmp_path / "mine.lmp"
    script.write_text(
        SCRIPT.read_text().replace("run ${steps}", 'if "${rate} > 0.9" then "include nowhere"\nrun ${steps}')
    )
    file = make(script, steps=100)
    with pytest.raises(DataError, match=r"1 of 2 runs failed.*rate1\.0_\S+: LAMMPS ended with code 1: ERROR.*nowhere"):
        sweep(file)
    paths = sweep(file, "simulate.failed=leave_out")
    record = read_json(paths.sweep_record)
    assert len(record["runs"]) == 1 and "nowhere" in record["failed"][0]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_sweep_leaves_no_lammps_behind_and_goes_on(make, tmp_path, number):
    file = make(steps=100)
    slow = subprocess.Popen(command("simulate", file, "simulate.variables.steps=100000000"), stderr=subprocess.PIPE)
    run = tmp_path / "run" / "sweep"
    deadline = time.monotonic() + 60
    while not list(run.glob("*/averages.txt")):
        assert slow.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    slow.send_signal(number)
    slow.communicate(timeout=30)
    assert slow.returncode == (75 if number == signal.SIGUSR1 else -number)
    deadline = time.monotonic() + 20
    while working_in(run):
        assert time.monotonic() < deadline, working_in(run)
        time.sleep(0.1)
    assert not list(run.glob("*/run.json"))
    sweep(file)
    assert len(list(run.glob("*/run.json"))) == 2


def working_in(folder):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.append(process.name)
        except OSError:  # it ended, or is somebody else's
            continue
    return found


def test_what_cannot_be_run_is_one_line(make, tmp_path):
    file = make()
    metal = tmp_path / "metal.lmp"
    metal.write_text("# of copper\nunits metal\n")
    for overrides, words in (
        (["simulate.command=lmp_of_nobody"], "simulate.command: lmp_of_nobody is no program here; install LAMMPS"),
        ([f"simulate.script={metal}"], "metal.lmp:2: units metal, but simulate.units is lj"),
        (["simulate.units=metal"], "units lj, but simulate.units is metal"),
        ([f"simulate.script={tmp_path}/nowhere"], "nowhere: file does not exist"),
        (["simulate.variables.seed=3"], "seed stands in variables, and in grid or seeds"),
        (["simulate.seeds=[1, 1]"], "stands in the sweep twice"),
    ):
        with pytest.raises(ConfigError, match=words):
            sweep(file, *overrides)


def test_every_section_that_changes_a_result_belongs_to_one_stage():
    named = [section for stage in FLUID_STAGES for section in stage.sections]
    assert len(named) == len(set(named))
    assert set(FluidExperiment.model_fields) - set(named) == {"run_dir", "ranks", "threads_per_rank"}
