"""The loop's decisions, on a phase small enough to see through: fit one matrix to another."""

import json
import math
import os
import re
import signal

import pytest
import torch
from torch import nn

from hpcsurrogate.core.config import CnnModel, Train
from hpcsurrogate.core.errors import DivergedError, RequeueRequested
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.checkpoint import CheckpointStore
from hpcsurrogate.train.loop import Trainer
from hpcsurrogate.train.metrics_log import MetricsLog
from hpcsurrogate.train.schedule import learning_rate
from hpcsurrogate.train.state import STATE_KEYS
from hpcsurrogate.train.stop import StopRequest

GOAL = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


class MatrixPhase:
    """Batch i is a pure function of i. `events` maps an iteration to something that happens while its loss is taken."""

    def __init__(self, name="apriori", num_iterations=60, validation_losses=None, events=None):
        self.name, self.num_iterations, self.learning_rate, self.validate_every = name, num_iterations, 0.3, 10
        self.validation_losses, self.events = iter(validation_losses or ()), events or {}

    def prepare(self):
        pass

    def batches(self, first):
        for iteration in range(first, self.num_iterations):
            generator = torch.Generator().manual_seed(iteration)
            numbers = torch.full((4,), iteration)
            yield iteration // 10, None, {"input": torch.randn(4, 2, generator=generator), "iteration": numbers}

    def loss(self, closure, batch):
        loss = (closure(batch["input"]) - batch["input"] @ GOAL.T).square().mean()
        return self.events.get(int(batch["iteration"][0]), lambda loss: loss)(loss)

    def validation_loss(self, closure):
        return next(self.validation_losses, None) or (closure.weight - GOAL).square().mean().item()


def a_trainer(directory, phases, **settings):
    torch.manual_seed(0)
    module = nn.Linear(2, 2, bias=False)
    settings = Train(engine="none", model=CnnModel(kind="cnn"), **{"gradient_clip": 10.0} | settings)
    store = CheckpointStore(directory / "checkpoints", settings.keep_checkpoints, "mine", STATE_KEYS)
    return Trainer(module, phases, make_engine("none", World()), World(), settings, store)


def train(trainer, metrics=None):
    with StopRequest() as stop:
        trainer.run(metrics, stop)


def records(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def two_phases(**second):
    return [MatrixPhase("apriori", 40), MatrixPhase("unrolled", 50, **second)]


def test_training_reaches_a_goal_that_can_be_learned(tmp_path):
    trainer = a_trainer(tmp_path, two_phases())
    before = trainer.phases[0].validation_loss(trainer.module)
    train(trainer)
    # 90 steps of Adam at 0.3 cross a distance of 4 several times over; its last steps are a hundred times smaller.
    assert trainer.phases[0].validation_loss(trainer.module) < 1e-3 * before


def test_the_record_holds_every_step_and_counts_over_the_phases(tmp_path):
    metrics = MetricsLog(tmp_path / "metrics.jsonl", None, 0)
    train(a_trainer(tmp_path, two_phases()), metrics)
    metrics.close()
    lines = records(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 91))
    assert [line["phase"] for line in lines] == ["apriori"] * 40 + ["unrolled"] * 50
    assert [line["step"] for line in lines if "validation_loss" in line] == list(range(10, 91, 10))
    assert all({"epoch", "loss", "learning_rate", "gradient_norm", "seconds"} <= line.keys() for line in lines)


def test_early_stopping_ends_the_phase_with_its_best_weights(tmp_path):
    # The first number is that of the given weights; the best comes at iteration 20, and patience ends at 40.
    seen = []
    phase = MatrixPhase(num_iterations=100, validation_losses=[9.0, 5.0, 1.0, 2.0, 3.0, 4.0])
    trainer = a_trainer(tmp_path, [phase], patience=2)
    validation_loss = phase.validation_loss
    phase.validation_loss = lambda module: (seen.append(module.weight.detach().clone()), validation_loss(module))[1]
    train(trainer)
    assert trainer.progress.step == 40
    assert len(seen) == 5
    assert torch.equal(trainer.module.weight, seen[2])
    assert not torch.equal(seen[2], seen[4])


def test_a_phase_whose_given_weights_cannot_be_validated_is_trained_all_the_same(tmp_path):
    # As of a closure that blows up over the longest windows before it has seen any.
    trainer = a_trainer(tmp_path, [MatrixPhase(num_iterations=20, validation_losses=[math.nan])], patience=1)
    train(trainer)
    assert trainer.progress.step == 20


def test_a_phase_that_only_makes_it_worse_leaves_the_weights_it_was_given(tmp_path):
    trainer = a_trainer(tmp_path, [MatrixPhase(num_iterations=20, validation_losses=[1.0, math.nan, 2.0])])
    given = trainer.module.weight.detach().clone()
    train(trainer)
    assert torch.equal(trainer.module.weight, given)


def not_a_number(loss):
    return loss * math.nan


def infinite_slope(loss):
    return loss + (loss - loss.detach()).sqrt()  # value 0, slope infinite


@pytest.mark.parametrize(
    "event, what", [(not_a_number, "the loss is nan on rank 0"), (infinite_slope, "the norm of .* because of rank 0")]
)
def test_a_step_that_is_not_finite_is_left_out_and_training_goes_on(tmp_path, event, what):
    metrics = MetricsLog(tmp_path / "metrics.jsonl", None, 0)
    seen = {}

    def noted(name, before):
        def note(loss):
            seen[name] = trainer.module.weight.detach().clone()
            return before(loss)

        return note

    phase = MatrixPhase(events={7: noted("at 7", event), 8: noted("at 8", lambda loss: loss)})
    trainer = a_trainer(tmp_path, [phase])
    train(trainer, metrics)
    metrics.close()
    assert torch.equal(seen["at 7"], seen["at 8"])
    lines = records(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 61))
    (left_out,) = [line for line in lines if "left_out" in line]
    assert left_out["step"] == 8
    assert re.match(what, left_out["left_out"])
    assert None in (left_out["loss"], left_out["gradient_norm"])
    assert trainer.progress.rollbacks == 0


def test_a_training_that_stays_faulty_goes_back_slower_then_gives_up_with_code_4(tmp_path):
    calls, phases = [], two_phases()
    for iteration in range(7, 50):
        phases[1].events[iteration] = lambda loss, i=iteration: (calls.append(i), loss * math.nan)[1]
    rules = {"skips": 1, "rollbacks": 2, "rate_factor": 0.5}
    trainer = a_trainer(tmp_path, phases, checkpoint_every=45, on_divergence=rules)
    metrics = MetricsLog(tmp_path / "metrics.jsonl", None, 0)
    with pytest.raises(DivergedError, match="loss is nan on rank 0, phase unrolled, step 49, after 2 returns") as error:
        train(trainer, metrics)
    metrics.close()
    assert error.value.exit_code == 4
    assert calls == [7, 8] * 3
    assert torch.isfinite(trainer.module.weight).all()
    assert trainer.store.newest().step == 45
    assert trainer.progress.rate_factor == 0.25
    lines = records(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 49))
    # Steps 46 and 47 were done three times; the last time, which stands in the record, at a quarter of the rate.
    uneventful = [learning_rate(i, 50, 0.3, 10) for i in range(7)]
    assert [line["learning_rate"] for line in lines[40:47]] == [*uneventful[:5], *(0.25 * r for r in uneventful[5:])]


def test_a_fault_that_passes_is_forgotten_at_the_end_of_the_phase(tmp_path):
    calls, phases = [], two_phases()

    def three_times(loss):
        calls.append(1)
        return loss * math.nan if len(calls) <= 3 else loss

    phases[0].events |= dict.fromkeys((12, 13, 14), three_times)
    trainer = a_trainer(tmp_path, phases, on_divergence={"skips": 2})
    metrics = MetricsLog(tmp_path / "metrics.jsonl", None, 0)
    train(trainer, metrics)
    metrics.close()
    lines = records(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 91))
    rates = [line["learning_rate"] for line in lines]
    assert rates[20] == 0.5 * learning_rate(20, 40, 0.3, 10)
    assert rates[60] == learning_rate(20, 50, 0.3, 10)


def test_a_phase_that_is_left_out_does_not_hide_that_the_next_one_diverges(tmp_path):
    always = dict.fromkeys(range(50), not_a_number)
    phases = [MatrixPhase(num_iterations=0), MatrixPhase("unrolled", 50, events=always)]
    with pytest.raises(DivergedError, match="phase unrolled, step 1, after 2 returns"):
        train(a_trainer(tmp_path, phases, on_divergence={"skips": 0}))


def test_ranks_whose_weights_differ_again_and_again_end_with_advice_on_memory(tmp_path):
    trainer = a_trainer(tmp_path, two_phases(), roll_call_every=5)
    trainer._roll_call.call = lambda weights: "the weights of rank 1 on node7 differ"
    with pytest.raises(DivergedError, match="on node7 differ, .*, after 2 returns.*; have the memory") as error:
        train(trainer)
    assert "learning_rate" not in str(error.value)
    assert trainer.progress.rate_factor == 1.0


def test_nothing_is_kept_in_the_middle_of_steps_that_are_left_out(tmp_path):
    phase = MatrixPhase(num_iterations=30, events={9: not_a_number})
    trainer = a_trainer(tmp_path, [phase], checkpoint_every=10, keep_checkpoints=9)
    train(trainer)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        f"step-{step:08d}" for step in (0, 20, 30)
    ]


def interrupt(number):
    def send(loss):
        os.kill(os.getpid(), number)
        return loss

    return send


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("phase, iteration", [(0, 12), (0, 39), (1, 0), (1, 33)])
def test_a_run_that_was_asked_to_stop_goes_on_bit_for_bit(tmp_path, number, phase, iteration):
    uninterrupted = a_trainer(tmp_path / "whole", two_phases())
    train(uninterrupted)
    handler = signal.getsignal(number)
    phases = two_phases()
    phases[phase].events[iteration] = interrupt(number)
    first = a_trainer(tmp_path / "parts", phases)
    with pytest.raises(RequeueRequested) as request:
        train(first)
    assert request.value.exit_code == 75
    assert signal.getsignal(number) == handler
    second = a_trainer(tmp_path / "parts", two_phases())
    assert second.resume() == 40 * phase + iteration + 1
    train(second)
    assert torch.equal(second.module.weight, uninterrupted.module.weight)
    wrote, expected = second.store.newest(), uninterrupted.store.newest()
    assert wrote.step == expected.step == 90
    assert wrote.state == expected.state


def test_a_run_that_goes_on_learns_how_long_a_checkpoint_takes(tmp_path):
    """Before the job's wall time ends there must be time for one."""
    phases = two_phases()
    phases[0].events[12] = interrupt(signal.SIGUSR1)
    with pytest.raises(RequeueRequested):
        train(a_trainer(tmp_path, phases))
    second, reported = a_trainer(tmp_path, two_phases(), checkpoint_every=10), []
    second.resume()
    with StopRequest() as stop:
        stop.save_took = reported.append
        second.run(None, stop)
    assert 0.0 < reported[-1] <= second.store.longest_write  # the last save may take longest, and nobody asks again


def test_an_interrupted_run_goes_on_with_the_average_of_its_weights(tmp_path):
    uninterrupted = a_trainer(tmp_path / "whole", two_phases(), weight_average=0.9)
    train(uninterrupted)
    phases = two_phases()
    phases[1].events[33] = interrupt(signal.SIGUSR1)
    with pytest.raises(RequeueRequested):
        train(a_trainer(tmp_path / "parts", phases, weight_average=0.9))
    second = a_trainer(tmp_path / "parts", two_phases(), weight_average=0.9)
    second.resume()
    train(second)
    assert torch.equal(second.module.weight, uninterrupted.module.weight)
    without = a_trainer(tmp_path / "without", two_phases())
    train(without)
    assert not torch.equal(without.module.weight, uninterrupted.module.weight)


def test_a_finished_run_that_is_started_again_trains_no_further(tmp_path):
    trainer = a_trainer(tmp_path, two_phases())
    train(trainer)
    again = a_trainer(tmp_path, two_phases(events={0: lambda loss: pytest.fail("trained again")}))
    assert again.resume() == 90
    train(again)
    assert torch.equal(again.module.weight, trainer.module.weight)
