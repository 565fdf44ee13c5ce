"""Who am I among how many: the MPI world as far as the rest of the program needs it.

A process that no launcher started is a world of its own and never imports mpi4py.
"""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from hpcsurrogate.core.errors import HpcsurrogateError, RankLostError
from hpcsurrogate.parallel.launch import PROMISED_RANKS

Item = TypeVar("Item")

# The variables in which launchers promise a world size: Open MPI's mpirun, MPICH's and Intel's, srun, and run_ranks.
# SLURM_NTASKS is not among them: SLURM sets it in the batch script too, which is one process alone.
_SIZE_VARIABLES = (PROMISED_RANKS, "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
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
    comm, node : MPI communicators      of all ranks, of the ranks of this node
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    comm: Any = None
    local_size: int = 1
    node: Any = None

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

    Raises
    ------
    RankLostError    if MPI cannot be loaded, or its world is not as large as the launcher promised
    """
    promises = promised_sizes(os.environ)
    if not promises:
        return World()
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
    """The world sizes that launcher variables promise; empty if no launcher started this process.

    Returns
    -------
    dict    variable -> size, or None where a launcher says that it started us but not with how many

    Raises
    ------
    RankLostError    if a variable does not hold a number
    """
    names = [name for name in _SIZE_VARIABLES if name in environment]
    # srun sets this in its steps only. One task is an ordinary command, such as a pipeline started by `srun -n 1`;
    # under mpirun the step that counts is not the ranks' but the one of mpirun's daemons.
    if not names and environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        names.append("SLURM_STEP_NUM_TASKS")
    if not names and "PMIX_RANK" in environment:
        return {"PMIX_RANK": None}
    return {name: _number(environment, name) for name in names}


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not text.isdecimal():
        raise RankLostError(
            f"{name}={text!r} is not a number of ranks; unset it, or start the ranks with mpirun or srun"
        )
    return int(text)
