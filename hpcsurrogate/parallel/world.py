"""Who am I among how many: the ranks of MPI, or of torchrun, as far as the rest of the program needs them.

A process that no launcher started is a world of its own and never imports mpi4py.
"""

import functools
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from hpcsurrogate.core.errors import ConfigError, HpcsurrogateError, RankLostError
from hpcsurrogate.parallel.launch import PROMISED_RANKS

Item = TypeVar("Item")
Found = TypeVar("Found")

# The variables in which launchers promise a world size: Open MPI's mpirun, MPICH's and Intel's, srun, and run_ranks.
# SLURM_NTASKS is not among them: SLURM sets it in the batch script too, which is one process alone.
_SIZE_VARIABLES = (PROMISED_RANKS, "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_TORCHRUN_MARK = "TORCHELASTIC_RUN_ID"  # set by torchrun itself, not by those who only use its variables
_REMEDY = (
    "start with the mpirun of the MPI that mpi4py was built for (`hpcsurrogate doctor` names both), or srun --mpi=pmix"
)


@dataclass(frozen=True)
class World:
    """The ranks that work together. `World()` is a process alone; its `comm` and `node` are None.

    Attributes
    ----------
    rank, size : int [-]                among all ranks
    local_rank, local_size : int [-]    among the ranks of this node, which can share memory
    comm, node : communicators          of all ranks, of the ranks of this node (MPI alone)
    is_mpi : bool                       whether Horovod, and windows on the memory of others, can be had
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    comm: Any = None
    local_size: int = 1
    node: Any = None
    is_mpi: bool = True

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.comm is not None:
            self.comm.barrier()

    def bcast(self, obj: Any) -> Any:
        """Return rank 0's object on every rank."""
        return obj if self.comm is None else self.comm.bcast(obj, root=0)

    def allgather(self, obj: Any) -> list:
        """Return the objects of all ranks, in rank order, on every rank."""
        return [obj] if self.comm is None else self.comm.allgather(obj)

    def gather(self, obj: Any) -> list:
        """Return the objects of all ranks, in rank order, on rank 0; an empty list on the others."""
        return [obj] if self.comm is None else self.comm.gather(obj, root=0) or []

    def sum(self, array: np.ndarray) -> np.ndarray:
        """Sum an array over the ranks, element by element.

        Parameters
        ----------
        array : ndarray, any shape, integer, float32 or float64    same shape and dtype on every rank

        Returns
        -------
        ndarray    same shape and dtype; the argument is left as it is

        Notes
        -----
        float64 is summed as float64 (tests/parallel/test_engine_world.py).
        """
        total = np.array(array, order="C")
        if self.comm is not None:
            self.comm.Allreduce(total.copy(), total)
        return total

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Return every size-th item from `rank` on; together the ranks hold each item once."""
        return list(items[self.rank :: self.size])

    def map(self, work: Callable[[Item], Found], items: Sequence[Item]) -> list[Found]:
        """Do all items, each on one rank, and return what was found, in the order of the items, on every rank.

        Collective.

        Parameters
        ----------
        work : callable    without collective calls
        items : sequence   the same on every rank

        Raises
        ------
        HpcsurrogateError, OSError    of `work`, on every rank, as in `failing_together`

        Notes
        -----
        Nothing depends on the number of ranks (tests/parallel/test_engine_world.py).
        """
        with self.failing_together():
            own = [work(item) for item in self.share(items)]
        parts = self.allgather(own)
        return [parts[place % self.size][place // self.size] for place in range(len(items))]

    def in_groups_of(self, size: int) -> "World":
        """The group of `size` neighbouring ranks that this one belongs to, a world of its own; for a shared field.

        Collective.

        Raises
        ------
        ConfigError    if the ranks do not fall into groups of that size, or were not started by MPI

        Notes
        -----
        Groups do their collective work without hearing of each other (tests/parallel/test_exchange.py).
        """
        if self.size % size:
            raise ConfigError(
                f"simulate.ranks_per_realisation: {size} is no divisor of the number of ranks of this job, {self.size};"
                " use `hpcsurrogate run` or a launcher with such a number, or change one of them"
            )
        if size == 1:
            return World()
        if not self.is_mpi:
            raise ConfigError("ranks of torchrun cannot share a field; start them with mpirun or srun --mpi=pmix")
        from mpi4py import MPI

        comm = self.comm.Split(self.rank // size, self.rank)
        node = comm.Split_type(MPI.COMM_TYPE_SHARED)
        return World(comm.rank, comm.size, node.rank, comm, node.size, node)

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """A block that fails on every rank if it fails on one; collective at its end, not within it.

        Raises
        ------
        HpcsurrogateError or OSError    the error of the lowest rank that failed, on every rank, one of ours with that
                                        number as `from_rank`; other exceptions leave the block where they are raised
                                        and end all ranks as any uncaught exception does

        Notes
        -----
        Every rank gets the same line (tests/parallel/test_engine_world.py). The block must hold no collective call:
        a rank that failed would not make it.
        """
        error = None
        try:
            yield
        except (HpcsurrogateError, OSError) as caught:
            if self.comm is None:
                raise
            error = caught
        for rank, failed in enumerate(self.allgather(error)):
            if isinstance(failed, HpcsurrogateError):
                failed.from_rank = rank
            if failed is not None:
                raise failed from error

    def abort(self, exit_code: int) -> None:
        """End all ranks at once with this exit code; a process alone just returns from here and ends itself."""
        if self.comm is not None:
            self.comm.Abort(exit_code)


@functools.cache
def get_world() -> World:
    """The world this process was started in. The first call is collective: every rank must make it.

    Found in this order: mpirun, srun or another launcher with PMIx, torchrun.

    Raises
    ------
    RankLostError    if MPI cannot be loaded, its world is not as large as the launcher promised, or the variables of
                     torchrun are there too and say something else
    """
    promises = promised_sizes(os.environ)
    place = torchrun_place(os.environ)
    if promises:
        world = _mpi_world(promises)
        if place is not None and place != (world.rank, world.size):
            raise RankLostError(
                f"RANK={place[0]} and WORLD_SIZE={place[1]} are torchrun's, but by {', '.join(promises)} this is rank "
                f"{world.rank} of {world.size}; use one launcher, or unset the variables of the other"
            )
        return world
    if place is None or place == (0, 1):
        return World()
    from hpcsurrogate.parallel.torch_world import TorchCommunicator

    comm = TorchCommunicator(*place)
    hosts = comm.allgather(socket.gethostname())
    local = [rank for rank, host in enumerate(hosts) if host == hosts[comm.rank]]
    return World(comm.rank, comm.size, local.index(comm.rank), comm, len(local), None, is_mpi=False)


def _mpi_world(promises: Mapping[str, int | None]) -> World:
    # Open MPI spins where it waits, in Horovod's background thread too. Giving way to the arithmetic halved the time of
    # a step where ranks have no core to spare; elsewhere it costs nothing. Read when MPI starts.
    os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise RankLostError(f"a launcher started this rank, but mpi4py cannot load MPI ({error}); {_REMEDY}") from error
    comm = MPI.COMM_WORLD
    for variable, promised in promises.items():
        if promised is not None and promised != comm.size:
            raise RankLostError(f"{variable} promises {promised} ranks, MPI sees {comm.size}; {_REMEDY}")
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    return World(comm.rank, comm.size, node.rank, comm, node.size, node)


def promised_sizes(environment: Mapping[str, str]) -> dict[str, int | None]:
    """The world sizes that launchers of MPI ranks promise in variables; empty if none started this process.

    Returns
    -------
    dict    variable -> size, or None where a launcher says that it started us but not with how many

    Raises
    ------
    RankLostError    if a variable does not hold a number
    """
    names = [name for name in _SIZE_VARIABLES if name in environment]
    if not names and _TORCHRUN_MARK in environment:
        return {}  # a step of srun started torchrun itself, once a node; that is not the launcher of the ranks
    # srun sets this in its steps only. One task is an ordinary command, such as a pipeline started by `srun -n 1`;
    # under mpirun the step that counts is not the ranks' but the one of mpirun's daemons.
    if not names and environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        names.append("SLURM_STEP_NUM_TASKS")
    if not names and "PMIX_RANK" in environment:
        return {"PMIX_RANK": None}
    return {name: _number(environment, name) for name in names}


def torchrun_place(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Rank and world size in the variables that torchrun sets; None unless all of them are there.

    Raises
    ------
    RankLostError    if they hold no numbers, or no rank of such a world
    """
    if not all(name in environment for name in _TORCHRUN_VARIABLES):
        return None
    rank, size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    if rank >= size:
        raise RankLostError(f"RANK={rank} is no rank of WORLD_SIZE={size}; ranks count from 0")
    return rank, size


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not text.isdecimal():
        raise RankLostError(f"{name}={text!r} is not a whole number; unset it, or start the ranks with a launcher")
    return int(text)
