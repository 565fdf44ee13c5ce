"""Sums over ranks by Horovod: the only file that knows it."""

import os

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ConfigError, RankLostError
from hpcsurrogate.parallel.engine import Done, Engine, Handle, message_lost
from hpcsurrogate.parallel.world import World

try:
    import horovod.torch as hvd
except ImportError as error:  # covers a Horovod that was built for another torch or MPI
    raise ConfigError(
        f"train.engine: horovod cannot be loaded ({error}); run `make install`, which builds it for this torch and "
        "MPI, or set `train.engine: torch`, or `none` to train alone"
    ) from error


# Time between two cycles of Horovod's background thread [ms]. Each is an exchange in which MPI spins until the slowest
# rank arrives: beside GPUs Horovod's own 1 ms costs nothing, but where the arithmetic wants the same cores, shorter
# cycles take its time, and longer ones let it wait (HOROVOD_CYCLE_TIME=... scripts/bench_training.py shows both).
CPU_CYCLE_TIME = "3"


class HorovodEngine(Engine):
    """Sums by Horovod, one process per rank of the MPI world.

    Raises
    ------
    ConfigError      if torchrun started the ranks: Horovod would not find them
    RankLostError    if Horovod's world is not the MPI world
    """

    name = "horovod"
    dtypes = Engine.dtypes - {torch.bfloat16}  # which Horovod refuses

    def __init__(self, world: World):
        super().__init__(world)
        if not world.is_mpi:
            raise ConfigError(
                "train.engine: horovod needs ranks of MPI, but torchrun's variables started these; set "
                "`train.engine: torch`, or start with mpirun or srun --mpi=pmix"
            )
        if not torch.cuda.is_available():
            os.environ.setdefault("HOROVOD_CYCLE_TIME", CPU_CYCLE_TIME)
        hvd.init()
        if hvd.size() != world.size or hvd.rank() != world.rank:
            raise RankLostError(
                f"Horovod is rank {hvd.rank()} of {hvd.size()}, MPI is rank {world.rank} of {world.size}: they were "
                "built for different MPIs; run `make install` with the MPI on PATH that you launch with"
            )

    def sum_async(self, tensor: Tensor, name: str) -> Handle:
        """Begin to sum in place; Horovod itself fuses what is small and starts within one cycle."""
        return self._begin(tensor, name, hvd.Sum)

    def max_async(self, tensor: Tensor, name: str) -> Handle:
        """Begin to find the largest, in place."""
        return self._begin(tensor, name, hvd.Max)

    def _begin(self, tensor: Tensor, name: str, operation: int) -> Handle:
        if self.size == 1:
            return Done()
        return _HorovodHandle(hvd.allreduce_async_(tensor, name=name, op=operation), name)


class _HorovodHandle:
    def __init__(self, number: int, name: str):
        self._number, self._name = number, name

    def wait(self) -> None:
        """Return when the tensor holds the result."""
        try:
            hvd.synchronize(self._number)
        except hvd.HorovodInternalError as error:
            raise message_lost(self._name, error) from error
