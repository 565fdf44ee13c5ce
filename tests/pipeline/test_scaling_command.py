"""`hpcsurrogate scaling` as a user types it: real trainings on ranks, a table, a file, a figure, nothing left over."""

import json

import matplotlib.image

STEPS = 4


def test_scaling_measures_real_trainings_and_leaves_the_run_as_it_was(smoke, command, tmp_path):
    run_dir = smoke.copy(tmp_path / "run")
    before = {path for path in run_dir.rglob("*") if path.is_file()}
    finished = command("scaling", smoke.config, f"run_dir={run_dir}", "--ranks", "1,2", "--steps", STEPS, timeout=120)
    assert finished.exit_code == 0, finished.stderr
    content = json.loads((run_dir / "scaling.json").read_text())
    assert (content["phase"], content["engine"], content["steps"]) == ("unrolled", "horovod", STEPS)
    batches = {kind: [(point["ranks"], point["batch_size"]) for point in content[kind]] for kind in ("strong", "weak")}
    assert batches == {"strong": [(1, 4), (2, 4)], "weak": [(1, 4), (2, 8)]}
    assert content["strong"][0] == content["weak"][0]  # one training serves both
    for point in content["strong"] + content["weak"]:
        assert 0.0 < point["step_seconds"] < 60.0 and point["efficiency"] > 0.0
    for title in ("strong scaling", "weak scaling"):
        assert title in finished.stdout
    assert matplotlib.image.imread(run_dir / "figures" / "scaling.png").std() > 0.05
    after = {path for path in run_dir.rglob("*") if path.is_file()}
    assert after - before == {run_dir / "scaling.json", run_dir / "figures" / "scaling.png"}
    repeated = command("run", smoke.config, f"run_dir={run_dir}", timeout=120)
    assert repeated.exit_code == 0 and " done in " not in repeated.stdout


def test_a_training_that_fails_is_named_with_its_own_error_and_code(smoke, command, tmp_path):
    run_dir = smoke.copy(tmp_path / "run")
    finished = command(
        "scaling",
        smoke.config,
        f"run_dir={run_dir}",
        "train.initialise_from={path: missing.pt}",
        "--ranks",
        "1",
        "--steps",
        2,
        timeout=60,
    )
    assert finished.exit_code == 2
    assert finished.errors[0].startswith("hpcsurrogate: error: scaling: the training on 1 rank(s) ended early: ")
    assert "train.initialise_from.path" in finished.errors[0] and len(finished.errors) == 1
    assert not (run_dir / ".scaling").exists() and not (run_dir / "scaling.json").exists()
