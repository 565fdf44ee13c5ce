"""Choosing an engine, and the one that trains alone."""

import sys

import pytest
import torch

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.engine import clip_gradients, make_engine
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
    with pytest.raises(ConfigError, match="or `none` to train alone"):
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


def test_horovod_without_mpi_is_refused():
    with pytest.raises(ConfigError, match="set `train.engine: torch`"):
        make_engine("horovod", World(rank=0, size=2, is_mpi=False))


@pytest.mark.parametrize("max_norm", [None, 0.5, 100.0])
def test_gradients_are_clipped_together(max_norm):
    """Gradients (3) and (4): norm 5, and less than `max_norm` afterwards (float32 division: 1e-6)."""
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    for parameter, gradient in zip(parameters, (3.0, 4.0), strict=True):
        parameter.grad = torch.tensor([gradient])
    assert clip_gradients(parameters, max_norm).item() == pytest.approx(5.0)
    scale = 0.1 if max_norm == 0.5 else 1.0
    assert parameters[1].grad.item() == pytest.approx(4.0 * scale, abs=1e-6)


@pytest.mark.parametrize("kind", ["none", "torch"])
def test_messages_of_one_process_are_their_own_result(kind):
    engine = make_engine(kind, World())
    assert (engine.name, engine.rank, engine.size) == (kind, 0, 1)
    tensor = torch.tensor([1, 2])
    for start in (engine.sum_async, engine.max_async):
        start(tensor, "numbers").wait()
    assert tensor.tolist() == [1, 2]
    engine.close()
