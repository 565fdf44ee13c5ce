"""Which store serves a split: what was asked for, or what the memory of the nodes allows."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.data.catalogue import Catalogue, SnapshotTable
from hpcsurrogate.data.stores.cluster import ClusterStore
from hpcsurrogate.data.stores.node import NodeStore
from hpcsurrogate.data.stores.samples import block_size, find_samples
from hpcsurrogate.data.stores.store import Store
from hpcsurrogate.data.stores.stream import StreamStore
from hpcsurrogate.parallel.node_memory import MEBIBYTE, free_memory, shared_room
from hpcsurrogate.parallel.remote_memory import threads_allowed
from hpcsurrogate.parallel.world import World

Kind = Literal["auto", "stream", "node", "cluster"]

# `auto` leaves the other half to models, batches, and the page cache of what is still to be read.
SHARE = 0.5


class NodeMemory(NamedTuple):
    """A node as the choice sees it: its ranks, and its free memory and room for shared memory [bytes]."""

    num_ranks: int
    free: int
    shared_room: int

    def room(self, share: float) -> int:
        """Bytes that a store may take of this share of the free memory."""
        free = int(share * self.free)
        return free if self.num_ranks == 1 else min(free, self.shared_room)


def open_store(
    catalogue: Catalogue,
    realisations: Sequence[int],
    fields: Sequence[str],
    world: World,
    kind: Kind = "auto",
    threads: int = 1,
) -> Store:
    """Open the snapshots of realisations for reading. Collective; every rank gets the same kind of store.

    Parameters
    ----------
    catalogue : Catalogue
    realisations : sequence of int
    fields : sequence of str
    world : World
    kind : "auto", "stream", "node" or "cluster"    train.store; auto: `node` if the snapshots fit into half of the free
                                                    memory of every node, else `cluster` if each node's part of them
                                                    does, else `stream`
    threads : int    of each rank that decompress while `stream` reads

    Raises
    ------
    ConfigError    if the kind that was asked for does not fit into the free memory, before any is taken, or needs MPI
                   where torchrun started the ranks
    DataError      if a shard is damaged or missing, or the realisations differ in grid, precision or fields
    """
    table = SnapshotTable(catalogue, realisations)
    num_bytes = block_size(find_samples(table, fields), table.num_snapshots)
    if world.is_mpi:
        nodes = measure_nodes(world)
        kind, reason = choose_kind(kind, num_bytes, nodes, can_fetch=all(world.allgather(threads_allowed(world))))
    else:
        kind, reason = without_mpi(kind)
    get_logger(__name__).info("store %s for %d realisations: %s", kind, len(realisations), reason)
    if kind == "node":
        return NodeStore(catalogue, realisations, fields, world)
    if kind == "cluster":
        return ClusterStore(catalogue, realisations, fields, world)
    return StreamStore(catalogue, realisations, fields, threads)


def measure_nodes(world: World) -> list[NodeMemory]:
    """Return what every node has free, the same list on every rank. Collective."""
    with world.failing_together():
        own = NodeMemory(world.local_size, free_memory(), shared_room() if world.local_size > 1 else 0)
    return [node for local_rank, node in world.allgather((world.local_rank, own)) if local_rank == 0]


def choose_kind(kind: Kind, num_bytes: int, nodes: Sequence[NodeMemory], can_fetch: bool) -> tuple[Kind, str]:
    """Return the kind of store and, in numbers, why.

    Parameters
    ----------
    kind : "auto", "stream", "node" or "cluster"
    num_bytes : int                   of all snapshots
    nodes : sequence of NodeMemory
    can_fetch : bool                  whether MPI lets a thread fetch while another one communicates

    Raises
    ------
    ConfigError    if `node` or `cluster` was asked for and does not fit
    """
    share = SHARE if kind == "auto" else 1.0
    room_node = min(node.room(share) for node in nodes)
    # Ranks hold equal parts, so the node that is the fullest for its number of ranks decides.
    num_ranks = sum(node.num_ranks for node in nodes)
    room_cluster = min(node.room(share) * num_ranks // node.num_ranks for node in nodes)
    reason = (
        f"{_mebibytes(num_bytes)} of samples; room for {_mebibytes(room_node)} on every node, "
        f"{_mebibytes(room_cluster)} on all {len(nodes)} together"
    )
    if kind == "auto":
        if num_bytes <= room_node:
            return "node", reason
        if num_bytes <= room_cluster and can_fetch:
            return "cluster", reason
        return "stream", reason if can_fetch else f"{reason}; not `cluster`: this MPI does not serve several threads"
    if num_bytes > {"node": room_node, "cluster": room_cluster}.get(kind, num_bytes):
        raise ConfigError(f"train.store: {kind} does not fit: {reason}; set `train.store: auto` or `stream`")
    return kind, "as train.store says" if kind == "stream" else reason


def without_mpi(kind: Kind) -> tuple[Kind, str]:
    """Return what is left where ranks cannot see each other's memory, and why.

    Raises
    ------
    ConfigError    if `node` or `cluster` was asked for
    """
    if kind in ("node", "cluster"):
        raise ConfigError(
            f"train.store: {kind} needs ranks of MPI, but torchrun's variables started these; set `train.store: stream`"
        )
    return "stream", "as train.store says" if kind == "stream" else "ranks that torchrun started share no memory"


def _mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / MEBIBYTE:.0f} MiB"
