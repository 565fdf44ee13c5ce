"""The command tune on a small real experiment: several processes at once, one of them killed and taken up again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke.yaml"
SMALL = (
    *("ranks=1", "train.engine=none", "train.tensorboard=false"),
    *("train.checkpoint_every=3", "train.apriori.epochs=2", "train.unrolled.iterations=80"),
    # Steps of some weight: the process that is killed must be in the middle of its training.
    *("train.unrolled.snapshots=[2]", "train.validate_every=10", "train.apriori.batch_size=4"),
)
RATE = "train.unrolled.learning_rate"
LIMIT = 150.0  # seconds for all of it, on a machine that does other work too


def tune_section(trials, space, **settings):
    return [f"tune={json.dumps({'parameters': {RATE: space}, 'trials': trials, **settings})}"]


def start(run_dir, *changes):
    """`hpcsurrogate tune` in a session of its own, so that it can be killed with all that it has started."""
    command = [sys.executable, "-m", "hpcsurrogate", "tune", str(SMOKE), f"run_dir={run_dir}", *SMALL, *changes]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process):
    try:
        said, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        pytest.fail(f"still ran after {LIMIT} s:\n{said}", pytrace=False)
    return process.returncode, said


def wait_for_checkpoint(run_dir, process):
    """Wait until the first trial has a checkpoint of its last phase."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        steps = [int(path.name.removeprefix("step-")) for path in run_dir.glob("tune/trial-0000/checkpoints/step-*")]
        if max(steps, default=0) > 20:  # 2 epochs of 10 batches come before
            return
        time.sleep(0.01)
    pytest.fail(f"no checkpoint\n{process.communicate(timeout=1)[0] if process.poll() is not None else ''}")


def test_processes_share_a_search_and_a_killed_one_is_taken_up(tmp_path, command):
    run_dir = tmp_path / "run"
    section = tune_section(3, {"low": 1e-4, "high": 1e-2, "log": True})
    killed = start(run_dir, *section)
    wait_for_checkpoint(run_dir, killed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    (left_at,) = [path.name for path in sorted(run_dir.glob("tune/trial-0000/checkpoints/step-*"))[-1:]]

    helpers = [start(run_dir, *section) for _ in range(2)]
    results = [finish(helper) for helper in helpers]
    assert [code for code, _ in results] == [0, 0], results
    summary = json.loads((run_dir / "tune" / "tune.json").read_text())
    assert [(trial["number"], trial["state"]) for trial in summary["trials"]] == [
        (0, "complete"),
        (1, "complete"),
        (2, "complete"),
    ]
    # Whoever took it up said so, and the training went on where it was.
    assert sum("trial 0: " in said and "trial 0: complete" in said for _, said in results) == 1
    assert (
        f"resuming from step {int(left_at.removeprefix('step-'))}"
        in (run_dir / "tune" / "trial-0000" / "output.log").read_text()
    )
    assert {trial["values"][RATE] for trial in summary["trials"]} >= {1e-3}  # the file's own value comes first
    assert (run_dir / "figures" / "tune.png").stat().st_size > 0
    assert (run_dir / "tune" / "trial-0001" / "prepared").samefile(run_dir / "prepared")

    undisturbed = tmp_path / "undisturbed"
    finished = command(
        "run", SMOKE, f"run_dir={undisturbed}", *SMALL, f"{RATE}=0.001", "--until", "train", timeout=LIMIT
    )
    assert finished.exit_code == 0, finished.stderr
    ours = load_file(run_dir / "tune" / "trial-0000" / "weights.safetensors")
    theirs = load_file(undisturbed / "weights.safetensors")
    assert {name: array.tobytes() for name, array in ours.items()} == {n: a.tobytes() for n, a in theirs.items()}


def test_a_trial_that_diverges_fails_with_its_reason_and_a_stopped_search_goes_on(tmp_path):
    run_dir = tmp_path / "run"
    section = tune_section(2, {"choices": [1e-3, 1e30]}, cost=False)
    first = start(run_dir, *section)
    wait_for_checkpoint(run_dir, first)
    first.send_signal(signal.SIGTERM)
    exit_code, said = finish(first)
    assert exit_code == 75, said
    assert "error: tune: trial 0 stopped on request" in said
    left = max(run_dir.glob("tune/trial-0000/checkpoints/step-*")).name
    exit_code, said = finish(start(run_dir, *section, "--trials", "3"))
    assert exit_code == 0, said
    trials = json.loads((run_dir / "tune" / "tune.json").read_text())["trials"]
    assert f"resuming from step {int(left[5:])}" in (run_dir / "tune" / "trial-0000" / "output.log").read_text()
    assert len(trials) == 3 and trials[0]["state"] == "complete"
    assert {trial["values"][RATE] for trial in trials} == {1e-3, 1e30}
    for trial in trials:
        diverged = trial["values"][RATE] == 1e30
        assert trial["state"] == ("failed" if diverged else "complete")
        assert ("learning_rate" in trial["reason"]) == diverged


def test_without_the_section_nothing_is_done(tmp_path, command):
    finished = command("tune", SMOKE, f"run_dir={tmp_path / 'run'}", folder=tmp_path)
    assert finished.exit_code == 2
    assert finished.errors == [
        "hpcsurrogate: error: tune: the experiment has no section `tune`; docs/tuning.md shows one"
    ]
    assert not (tmp_path / "run").exists()
