"""Memory that the ranks of a node share: one copy, whatever their number (a shared window of MPI-3)."""

import numpy as np

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.node_memory import REMEDY, require_shared_room
from hpcsurrogate.parallel.world import World


class SharedBlock:
    """Bytes that exist once on every node; all its ranks read and write them directly. Collective over the world.

    Parameters
    ----------
    world : World
    num_bytes : int    the same on every rank of a node

    Attributes
    ----------
    array : ndarray, shape (num_bytes,), uint8    not initialised

    Raises
    ------
    ConfigError    on every rank, if a node has no room for shared memory of this size or MPI offers none

    Notes
    -----
    One copy a node: tests/parallel/test_memory.py. A page lies near the core that writes it first, so ranks should
    fill a block together. A process alone on its node gets plain memory.
    """

    def __init__(self, world: World, num_bytes: int):
        self._node, self._window = world.node, None
        with world.failing_together():
            if world.local_size > 1 and world.local_rank == 0:
                require_shared_room(num_bytes)
        if world.local_size == 1:
            self.array = np.empty(num_bytes, np.uint8)
            return
        from mpi4py import MPI

        try:
            self._window = MPI.Win.Allocate_shared(num_bytes if world.local_rank == 0 else 0, 1, comm=self._node)
        except MPI.Exception as error:
            raise ConfigError(f"MPI gives the ranks of a node no shared memory ({error}); {REMEDY}") from None
        buffer, _ = self._window.Shared_query(0)
        self.array = np.ndarray(num_bytes, np.uint8, buffer)
        self._window.Lock_all(MPI.MODE_NOCHECK)

    def synchronise(self) -> None:
        """Wait for the ranks of this node; what any of them wrote before, all see after. Collective over the node."""
        if self._window is not None:
            self._window.Sync()
            self._node.Barrier()
            self._window.Sync()

    def close(self) -> None:
        """Give the memory back; `array` and its views must not be used any more. Collective over the node."""
        del self.array
        if self._window is not None:
            self._window.Unlock_all()
            self._window.Free()
            self._window = None
