"""How ranks train together: tensors summed over them while the arithmetic goes on, and one state for all.

`make_engine` is the one place that chooses. Asking for Horovod or torch.distributed and training alone is never the
same thing: what cannot be had is an error. Averages of gradients, with all that makes them cheap or exact, are made
once for all engines, in gradients.py.
"""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hpcsurrogate.core.errors import ConfigError, RankLostError
from hpcsurrogate.parallel.world import World

Kind = Literal["horovod", "torch", "none"]


class Handle(Protocol):
    """A message on its way."""

    def wait(self) -> None:
        """Return when the tensor holds the result.

        Raises
        ------
        RankLostError    if the transport lost another rank, or ranks sent what does not fit together
        """


class Done:
    """A message that need not go anywhere."""

    def wait(self) -> None:
        """Return at once."""


def message_lost(name: str, error: Exception) -> RankLostError:
    """What to raise where a transport could not bring a message to its end; one line, whatever `error` says."""
    return RankLostError(f"message '{name}' to the other ranks failed: {' '.join(str(error).split())}")


class Engine(ABC):
    """What a trainer may ask for. All methods but `close` are collective: every rank calls them in the same order.

    Parameters
    ----------
    world : World

    Attributes
    ----------
    name : str                  as in train.engine
    dtypes : frozenset          the types of numbers that travel
    rank, size : int [-]        of the world
    """

    name: Kind
    dtypes = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64})

    def __init__(self, world: World):
        self._world = world
        self.rank, self.size = world.rank, world.size

    @abstractmethod
    def sum_async(self, tensor: Tensor, name: str) -> Handle:
        """Begin to sum a tensor over the ranks, in place.

        Parameters
        ----------
        tensor : Tensor, contiguous, one of `dtypes`    same shape on every rank; not to be touched before `wait`
        name : str    unique among the messages on their way, the same for the same message of every step

        Notes
        -----
        The result has the same bits on every rank (tests/parallel/test_engine_transport.py).
        """

    @abstractmethod
    def max_async(self, tensor: Tensor, name: str) -> Handle:
        """Begin to find the largest of each element over the ranks, in place; as `sum_async`, and no NaN."""

    def broadcast(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Give every rank rank 0's parameters, buffers and optimizer state; no step is counted."""
        if self.size == 1:
            return
        file = io.BytesIO()
        if self.rank == 0:
            torch.save((module.state_dict(), optimizer.state_dict()), file)
        state = io.BytesIO(self._world.bcast(file.getvalue()))
        # Through CPU memory: rank 0's GPU has another number than ours.
        weights, optimizer_state = torch.load(state, map_location="cpu", weights_only=True)
        module.load_state_dict(weights)
        optimizer.load_state_dict(optimizer_state)

    def close(self) -> None:  # noqa: B027
        """End what this engine began; no message may be on its way."""


class SingleEngine(Engine):
    """One process that trains alone."""

    name = "none"

    def sum_async(self, tensor: Tensor, name: str) -> Handle:
        """The tensor is the sum already."""
        return Done()

    def max_async(self, tensor: Tensor, name: str) -> Handle:
        """The tensor is the largest already."""
        return Done()


def make_engine(kind: Kind, world: World, device: torch.device | str = "cpu") -> Engine:
    """The engine an experiment asks for. Collective.

    Parameters
    ----------
    kind : "horovod", "torch" or "none"
    world : World
    device : torch.device or str    where the tensors lie that it will sum; CPU tensors it takes too

    Raises
    ------
    ConfigError      if `none` meets more than one rank, Horovod is not installed for this torch and MPI, or torchrun
                     started ranks that want Horovod
    RankLostError    if Horovod sees another world size than MPI, or the ranks cannot reach each other
    """
    if kind == "horovod":
        from hpcsurrogate.parallel.horovod_engine import HorovodEngine

        return HorovodEngine(world)
    if kind == "torch":
        from hpcsurrogate.parallel.torch_engine import TorchEngine

        return TorchEngine(world, torch.device(device))
    if kind != "none":
        raise ConfigError(f"train.engine: {kind!r} is not an engine; use horovod, torch or none")
    if world.size > 1:
        raise ConfigError(
            f"train.engine: none trains alone, but {world.size} ranks were started; "
            "set `ranks: 1`, or `train.engine` to horovod or torch"
        )
    return SingleEngine(world)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
    """Scale gradients in place to a joint 2-norm of at most `max_norm`; return the norm before, shape () [-]."""
    return torch.nn.utils.clip_grad_norm_(parameters, float("inf") if max_norm is None else max_norm)
