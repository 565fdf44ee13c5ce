import torch

from hpcsurrogate.study import closure_cost
from hpcsurrogate.study.closure_cost import closure_milliseconds, known_milliseconds
from hpcsurrogate.study.runs import changed_experiment

CNN = "train.model={kind: cnn, hidden_layers: 2, channels: %d}"


def test_a_larger_network_costs_more(tiny):
    """256 times the multiplications of its middle layer; overhead of a call makes less of it, twice is surely left."""
    small, large = (closure_milliseconds(changed_experiment(tiny, [CNN % channels])) for channels in (8, 128))
    assert 0 < 2 * small < large


def test_threads_are_left_as_they_were(tiny):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        closure_milliseconds(tiny)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_each_network_is_measured_once_in_a_search(tiny, tmp_path, monkeypatch):
    times = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(closure_cost, "closure_milliseconds", lambda _: next(times))
    assert known_milliseconds(tiny, tmp_path) == 1.0
    same = changed_experiment(tiny, ["train.apriori.learning_rate=0.5", "seed=3"])
    assert known_milliseconds(same, tmp_path) == 1.0
    others = (changed_experiment(tiny, [change]) for change in ("train.model.channels=3", "host.grid=[32, 32]"))
    assert [known_milliseconds(other, tmp_path) for other in others] == [2.0, 3.0]
