"""`hpcsurrogate status` of a real run."""

import json

from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.pipeline.stages import STAGES
from hpcsurrogate.pipeline.training_status import planned_phases, read_records

STAGE_NAMES = tuple(stage.name for stage in STAGES)


def test_the_planned_steps_are_those_that_training_took(smoke):
    """None of its phases stops early, so that each takes what was planned."""
    paths = RunPaths(smoke.run_dir)
    records = read_records(paths.metrics)
    for phase in planned_phases(load_experiment(paths.config), paths):
        assert sum(record["phase"] == phase.name for record in records) == phase.num_steps


def test_a_finished_run(smoke, command):
    finished = command("status", smoke.run_dir)
    assert finished.exit_code == 0
    lines = finished.stdout.splitlines()
    assert lines[0] == f"smoke in {smoke.run_dir}"
    assert [line.split()[:2] for line in lines[1 : 1 + len(STAGE_NAMES)]] == [[name, "done"] for name in STAGE_NAMES]
    last = json.loads(RunPaths(smoke.run_dir).metrics.read_text().splitlines()[-1])
    assert f"last step   {last['step']}, phase unrolled" in finished.stdout
    assert "time left" not in finished.stdout


def test_an_interrupted_training(smoke, command, tmp_path):
    """As it looks when its process was killed half-way."""
    run_dir = smoke.copy(tmp_path / "run")
    paths = RunPaths(run_dir)
    paths.weights.unlink()
    paths.lock.unlink()
    record = json.loads((paths.stages / "train.json").read_text())
    (paths.stages / "train.json").write_text(json.dumps(record | {"finished": False, "outputs": {}}))
    half = paths.metrics.read_text().splitlines(keepends=True)[:30]
    paths.metrics.write_text("".join(half))
    finished = command("status", run_dir)
    assert finished.exit_code == 0
    lines = {line.split()[0]: line for line in finished.stdout.splitlines()}
    assert lines["train"].startswith("train       interrupted, begun ")
    assert " for the 30 steps left of this phase " in lines["time"]
    assert lines["time"].endswith("then 16 steps of phase unrolled; less if it stops early")
