"""All samples in the memory of all ranks together: each holds a part, and the others fetch from it (one-sided MPI).

How a fetch depends on the network: parallel/remote_memory.py.
"""

from collections.abc import Sequence

import numpy as np

from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.stores.memory import MemoryStore
from hpcsurrogate.data.stores.samples import arrays_in_block, block_size, offsets_in_block
from hpcsurrogate.parallel.remote_memory import DistributedBlock
from hpcsurrogate.parallel.world import World


class ClusterStore(MemoryStore):
    """A store of which every rank holds equally many successive snapshots, to within one; see MemoryStore. Collective.

    Raises
    ------
    DataError      on every rank, if a shard is damaged or not the one in the catalogue; the SHA-256 can be compared for
                   shards that lie in one rank's part as a whole, the checksum of every snapshot for all
    ConfigError    on every rank, if MPI cannot serve threads, or a node has no room for the parts of its ranks

    Notes
    -----
    The samples are those of the files, and a rank reads only its part of them (tests/parallel/test_stores.py).
    """

    def __init__(self, catalogue: Catalogue, realisations: Sequence[int], fields: Sequence[str], world: World):
        super().__init__(catalogue, realisations, fields, world)
        self._bounds = self.table.num_snapshots * np.arange(world.size + 1) // world.size
        start, stop = self._bounds[world.rank : world.rank + 2].tolist()
        # The same places on every rank, so that each knows where the others' snapshots lie.
        most = int(np.diff(self._bounds).max())
        self._offsets = offsets_in_block(self._samples, most)
        self._block = DistributedBlock(world, block_size(self._samples, most))
        self._arrays = arrays_in_block(self._block.local, self._samples, most)
        # From the shard that holds the first of them to the one that holds the last; none for an empty part.
        first_shard = np.searchsorted(self.table.shard_starts, start, side="right") - 1
        end_shard = np.searchsorted(self.table.shard_starts, stop) if start < stop else first_shard
        self._fill(range(first_shard, end_shard), start, stop)
        self._block.publish()

    def read(self, field: str, snapshots: np.ndarray, out: np.ndarray) -> None:
        """Copy or fetch snapshots of a field and return when all are there; not collective; see Store.read."""
        self._require_valid(field, snapshots, out)
        owners = np.searchsorted(self._bounds, snapshots, side="right") - 1
        num_bytes = self._samples[field].num_bytes
        places = self._offsets[field] + (snapshots - self._bounds[owners]) * num_bytes
        self._block.get(owners, places, num_bytes, out.view(np.uint8).reshape(len(out), num_bytes))
