"""Memory spread over all ranks, from which each fetches what it needs without asking the owner (one-sided MPI).

Where the network reads memory by itself (InfiniBand and the like), or ranks share a node, a fetch disturbs nobody.
Elsewhere (TCP) the owner answers only while it is inside an MPI call; under Horovod it often is, since Horovod's
background thread enters MPI in every cycle, and the waits of a collective answer too. Which of Open MPI's components
carries the fetches: parallel/launch.py, launcher_environment.

A fetch may run in one thread while others of the process use MPI, which needs MPI_THREAD_MULTIPLE.
"""

import numpy as np

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.node_memory import REMEDY, require_shared_room
from hpcsurrogate.parallel.world import World

# MPI counts bytes in 32 bits: larger rows are fetched in pieces.
MAX_MESSAGE = 2**30


class DistributedBlock:
    """Bytes of which every rank holds a part that all may read. Collective over the world.

    Parameters
    ----------
    world : World
    num_bytes_local : int    size of this rank's part, 0 or more

    Attributes
    ----------
    local : ndarray, shape (num_bytes_local,), uint8    this rank's part, not initialised; fill it, then `publish`

    Raises
    ------
    ConfigError    on every rank, if MPI does not allow calls from several threads at once, or a node has no room for
                   the parts of its ranks

    Notes
    -----
    Any rank reads any part exactly (tests/parallel/test_memory.py).
    """

    def __init__(self, world: World, num_bytes_local: int):
        self._world, self._window = world, None
        if world.comm is None:
            self.local = np.empty(num_bytes_local, np.uint8)
            return
        from mpi4py import MPI

        on_node = world.node.allreduce(num_bytes_local)
        with world.failing_together():
            if not threads_allowed(world):
                raise ConfigError(f"this MPI does not serve several threads at once (MPI_THREAD_MULTIPLE); {REMEDY}")
            if world.local_size > 1 and world.local_rank == 0:
                require_shared_room(on_node)
        self._type = MPI.BYTE
        try:
            self._window = MPI.Win.Allocate(num_bytes_local, 1, comm=world.comm)
        except MPI.Exception as error:
            raise ConfigError(f"MPI gives no window for one-sided access ({error}); {REMEDY}") from None
        self.local = np.ndarray(num_bytes_local, np.uint8, self._window.tomemory())
        self._window.Lock_all(MPI.MODE_NOCHECK)  # held to the end: nobody writes into another rank's part

    def publish(self) -> None:
        """Let all ranks read what all wrote; no part may be written from here on. Collective."""
        if self._window is not None:
            self._window.Sync()
            self._world.comm.Barrier()
            self._window.Sync()

    def get(self, ranks: np.ndarray, byte_offsets: np.ndarray, num_bytes: int, out: np.ndarray) -> None:
        """Copy rows of bytes from the parts of ranks; returns when all have arrived. Not collective.

        Parameters
        ----------
        ranks : ndarray, shape (n,), int64           whose part each row comes from
        byte_offsets : ndarray, shape (n,), int64    where in that part it begins
        num_bytes : int                              length of a row
        out : ndarray, shape (n, num_bytes), uint8, C order
        """
        own = self._world.rank
        is_remote = False
        for row, rank, offset in zip(out, ranks.tolist(), byte_offsets.tolist(), strict=True):
            if rank == own:
                row[:] = self.local[offset : offset + num_bytes]
            else:
                is_remote = True
                for start in range(0, num_bytes, MAX_MESSAGE):
                    piece = row[start : start + MAX_MESSAGE]
                    self._window.Get((piece, self._type), rank, (offset + start, piece.size, self._type))
        if is_remote:
            self._window.Flush_local_all()

    def close(self) -> None:
        """Give the memory back; `local` must not be used any more. Collective."""
        del self.local
        if self._window is not None:
            self._window.Unlock_all()
            self._window.Free()
            self._window = None


def threads_allowed(world: World) -> bool:
    """Whether several threads of this process may be inside MPI at once."""
    if world.comm is None:
        return True
    from mpi4py import MPI

    return MPI.Query_thread() == MPI.THREAD_MULTIPLE
