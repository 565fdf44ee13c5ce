"""How ranks train together: gradients averaged, state broadcast, numbers averaged.

`make_engine` is the one place that chooses. Asking for Horovod and training alone is never the same thing:
what cannot be had is an error.

The contract that trainers rely on: if every rank's loss is the mean over its own samples and all ranks have the
same number, one `step` equals the step of one rank on the joined batch (tests/parallel/test_engine_gradients.py).
"""

from collections.abc import Iterable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.world import World


class Engine(Protocol):
    """What a trainer may ask for. All methods are collective: every rank calls them in the same order."""

    rank: int
    size: int

    def wrap(self, optimizer: Optimizer, module: nn.Module) -> Optimizer:
        """Return the optimizer to use from now on, without state: call it before any state is loaded or broadcast."""

    def broadcast(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Give every rank rank 0's parameters, buffers and optimizer state."""

    def step(self, optimizer: Optimizer, parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
        """Average the gradients, clip their norm, update; return the norm before clipping, shape () [-].

        `max_norm` None clips nothing. The norm is the same on every rank.
        """

    def mean(self, tensor: Tensor) -> Tensor:
        """Average a floating-point tensor over the ranks in its own precision; a new tensor without gradient."""


class SingleEngine:
    """One process that trains alone."""

    rank = 0
    size = 1

    def wrap(self, optimizer: Optimizer, module: nn.Module) -> Optimizer:
        """Return the optimizer itself."""
        return optimizer

    def broadcast(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Nothing to do."""

    def step(self, optimizer: Optimizer, parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
        """Clip the norm of the gradients, update; return the norm before clipping."""
        norm = clip_gradients(parameters, max_norm)
        optimizer.step()
        return norm

    def mean(self, tensor: Tensor) -> Tensor:
        """Return a copy."""
        return tensor.detach().clone()


def make_engine(kind: Literal["horovod", "none"], world: World) -> Engine:
    """The engine an experiment asks for.

    Parameters
    ----------
    kind : "horovod" or "none"
    world : World

    Raises
    ------
    ConfigError      if `none` meets more than one rank, or Horovod is not installed for this torch and MPI
    RankLostError    if Horovod sees another world size than MPI
    """
    if kind == "horovod":
        from hpcsurrogate.parallel.horovod_engine import HorovodEngine

        return HorovodEngine(world)
    if kind != "none":
        raise ConfigError(f"train.engine: {kind!r} is not an engine; use horovod or none")
    if world.size > 1:
        raise ConfigError(
            f"train.engine: none trains alone, but {world.size} ranks were started; "
            "set `ranks: 1` or `train.engine: horovod`"
        )
    return SingleEngine()


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
    """Scale gradients in place to a joint 2-norm of at most `max_norm`; return the norm before, shape () [-]."""
    return torch.nn.utils.clip_grad_norm_(parameters, float("inf") if max_norm is None else max_norm)
