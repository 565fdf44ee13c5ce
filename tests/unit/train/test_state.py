"""The state of a training: what goes into a checkpoint comes out of it."""

import json

import pytest
import torch
from torch import nn

from hpcsurrogate.core.config import CnnModel, Train
from hpcsurrogate.train.checkpoint import Checkpoint
from hpcsurrogate.train.state import STATE_KEYS, Progress, TrainingState


def a_state(seed=0, **settings):
    torch.manual_seed(seed)
    return TrainingState(nn.Linear(3, 2), Train(model=CnnModel(kind="cnn"), **settings))


def take_steps(state, number):
    for step in range(number):
        generator = torch.Generator().manual_seed(step)
        state.optimizer.zero_grad()
        loss = state.module(torch.randn(5, 3, generator=generator)).square().mean()
        state.scaler.scale(loss).backward()
        state.set_rate(0.1)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.average is not None:
            state.average.update(state.module)
        state.progress.step += 1


def copied(checkpoint):
    """As a store does: tensors by value, the rest through JSON."""
    parts = {
        name: {key: tensor.clone() for key, tensor in getattr(checkpoint, name).items()}
        for name in ("weights", "best", "optimizer", "average")
    }
    return Checkpoint(step=checkpoint.step, state=json.loads(json.dumps(checkpoint.state)), **parts)


@pytest.mark.parametrize("settings", [{}, {"weight_average": 0.9, "precision": "float16", "weight_decay": 0.1}])
def test_a_state_that_is_restored_goes_on_bit_for_bit(settings):
    state = a_state(**settings)
    take_steps(state, 3)
    state.note_best(0.25)
    take_steps(state, 2)
    checkpoint = copied(state.checkpoint())
    assert set(checkpoint.state) == set(STATE_KEYS)
    other = a_state(seed=1, **settings)
    other.restore(copied(checkpoint))
    for each in (state, other):
        take_steps(each, 3)
    assert other.progress == state.progress == Progress(step=8, best_loss=0.25)
    one, two = state.checkpoint(), other.checkpoint()
    assert one.state == two.state
    for part in ("weights", "best", "optimizer", "average"):
        ours, theirs = getattr(one, part), getattr(two, part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), part
    assert bool(one.average) == ("weight_average" in settings)


def test_a_phase_ends_with_its_best_weights_and_an_optimizer_without_memory():
    state = a_state(weight_average=0.9)
    take_steps(state, 2)
    state.note_best(1.0)
    best = state.module.weight.detach().clone()
    state.progress.rollbacks, state.progress.rate_factor = 1, 0.5
    take_steps(state, 2)
    state.end_phase()
    assert torch.equal(state.module.weight, best)
    assert not state.checkpoint().optimizer
    assert state.progress == Progress(phase=1, step=4)
    with state.averaged():
        assert torch.equal(state.module.weight, best)


def test_weights_that_are_compared_hold_the_average_too():
    assert len(a_state().weights()) == 2
    assert len(a_state(weight_average=0.9).weights()) > 4
