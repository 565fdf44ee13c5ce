"""The loop's decisions, on a phase small enough to see through: fit one matrix to another."""

import json
import math
import os
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
            yield iteration // 10, None, {"input": torch.randn(4, 2, generator=generator), "iteration": iteration}

    def loss(self, closure, batch):
        loss = (closure(batch["input"]) - batch["input"] @ GOAL.T).square().mean()
        return self.events.get(batch["iteration"], lambda loss: loss)(loss)

    def validation_loss(self, closure):
        return next(self.validation_losses, None) or (closure.weight - GOAL).square().mean().item()


def a_trainer(directory, phases, **settings):
    torch.manual_seed(0)
    module = nn.Linear(2, 2, bias=False)
    train = Train(engine="none", model=CnnModel(kind="cnn"), **{"gradient_clip": 10.0} | settings)
    store = CheckpointStore(directory / "checkpoints", train.keep_checkpoints, "mine")
    return Trainer(module, phases, make_engine("none", World()), World(), train, store)


def two_phases(**second):
    return [MatrixPhase("apriori", 40), MatrixPhase("unrolled", 50, **second)]


def test_training_reaches_a_goal_that_can_be_learned(tmp_path):
    trainer = a_trainer(tmp_path, two_phases())
    before = trainer.phases[0].validation_loss(trainer.module)
    trainer.run(None)
    # 90 steps of Adam at 0.3 cross a distance of 4 several times over; its last steps are a hundred times smaller.
    assert trainer.phases[0].validation_loss(trainer.module) < 1e-3 * before


def test_the_record_holds_every_step_and_counts_over_the_phases(tmp_path):
    metrics = MetricsLog(tmp_path / "metrics.jsonl", None, 0)
    a_trainer(tmp_path, two_phases()).run(metrics)
    metrics.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
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
    trainer.run(None)
    assert trainer.progress.step == 40
    assert len(seen) == 5
    assert torch.equal(trainer.module.weight, seen[2])
    assert not torch.equal(seen[2], seen[4])


def test_a_phase_that_only_makes_it_worse_leaves_the_weights_it_was_given(tmp_path):
    trainer = a_trainer(tmp_path, [MatrixPhase(num_iterations=20, validation_losses=[1.0, math.nan, 2.0])])
    given = trainer.module.weight.detach().clone()
    trainer.run(None)
    assert torch.equal(trainer.module.weight, given)


def test_a_loss_that_is_not_a_number_ends_with_code_4_and_unchanged_weights(tmp_path):
    trainer = a_trainer(tmp_path, two_phases(events={7: lambda loss: loss * math.nan}), checkpoint_every=45)
    with pytest.raises(DivergedError, match="loss is nan on rank 0, phase unrolled, step 48") as error:
        trainer.run(None)
    assert error.value.exit_code == 4
    assert torch.isfinite(trainer.module.weight).all()
    assert trainer.store.newest().step == 45


def test_a_gradient_that_is_not_finite_ends_with_code_4(tmp_path):
    def infinite_slope(loss):
        return loss + (loss - loss.detach()).sqrt()  # value 0, slope infinite

    with pytest.raises(DivergedError, match="gradient.*phase apriori, step 4"):
        a_trainer(tmp_path, [MatrixPhase(events={3: infinite_slope})]).run(None)


def interrupt(number):
    def send(loss):
        os.kill(os.getpid(), number)
        return loss

    return send


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("phase, iteration", [(0, 12), (0, 39), (1, 0), (1, 33)])
def test_a_run_that_was_asked_to_stop_goes_on_bit_for_bit(tmp_path, number, phase, iteration):
    uninterrupted = a_trainer(tmp_path / "whole", two_phases())
    uninterrupted.run(None)
    handler = signal.getsignal(number)
    phases = two_phases()
    phases[phase].events[iteration] = interrupt(number)
    first = a_trainer(tmp_path / "parts", phases)
    with pytest.raises(RequeueRequested) as request:
        first.run(None)
    assert request.value.exit_code == 75
    assert signal.getsignal(number) == handler
    second = a_trainer(tmp_path / "parts", two_phases())
    assert second.resume() == 40 * phase + iteration + 1
    second.run(None)
    assert torch.equal(second.module.weight, uninterrupted.module.weight)
    wrote, expected = second.store.newest(), uninterrupted.store.newest()
    assert wrote.step == expected.step == 90
    assert wrote.state == expected.state


def test_the_random_state_goes_on_where_it_was(tmp_path):
    trainer = a_trainer(tmp_path, [MatrixPhase(events={5: interrupt(signal.SIGUSR1)})])
    with pytest.raises(RequeueRequested):
        trainer.run(None)
    expected = torch.rand(3)
    resumed = a_trainer(tmp_path, [MatrixPhase()])
    resumed.resume()
    assert torch.equal(torch.rand(3), expected)


def test_a_finished_run_that_is_started_again_trains_no_further(tmp_path):
    trainer = a_trainer(tmp_path, two_phases())
    trainer.run(None)
    again = a_trainer(tmp_path, two_phases(events={0: lambda loss: pytest.fail("trained again")}))
    assert again.resume() == 90
    again.run(None)
    assert torch.equal(again.module.weight, trainer.module.weight)
