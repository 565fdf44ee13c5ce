"""What ranks compare: who differs from most, who is slow, who runs something else."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.roll_call import RollCall, compare_setups, others_than_most, parameter_digest


class Answering(World):
    """Rank 0 of several; `others` makes the answers of the other ranks from its own."""

    def __init__(self, *others):
        super().__init__(0, 1 + len(others))
        object.__setattr__(self, "others", others)

    def allgather(self, obj):
        return [obj, *(other(obj) for other in self.others)]


def same(answer):
    return answer


@pytest.mark.parametrize(
    "values, others",
    [("aaaa", []), ("aaba", [2]), ("baaa", [0]), ("ab", [1]), ("aabb", [2, 3]), ("abc", [1, 2]), ("a", [])],
)
def test_the_others_are_those_that_differ_from_most_or_else_from_rank_0(values, others):
    assert others_than_most(values) == others


def test_equal_weights_are_no_news_and_a_bit_is():
    weights = torch.linspace(0.0, 1.0, 7)
    answers = []
    RollCall(Answering(lambda answer: answers.append(answer) or answer)).call([weights])
    altered = weights.clone()
    altered.view(torch.int32)[3] ^= 1
    call = RollCall(Answering(lambda _: answers[0], lambda _: answers[0]))
    assert call.call([weights]) is None
    assert "the weights of rank 0 on " in call.call([altered])
    assert RollCall(World()).call([altered]) is None


@pytest.mark.parametrize("factor, named", [(10.0, True), (2.5, False)])
@pytest.mark.parametrize("size", [2, 4])
def test_a_rank_much_slower_than_the_median_is_named_once(caplog, factor, named, size):
    world = Answering(*[same] * (size - 2), lambda answer: replace(answer, seconds=factor * answer.seconds))
    call = RollCall(world)
    with caplog.at_level(logging.WARNING, "hpcsurrogate"):
        for _ in range(2):
            for _ in range(5):
                call.add_step(0.5)
            call.call([])
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == named
    assert all(f"rank {size - 1} on " in line and "10.0 times the median" in line for line in lines)


def test_the_time_of_a_single_step_names_nobody(caplog):
    call = RollCall(Answering(lambda answer: replace(answer, seconds=100.0)))
    call.add_step(0.1)
    call.call([])
    assert not caplog.records


def test_ranks_that_run_something_else_are_refused_by_name():
    setup = {"experiment": "abc", "program": "1.0"}
    compare_setups(World(), setup)
    compare_setups(Answering(same, same), setup)
    other = Answering(same, lambda answer: ({**answer[0], "program": "1.1"}, answer[1]), same)
    with pytest.raises(ConfigError, match="the program differs among the ranks: rank 2 on "):
        compare_setups(other, setup)


def test_the_digest_of_a_network_is_that_of_its_names_shapes_and_types():
    one, other = nn.Linear(2, 3), nn.Linear(2, 3)
    assert parameter_digest(one) == parameter_digest(other)
    different = [nn.Linear(3, 2), nn.Linear(2, 3, bias=False), nn.Linear(2, 3).double(), nn.Sequential(one)]
    assert parameter_digest(one) not in [parameter_digest(module) for module in different]
