"""Numbers that go wrong on one rank, and a training that goes on on another number of ranks."""

import json

import pytest

STOP = "os.kill(os.getpid(), signal.SIGUSR1)"
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
NAN_LOSS = "output = output * float('nan')"
NAN_GRADIENT = "output.register_hook(lambda gradient: gradient * float('nan'))"
ALTER_WEIGHTS = "network.layers[0].weight.data.view(torch.int32)[0, 0, 0, 0] ^= 1 << 20"
FOR_EVER = 10**9
# The first phase has 12 steps; on 2 ranks each has two of the four parts of a batch, so call 11 belongs to step 6.
CALL, STEP = 11, 6


@pytest.mark.fault(17, "resumed on another number of ranks")
@pytest.mark.parametrize("order", [(1, 2, 4), (4, 1, 2), (2, 4, 1)], ids=str)
def test_a_training_that_changes_its_ranks_twice_ends_with_the_same_bits(
    order, prepared_run, train_command, act_in_call, reference_weights, weights_of, tmp_path, fault
):
    """Asked to stop in the first phase, killed in the second, done in the third part."""
    run_dir = prepared_run.copy(tmp_path / "run")
    first = train_command(run_dir, ranks=order[0], environment=act_in_call(0, CALL, STOP)).finish()
    assert first.exit_code == 75, first.stderr
    # 24 calls at most are left of the first phase; a part of the second has 16 or more.
    job = train_command(run_dir, ranks=order[1], environment=act_in_call(order[1] - 1, 60, DIE))
    second = job.finish()
    assert second.exit_code != 0
    job.assert_nothing_survives()
    third = train_command(run_dir, ranks=order[2]).finish()
    assert third.exit_code == 0, third.stderr
    assert weights_of(run_dir) == reference_weights
    fault.withstood(2)


@pytest.mark.fault(37, "NaN on one rank, once")
@pytest.mark.parametrize("action", [NAN_LOSS, NAN_GRADIENT], ids=["loss", "gradient"])
def test_a_step_with_nan_on_one_rank_is_left_out_by_all(action, prepared_run, train_command, act_in_call, tmp_path):
    run_dir = prepared_run.copy(tmp_path / "run")
    job = train_command(run_dir, environment=act_in_call(1, CALL, action))
    finished = job.finish()
    assert finished.exit_code == 0, finished.stderr
    warnings = [line for line in finished.stderr.splitlines() if "left out" in line]
    assert len(warnings) == 1 and f"step {STEP}" in warnings[0] and "rank 1" in warnings[0]
    # Ranks that had not acted alike would have other weights, which the roll call would have found.
    assert "back from step" not in finished.stderr
    assert last_step(run_dir) == prepared_run.num_steps
    job.assert_nothing_survives()


@pytest.mark.fault(37, "NaN on one rank, always")
@pytest.mark.parametrize("action", [NAN_LOSS, NAN_GRADIENT], ids=["loss", "gradient"])
def test_nan_that_stays_ends_all_with_code_4_after_the_set_number_and_the_checkpoint_is_good(
    action, prepared_run, train_command, act_in_call, tmp_path
):
    run_dir = prepared_run.copy(tmp_path / "run")
    limits = ("train.on_divergence.skips=2", "train.on_divergence.rollbacks=1")
    job = train_command(run_dir, *limits, environment=act_in_call(1, CALL, action, last=FOR_EVER))
    finished = job.finish()
    assert finished.exit_code == 4, finished.stderr
    (error,) = finished.errors
    assert "rank 1" in error
    # Twice two steps that are left out: before the return to the checkpoint of step 4, and after it.
    assert sum("left out" in line for line in finished.stderr.splitlines()) == 4
    job.assert_nothing_survives()
    again = train_command(run_dir, *limits).finish()
    assert again.exit_code == 0, again.stderr
    assert "resuming from step 4" in again.stderr
    assert last_step(run_dir) == prepared_run.num_steps


@pytest.mark.fault(38, "weights of one rank altered")
def test_altered_weights_are_found_named_and_rolled_back(
    prepared_run, train_command, act_in_call, reference_weights, weights_of, tmp_path
):
    """A bit of one weight of rank 1 changes in step 6; the roll call before the checkpoint of step 8 finds it."""
    run_dir = prepared_run.copy(tmp_path / "run")
    job = train_command(run_dir, environment=act_in_call(1, CALL, ALTER_WEIGHTS))
    finished = job.finish()
    assert finished.exit_code == 0, finished.stderr
    warnings = [line for line in finished.stderr.splitlines() if "rank" in line and "differ" in line]
    assert len(warnings) == 1 and "step 8" in warnings[0]
    assert weights_of(run_dir) == reference_weights
    job.assert_nothing_survives()


def last_step(run_dir) -> int:
    return json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])["step"]
