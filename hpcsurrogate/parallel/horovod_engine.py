"""Training over ranks with Horovod: the only file that knows it."""

import os
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hpcsurrogate.core.errors import ConfigError, RankLostError, ShapeError
from hpcsurrogate.parallel.engine import clip_gradients
from hpcsurrogate.parallel.world import World

try:
    import horovod.torch as hvd
except ImportError as error:  # covers a Horovod that was built for another torch or MPI
    raise ConfigError(
        f"train.engine: horovod cannot be loaded ({error}); run `make install`, which builds it for this torch and "
        "MPI, or set `train.engine: none` to train alone"
    ) from error


# Time between two cycles of Horovod's background thread [ms]. Each is an exchange in which MPI spins until the slowest
# rank arrives: beside GPUs Horovod's own 1 ms costs nothing, but where the arithmetic wants the same cores it more than
# doubled the time of a step.
CPU_CYCLE_TIME = "5"


class HorovodEngine:
    """Gradients averaged by Horovod's DistributedOptimizer, one process per rank of the MPI world."""

    def __init__(self, world: World):
        """Start Horovod.

        Raises
        ------
        RankLostError    if Horovod's world is not the MPI world
        """
        if not torch.cuda.is_available():
            os.environ.setdefault("HOROVOD_CYCLE_TIME", CPU_CYCLE_TIME)
        hvd.init()
        if hvd.size() != world.size or hvd.rank() != world.rank:
            raise RankLostError(
                f"Horovod is rank {hvd.rank()} of {hvd.size()}, MPI is rank {world.rank} of {world.size}: they were "
                "built for different MPIs; run `make install` with the MPI on PATH that you launch with"
            )
        self.rank = world.rank
        self.size = world.size

    def wrap(self, optimizer: Optimizer, module: nn.Module) -> Optimizer:
        """Return a DistributedOptimizer with the settings of `optimizer` and no state."""
        return hvd.DistributedOptimizer(optimizer, named_parameters=module.named_parameters(), op=hvd.Average)

    def broadcast(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Give every rank rank 0's parameters, buffers and optimizer state.

        The state goes as one object: Horovod's own broadcast_optimizer_state makes missing state by a step with zero
        gradients, which counts as a step and lets weight decay act.
        """
        hvd.broadcast_parameters(module.state_dict(), root_rank=0)
        optimizer.load_state_dict(hvd.broadcast_object(optimizer.state_dict(), root_rank=0))

    def step(self, optimizer: Optimizer, parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
        """Average the gradients over the ranks, clip the norm of the average, update; return the norm before."""
        optimizer.synchronize()
        norm = clip_gradients(parameters, max_norm)
        with optimizer.skip_synchronize():
            optimizer.step()
        return norm

    def mean(self, tensor: Tensor) -> Tensor:
        """Average a floating-point tensor over the ranks in its own precision.

        Raises
        ------
        ShapeError    for an integer or boolean tensor, whose average has no place in its type
        """
        if not tensor.is_floating_point():
            raise ShapeError(f"mean over ranks: got a tensor of {tensor.dtype}; convert it to float64 first")
        # A name of its own for every shape: Horovod numbers unnamed messages and negotiates each as if it were new.
        name = f"mean.{tensor.dtype}.{'x'.join(map(str, tensor.shape))}"
        return hvd.allreduce(tensor.detach(), op=hvd.Average, name=name)
