"""Simulate, ingest, fit and propose go round unattended, with real LAMMPS runs, and go on where they were stopped."""

import json
from pathlib import Path

import pytest

from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_fluid_experiment
from hpcsurrogate.data.material import about_material
from hpcsurrogate.pipeline import runner
from hpcsurrogate.pipeline.runner import run_pipeline
from hpcsurrogate.sources.lammps_runs import planned_runs
from tests.lammps_program import require_lammps

SCRIPT = Path(__file__).resolve().parents[2] / "configs" / "lammps" / "shear.lmp"
FILE = """\
name: loop
run_dir: {run_dir}
simulate:
  kind: lammps
  script: {script}
  grid: {{rate: [0.3, 1.0], rho: [0.80, 0.8442], T: [0.8, 1.0]}}
  variables: {{steps: 1500, melting: 500, start: 200, cells: 3}}
ingest: {{blocks: 4}}
train: {{model: {{kind: viscous_law, channels: 8}}, members: 4, epochs: 100}}
propose: {{runs: 2, rounds: 2, variables: {{steps: 2500, melting: 500, start: 200, cells: 3}}}}
"""


@pytest.fixture
def file(tmp_path):
    require_lammps()
    path = tmp_path / "loop.yaml"
    path.write_text(FILE.format(run_dir=tmp_path / "run", script=SCRIPT))
    return path


def lines_of(file, *arguments, **options):
    said = []
    run_pipeline(file, *arguments, **options, say=said.append)
    return said


def done(said):
    return [line.split()[0] for line in said if " done in " in line]


def test_the_loop_goes_round_stops_and_goes_on(file, tmp_path, monkeypatch):
    """Stopped before the stage fit of the second round."""
    paths, do_stage, fits = RunPaths(tmp_path / "run"), runner._do_stage, []

    def stopping(stage, *arguments):
        if stage.name == "fit":
            fits.append(stage)
            if len(fits) == 2:
                raise DataError("stopped by the test")
        do_stage(stage, *arguments)

    monkeypatch.setattr(runner, "_do_stage", stopping)
    with pytest.raises(DataError, match="stopped by the test"):
        lines_of(file)
    first = json.loads(paths.proposed.read_text())["rounds"]
    assert len(first) == 1 and len(about_material(paths.material).runs) == 10
    said = lines_of(file)
    round_of_stages = ["simulate", "ingest", "fit", "propose"]
    assert done(said) == [*round_of_stages[2:], *round_of_stages, "couple", "report"]
    content = json.loads(paths.proposed.read_text())
    assert content["rounds"][:1] == first
    assert [one["runs_before"] for one in [*content["rounds"], content["next"]]] == [8, 10, 12]
    _check_runs(file, content, paths)
    assert done(lines_of(file)) == []
    # A third round begins with what the second has left; until it is proposed, nothing is to do.
    assert done(lines_of(file, ["propose.rounds=3"], until="fit")) == []


def _check_runs(file, content, paths):
    planned = [run.variables for run in planned_runs(load_fluid_experiment(file))]
    proposed = [run["variables"] for one in content["rounds"] for run in one["runs"]]
    assert planned[8:] == proposed and [run["seed"] for run in proposed] == [2, 3, 4, 5]
    assert all(0.3 <= run["rate"] <= 1 and 0.8 <= run["rho"] <= 0.8442 and 0.8 <= run["T"] <= 1 for run in proposed)
    assert all(run["steps"] == 2500 and run["melting"] == 500 for run in proposed)
    for one in [*content["rounds"], content["next"]]:
        expected = [one["expected_error"]["now"], *(run["expected_error"] for run in one["runs"])]
        assert expected == sorted(expected, reverse=True)
        assert expected[-1] < one["expected_error"]["at_random"] < expected[0]
        assert set(one["errors"]) == {"learned", "carreau", "newtonian"}
    assert len(about_material(paths.material).runs) == 12


def test_what_cannot_be_proposed_is_one_line(file, tmp_path):
    for override, words in (
        ("propose.variables.T=1.0", "T stands in propose.variables, but is what propose chooses"),
        ("simulate.more=[{grid: {rate: [0.5]}}]", "propose needs the same variables in every grid; T stands in some"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_fluid_experiment(file, [override])
    paths = RunPaths(tmp_path / "run")
    paths.run_dir.mkdir()
    paths.proposed.write_text('{"rounds": [{"runs": [{}]}]}')
    with pytest.raises(DataError, match=r"proposed\.json: is no record of proposed runs"):
        planned_runs(load_fluid_experiment(file))
