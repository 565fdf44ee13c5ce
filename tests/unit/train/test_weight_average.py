"""The moving average of the weights: its definition, how soon it forgets, its state, and validation with it."""

import pytest
import torch
from torch import nn

from hpcsurrogate.train.weight_average import WeightAverage


def network(value=0.0):
    module = nn.Linear(3, 2, dtype=torch.float64)
    set_weights(module, value)
    return module


def set_weights(module, value):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def trained(module, average, values):
    for value in values:
        set_weights(module, value)
        average.update(module)
    return average.state_dict()["weight"][0, 0].item()


def test_is_the_exponential_average_with_a_growing_decay():
    module, expected = network(0.0), 0.0
    average = WeightAverage(module, decay=0.9)
    for n in range(300):
        value = float((7 * n) % 11)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
        # Each step rounds numbers of order ten once or twice, and the decay forgets: a few 1e-15 remain.
        assert trained(module, average, [value]) == pytest.approx(expected, abs=1e-13)


def test_soon_forgets_the_weights_of_the_start():
    module = network(1.0)
    # The share of the start after 100 steps is the product of (1 + n) / (10 + n), n = 0 ... 99, about 2e-13.
    assert trained(module, WeightAverage(module, decay=0.999), [0.0] * 100) < 1e-12


def test_weights_that_do_not_change_are_their_own_average_bit_for_bit():
    module = network(1 / 3)
    average = WeightAverage(module, decay=0.999)
    assert trained(module, average, [1 / 3] * 50) == 1 / 3


def test_goes_on_from_its_state_bit_for_bit():
    module = network(0.3)
    average = WeightAverage(module, decay=0.99)
    trained(module, average, [0.1, 0.7, 0.2])
    copy = WeightAverage(network(5.0), decay=0.99)
    copy.load_state_dict({name: tensor.clone() for name, tensor in average.state_dict().items()})
    assert trained(network(), copy, [0.9, 0.4]) == trained(network(), average, [0.9, 0.4])
    assert {name: int(t) for name, t in copy.state_dict().items() if name == "num_updates"} == {"num_updates": 5}


def test_module_holds_the_average_inside_the_context_alone_even_after_an_error():
    module = network(1.0)
    average = WeightAverage(module, decay=0.5)
    trained(module, average, [3.0])
    inside = average.state_dict()["weight"].clone()
    assert not torch.equal(inside, module.weight)
    with average.applied_to(module):
        assert torch.equal(module.weight, inside)
    assert torch.equal(module.weight, torch.full_like(module.weight, 3.0))
    with pytest.raises(ZeroDivisionError), average.applied_to(module):
        raise ZeroDivisionError
    assert torch.equal(module.weight, torch.full_like(module.weight, 3.0))
    assert module.weight.requires_grad
