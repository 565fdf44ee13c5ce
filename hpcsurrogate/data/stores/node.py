"""All samples in memory, one copy on every node, filled once by its ranks together."""

from collections.abc import Sequence

import numpy as np

from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.stores.memory import MemoryStore
from hpcsurrogate.data.stores.samples import arrays_in_block, block_size
from hpcsurrogate.parallel.shared_memory import SharedBlock
from hpcsurrogate.parallel.world import World


class NodeStore(MemoryStore):
    """A store in the memory that the ranks of a node share; see MemoryStore. Collective.

    Raises
    ------
    DataError      on every rank, if a shard is not the one in the catalogue (SHA-256 of the whole file) or damaged
    ConfigError    on every rank, if a node has no room for shared memory of this size

    Notes
    -----
    The samples are those of the files, there is one copy a node, and its ranks read each shard once
    (tests/parallel/test_stores.py).
    """

    def __init__(
        self, catalogue: Catalogue, realisations: Sequence[int], fields: Sequence[str], world: World | None = None
    ):
        world = world or World()
        super().__init__(catalogue, realisations, fields, world)
        num_snapshots = self.table.num_snapshots
        self._block = SharedBlock(world, block_size(self._samples, num_snapshots))
        self._arrays = arrays_in_block(self._block.array, self._samples, num_snapshots)
        own_shards = range(world.local_rank, self.table.num_shards, world.local_size)
        self._fill(own_shards, 0, num_snapshots)
        self._block.synchronise()

    def read(self, field: str, snapshots: np.ndarray, out: np.ndarray) -> None:
        """Copy snapshots of a field; see Store.read."""
        self._require_valid(field, snapshots, out)
        # "clip" lets numpy write into `out` without a copy of its own; nothing is clipped after the check.
        np.take(self._arrays[field], snapshots, axis=0, out=out, mode="clip")
