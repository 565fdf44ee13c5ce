"""Choosing an engine, and the one that trains alone."""

import sys

import pytest
import torch

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import World


def test_none_with_several_ranks_is_refused():
    with pytest.raises(ConfigError, match="2 ranks were started"):
        make_engine("none", World(rank=0, size=2))


def test_an_unknown_engine_is_refused():
    with pytest.raises(ConfigError, match="gloo"):
        make_engine("gloo", World())


def test_a_missing_horovod_is_an_error_and_not_a_serial_run(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "horovod.torch", None
    )  # what the import system makes of a package that is not there
    monkeypatch.delitem(sys.modules, "hpcsurrogate.parallel.horovod_engine", raising=False)
    with pytest.raises(ConfigError, match="engine: none"):
        make_engine("horovod", World())


def test_a_world_that_horovod_does_not_see_is_refused(monkeypatch):
    """A Horovod that believes to be alone among two ranks: built for another MPI than the launcher's."""

    class Alone:
        """Stands in for horovod.torch."""

        init = staticmethod(lambda: None)
        size = staticmethod(lambda: 1)
        rank = staticmethod(lambda: 0)

    from hpcsurrogate.core.errors import RankLostError
    from hpcsurrogate.parallel import horovod_engine

    monkeypatch.setattr(horovod_engine, "hvd", Alone)
    with pytest.raises(RankLostError, match="Horovod is rank 0 of 1, MPI is rank 1 of 2"):
        make_engine("horovod", World(rank=1, size=2))


@pytest.mark.parametrize("max_norm", [None, 0.5, 100.0])
def test_step_alone_clips_and_updates(max_norm):
    """Gradient (3, 4): norm 5; plain descent with rate 1 moves by the clipped gradient (float32 division: 1e-6)."""
    engine = make_engine("none", World())
    weight = torch.nn.Parameter(torch.zeros(2))
    module = torch.nn.ParameterList([weight])
    optimizer = engine.wrap(torch.optim.SGD(module.parameters(), lr=1.0), module)
    engine.broadcast(module, optimizer)
    (weight * torch.tensor([3.0, 4.0])).sum().backward()
    assert engine.step(optimizer, module.parameters(), max_norm).item() == pytest.approx(5.0)
    scale = 0.1 if max_norm == 0.5 else 1.0
    assert torch.allclose(weight.detach(), -scale * torch.tensor([3.0, 4.0]), atol=1e-6)


def test_mean_alone_is_a_copy_without_gradient():
    engine = make_engine("none", World())
    value = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    mean = engine.mean(value)
    assert mean.item() == 2.0 and mean.dtype == torch.float64 and not mean.requires_grad
    assert mean.data_ptr() != value.data_ptr()
