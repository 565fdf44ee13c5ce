"""From LAMMPS to the verdict in a channel, the whole way, small: two ranks, one file."""

from pathlib import Path

import pytest

from hpcsurrogate.core.atomic import read_json
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.embed.artifact import load_artifact
from tests.lammps_program import require_lammps
from tests.pipeline.conftest import run_command

DECKS = Path(__file__).resolve().parents[2] / "configs" / "lammps"
FILE = """\
name: small
run_dir: {run_dir}
ranks: 2
simulate:
  kind: lammps
  script: {decks}/shear.lmp
  grid: {{rate: [0.2, 0.5, 1.0], rho: [0.75, 0.86], T: [0.8, 1.2]}}
  variables: {{steps: 3000, melting: 500, start: 200}}
ingest: {{blocks: 4, held_out: [{{rate: 0.5}}]}}
train: {{model: {{kind: viscous_law, channels: 8}}, members: 2, epochs: 200}}
couple:
  script: {decks}/channel.lmp
  variables: {{rho: 0.82, T: 1.0, cells: 4, height: 9, melting: 1000, start: 4000, steps: 16000,
    frame: 1000}}
  speed: 1.0
  force: 0.1
"""


def finished(*arguments):
    done = run_command(*arguments, timeout=150.0)
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    require_lammps()
    folder = tmp_path_factory.mktemp("fluid")
    file = folder / "small.yaml"
    file.write_text(FILE.format(run_dir=folder / "run", decks=DECKS))
    return file, RunPaths(folder / "run"), finished("run", file)


def test_one_command_ends_with_the_verdict(run):
    _, paths, printed = run
    outcome = read_json(paths.coupling)
    assert printed.rstrip().endswith(outcome["verdict"]) and "channel that training never saw" in outcome["verdict"]
    assert set(outcome["laws"]) == {"learned", "carreau", "newtonian"}
    # The fluid sticks to these walls; 9 cells of 1.7 lie between them.
    low, high = outcome["channel"]["walls"]
    assert 11 < high - low < 17
    # Noise of so short runs, the walls' places among it, is some 10 %.
    assert abs(outcome["laws"]["learned"]["centre_error"]) < 0.5
    assert outcome["cost_ratio"] > 10


def test_the_report_stands_alone_with_both_figures(run):
    _, paths, _ = run
    page = paths.report.read_text()
    assert read_json(paths.coupling)["verdict"][:60] in page and page.count("data:image/png") == 2
    assert {file.name for file in paths.figures.iterdir()} == {"viscosity.png", "channel.png"}
    assert load_artifact(paths.law).metadata.is_law


def test_a_second_run_does_nothing_and_other_cells_start_no_lammps(run):
    file, paths, _ = run
    assert "up to date" in finished("run", file)
    before = {file: file.stat().st_mtime_ns for file in paths.channel.rglob("*")}
    printed = finished("run", file, "couple.cells=50")
    kept = {line.split()[0] for line in printed.splitlines() if "up to date" in line}
    assert kept == {"simulate", "ingest", "fit", "propose"}
    assert {file: file.stat().st_mtime_ns for file in paths.channel.rglob("*")} == before


def test_without_a_channel_the_held_out_runs_decide(run):
    file, paths, _ = run
    finished("run", file, "couple=null")
    outcome = read_json(paths.coupling)
    assert "held-out runs" in outcome["verdict"] and paths.report.read_text().count("data:image/png") == 1
