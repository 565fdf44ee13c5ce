"""One step: parts add up, dropout is a function of the step, what is not finite changes nothing."""

import math

import pytest
import torch
from torch import nn

from hpcsurrogate.core.config import CnnModel, Train
from hpcsurrogate.models.damping import DampingNet
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.shards import Shards
from hpcsurrogate.train.state import TrainingState
from hpcsurrogate.train.step import Stepper, in_precision

SAMPLES = torch.randn(8, 3, generator=torch.Generator().manual_seed(5))


class Network(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.dropout = nn.Linear(3, 2), nn.Dropout(dropout)

    def forward(self, velocity):
        return self.dropout(self.layer(velocity))


class Phase:
    """`change` is applied to the loss."""

    def __init__(self, change=None):
        self.change, self.losses = change or (lambda loss: loss), []

    def loss(self, closure, batch):
        loss = self.change(closure(batch["velocity"]).square().mean())
        self.losses.append(loss.item())
        return loss


def a_stepper(dropout=0.0, seed=7, **settings):
    settings = Train(model=CnnModel(kind="cnn"), gradient_clip=1e6, **settings)
    state = TrainingState(Network(dropout), settings)
    shards = Shards.of(settings, World())
    return state, Stepper(state, make_engine("none", World()), settings, shards, seed)


def take(stepper, phase=None, samples=SAMPLES):
    return stepper.take(phase or Phase(), {"velocity": samples}, 0.1, lambda: False)


def weights(state):
    return torch.cat([parameter.detach().flatten() for parameter in state.parameters]).clone()


@pytest.mark.parametrize("settings", [{"accumulate": 4}, {"exact": True, "virtual_shards": 8}])
def test_a_step_in_parts_is_the_step_of_the_whole(settings):
    whole_state, whole = a_stepper()
    state, stepper = a_stepper(**settings)
    expected, found = take(whole), take(stepper)
    # Means of equal parts: round-off of a few single-precision numbers of order one, which AdamW's first step, a tenth
    # of the sign of the gradient, does not enlarge here.
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert found.norm == pytest.approx(expected.norm, rel=1e-6)
    torch.testing.assert_close(weights(state), weights(whole_state), rtol=0, atol=1e-6)


def test_dropout_depends_on_seed_step_and_part_alone():
    def losses(seed, step, disturb=0):
        state, stepper = a_stepper(dropout=0.5, seed=seed, accumulate=2)
        state.progress.step = step
        torch.manual_seed(disturb)
        phase = Phase()
        take(stepper, phase, SAMPLES[:4].repeat(2, 1))
        return phase.losses

    first = losses(seed=7, step=3)
    assert losses(seed=7, step=3, disturb=99) == first
    assert first[0] != first[1]  # the same samples in another part
    assert len({*first, *losses(seed=7, step=4), *losses(seed=8, step=3)}) == 6


def test_the_request_to_stop_is_told():
    _, stepper = a_stepper()
    assert stepper.take(Phase(), {"velocity": SAMPLES}, 0.1, lambda: True).stop
    assert not take(stepper).stop


@pytest.mark.parametrize("exact", [False, True])
def test_what_is_not_finite_changes_nothing_and_is_named(exact):
    state, stepper = a_stepper(weight_average=0.5, **({"exact": True, "virtual_shards": 4} if exact else {}))
    take(stepper)
    before, averaged = weights(state), state.average.state_dict()["layer.weight"].clone()
    calls = []

    def third(loss):
        calls.append(1)
        return loss * math.inf if len(calls) == 3 or not exact else loss

    outcome = take(stepper, Phase(third))
    assert outcome.fault == f"the loss is inf on rank 0{', part 2 of 4' if exact else ''}"
    assert outcome.loss is None
    outcome = take(stepper, Phase(lambda loss: loss + (loss - loss.detach()).sqrt()))  # its slope is infinite
    assert "the norm of the gradient" in outcome.fault and outcome.fault.endswith("because of rank 0")
    assert outcome.loss is not None and outcome.norm is None
    assert torch.equal(weights(state), before)
    assert torch.equal(state.average.state_dict()["layer.weight"], averaged)
    assert take(stepper).fault is None
    assert not torch.equal(weights(state), before)


def test_a_loss_scale_that_is_too_large_is_lowered_without_a_fault_and_one_that_cannot_help_is_none():
    state, stepper = a_stepper(precision="float16")
    before, scales = weights(state), []
    # Its gradients, about 100, fit into float16, which ends at 65504; times the first scale of 65536 they do not.
    for _ in range(20):
        outcome = take(stepper, Phase(lambda loss: loss * 100.0))
        scales.append(state.scaler.get_scale())
        assert outcome.fault is None
        if outcome.norm is not None:
            break
        assert torch.equal(weights(state), before)
    assert scales[0] < 65536 and scales == sorted(scales, reverse=True)
    assert outcome.norm is not None and not torch.equal(weights(state), before)
    faults = [take(stepper, Phase(lambda loss: loss + (loss - loss.detach()).sqrt())).fault for _ in range(20)]
    assert faults[0] is None and "because of rank 0" in faults[-1]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_network_alone_works_in_half_precision(precision):
    module, seen = Network(), []
    module.layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    result = in_precision(module, precision)(SAMPLES)
    assert seen == [getattr(torch, precision)]
    assert result.dtype == torch.float32
    # Eight bits of a bfloat16's mantissa on sums of three products of order one.
    torch.testing.assert_close(result, module(SAMPLES), rtol=0, atol=0.03)
    assert in_precision(module, "float32") is module


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_linear_damping_stays_one_whatever_the_precision(precision):
    """Or the solver would call it in training, instead of taking its rates as it does in use."""
    module = DampingNet((0.1, 0.1), 4)
    assert in_precision(module, precision) is module
