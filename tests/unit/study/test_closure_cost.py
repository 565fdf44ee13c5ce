import torch

from hpcsurrogate.study.closure_cost import closure_milliseconds, network_digest
from hpcsurrogate.study.runs import changed_experiment

CNN = "train.model={kind: cnn, hidden_layers: 2, channels: %d}"


def test_a_larger_network_costs_more(tiny):
    """64 times the multiplications of its middle layer; overhead of a call makes less of it, twice is surely left."""
    small, large = (closure_milliseconds(changed_experiment(tiny, [CNN % channels])) for channels in (8, 64))
    assert 0 < 2 * small < large


def test_threads_are_left_as_they_were(tiny):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        closure_milliseconds(tiny)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_decides_the_cost(tiny):
    same = changed_experiment(tiny, ["train.apriori.learning_rate=0.5", "seed=3"])
    assert network_digest(same) == network_digest(tiny)
    for change in ("train.model.channels=3", "host.grid=[32, 32]"):
        assert network_digest(changed_experiment(tiny, [change])) != network_digest(tiny)
