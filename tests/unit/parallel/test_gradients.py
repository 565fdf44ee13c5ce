"""Gradients of the parts of a step, in one process: what is averaged, and when buckets go on their way."""

import pytest
import torch

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel import gradients
from hpcsurrogate.parallel.engine import Done, SingleEngine
from hpcsurrogate.parallel.gradients import Gradients
from hpcsurrogate.parallel.world import World

ALONE = SingleEngine(World())


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch):
    monkeypatch.setattr(gradients, "BUCKET_SIZE", {"cpu": 100})


@pytest.fixture
def problem():
    """A network and 12 samples in double precision."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).double()
    return module, torch.randn(12, 5, dtype=torch.float64)


def expected_gradients(module, samples):
    module.zero_grad()
    module(samples).square().mean().backward()
    return [parameter.grad.clone() for parameter in module.parameters()]


def step(averager, module, samples, num_parts):
    averager.begin()
    for part in samples.chunk(num_parts):
        averager.backward(module(part).square().mean())
    averager.finish()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("num_parts", [1, 2, 3])
def test_several_parts_equal_one(problem, num_parts, exact):
    """Sums of doubles in another order differ by 1e-16 of their size; the integers of `exact` by 2**-59."""
    module, samples = problem
    expected = expected_gradients(module, samples)
    averager = Gradients(ALONE, module.parameters(), num_parts, exact=exact)
    for _ in range(2):  # nothing of the first step is left in the second
        step(averager, module, samples, num_parts)
        for parameter, wanted in zip(module.parameters(), expected, strict=True):
            assert wanted.abs().max() > 1e-3
            torch.testing.assert_close(parameter.grad, wanted, rtol=0, atol=1e-14)


def test_the_order_of_parts_does_not_matter_when_exact(problem):
    """Bit for bit; without `exact` the same gradients differ, else this test would show nothing."""
    module, samples = problem
    module, samples = module.float(), samples.float()
    seen = {}
    for exact in (False, True):
        averager = Gradients(ALONE, module.parameters(), 4, exact=exact)
        for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
            averager.begin()
            for index in order:
                averager.backward(module(samples.chunk(4)[index]).square().mean())
            averager.finish()
            flat = torch.cat([parameter.grad.flatten() for parameter in module.parameters()])
            seen.setdefault(exact, []).append(flat.clone())
    assert not torch.equal(*seen[False]) and torch.equal(*seen[True])


@pytest.mark.parametrize("exact", [False, True])
def test_a_parameter_without_gradient_counts_as_zero(problem, exact):
    module, samples = problem
    averager = Gradients(ALONE, module.parameters(), 2, exact=exact)
    step(averager, module, samples, 2)
    averager.begin()
    averager.backward(module[0](samples).square().mean())  # the last layer has no part in it
    averager.backward(module(samples).sum())
    averager.finish()
    assert torch.equal(module[2].bias.grad, torch.full((2,), 6.0, dtype=torch.float64))  # 12 samples, halved
    averager.begin()
    for _ in range(2):
        averager.backward(module[0](samples).square().mean())
    averager.finish()
    assert module[2].weight.grad.eq(0).all() and module[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("exact", [False, True])
def test_what_is_not_finite_comes_out_not_finite(problem, exact, value):
    module, samples = problem
    averager = Gradients(ALONE, module.parameters(), 2, exact=exact)
    averager.begin()
    averager.backward(module(samples).square().mean())
    averager.backward((module(samples) * torch.tensor([value, 1.0])).sum())
    averager.finish()
    assert not module[2].bias.grad[0].isfinite()
    assert not module[0].weight.grad.isfinite().all()


class RecordingEngine(SingleEngine):
    """Writes down which messages start and how often autograd had been asked for a gradient by then."""

    dtypes = frozenset({torch.float16, torch.float32, torch.float64, torch.int64})

    def __init__(self, size=1):
        super().__init__(World(size=size))
        self.started = []

    def sum_async(self, tensor, name):
        self.started.append(name)
        return Done()

    max_async = sum_async


def test_buckets_start_in_order_while_backward_still_runs(problem):
    module, samples = problem
    engine = RecordingEngine()
    averager = Gradients(engine, module.parameters(), 2)
    seen = {}
    module[0].weight.register_post_accumulate_grad_hook(lambda _: seen.update(last=list(engine.started)))
    averager.begin()
    averager.backward(module(samples).sum())
    assert engine.started == []  # nothing travels before the last part
    averager.backward(module(samples).sum())
    in_order = [f"gradients.{number}" for number in range(len(engine.started))]
    assert engine.started == in_order and len(in_order) == 4
    # When the first layer's weights, the last gradients to come, have arrived, the last layer's are on their way.
    assert seen["last"][:2] == in_order[:2]
    averager.finish()


def test_a_bucket_that_is_complete_waits_for_the_one_before(problem):
    """A rank whose last layer gets no gradient must not send the first layer's before it: others would not."""
    module, samples = problem
    engine = RecordingEngine()
    averager = Gradients(engine, module.parameters(), 1, exact=True)
    averager.begin()
    averager.backward(module[0](samples).sum())
    names = [f"gradients.{number}" for number in range(4)]
    assert engine.started == [f"{name}.largest" for name in names]
    averager.finish()
    assert engine.started[4:] == names


def test_backward_outside_a_step_is_nobody_s_business(problem):
    module, samples = problem
    averager = Gradients(ALONE, module.parameters(), 1)
    expected = expected_gradients(module, samples)
    for parameter, wanted in zip(module.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, wanted)
    step(averager, module, samples, 1)


def test_parts_are_counted(problem):
    module, samples = problem
    averager = Gradients(ALONE, module.parameters(), 2)
    with pytest.raises(ValueError, match="begin"):
        averager.backward(module(samples).sum())
    averager.begin()
    averager.backward(module(samples).sum())
    with pytest.raises(ValueError, match="part 1 of 2"):
        averager.finish()
    averager.backward(module(samples).sum())
    with pytest.raises(ValueError, match="2 times"):
        averager.backward(module(samples).sum())


def test_types_that_cannot_be_had_are_refused(problem):
    module, _ = problem
    with pytest.raises(ConfigError, match="train.gradient_compression: float16 is not for train.exact"):
        Gradients(ALONE, module.parameters(), 1, "float16", exact=True)
    with pytest.raises(ConfigError, match="cannot sum bfloat16; set float16"):
        Gradients(RecordingEngine(size=2), module.parameters(), 1, "bfloat16")


def test_parameters_of_two_types_travel_apart():
    parameters = [torch.nn.Parameter(torch.ones(2, dtype=dtype)) for dtype in (torch.float32, torch.float64)]
    averager = Gradients(ALONE, parameters, 1)
    averager.begin()
    averager.backward(3.0 * sum(parameter.sum() for parameter in parameters))
    averager.finish()
    assert [parameter.grad.dtype for parameter in parameters] == [torch.float32, torch.float64]
    assert all(parameter.grad.eq(3).all() for parameter in parameters)
