"""configs/pointwise2d.yaml from simulation to coupling in a tiny form: both forms of its closure, one in the solver."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.embed.artifact import load_artifact

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "pointwise2d.yaml"
TINY = (
    "ranks=1", "train.engine=none", "host.grid=[16,16]", "host.time_step=0.05", "flow.viscosity=5e-3",
    "simulate.grid=[48,48]", "simulate.spin_up_coarse=2", "simulate.duration=1.0",
    "train.apriori.epochs=4", "train.unrolled={iterations: 2, batch_size: 2, snapshots: [1]}",
    "train.tensorboard=false",
    "couple.duration=0.5", "couple.starts=1", "couple.ladder=[24]",
    "couple.contenders=[{name: none, closure: {kind: none}}, {name: learned, closure: {kind: learned}}]",
)  # fmt: skip
WIDTH = 2 * 6.283185307179586 / 16  # of the filter, two cells of the host [m]


@pytest.fixture(scope="module")
def tiny_run(command, tmp_path_factory):
    paths = RunPaths(tmp_path_factory.mktemp("pointwise") / "run")
    finished = command("run", CONFIG, f"run_dir={paths.run_dir}", *TINY, "--until", "couple", timeout=120)
    assert finished.exit_code == 0, finished.stderr
    return paths


def test_the_run_writes_both_forms_at_the_width_of_the_filter(tiny_run):
    whole, cells = load_artifact(tiny_run.model).metadata, load_artifact(tiny_run.pointwise).metadata
    assert (whole.kind, cells.kind) == ("grid", "pointwise")
    assert whole.halo == 3 and cells.halo == 0
    assert cells.filter.width == pytest.approx(WIDTH) and cells.filter.kind == "box"
    assert load_file(tiny_run.weights)["filter_width"].item() == pytest.approx(WIDTH)
    assert whole.outputs[0].field == "sgs_force" and cells.outputs[0].field == "sgs_stress"


def test_both_forms_are_held_against_the_network(tiny_run):
    report = json.loads(tiny_run.parity.read_text())
    names = [form["name"] for form in report["forms"]]
    assert names == ["model, eager", "model.pt", "pointwise, eager", "pointwise.pt"]
    assert all(form["from_eager"] <= report["allowed_from_eager"] for form in report["forms"])


def test_even_so_short_a_training_beats_no_closure_a_priori(tiny_run):
    scores = {
        score["name"]: score["relative_error_sgs_force"]
        for score in json.loads(tiny_run.evaluation.read_text())["closures"]
    }
    assert scores["learned"] < 0.9 * scores["none"]


def test_the_closure_runs_in_the_solver(tiny_run):
    coupling = json.loads(tiny_run.coupling.read_text())
    learned = [run for run in coupling["contenders"] if run["name"] == "learned"]
    assert len(learned) == 1 and learned[0]["stable"]
