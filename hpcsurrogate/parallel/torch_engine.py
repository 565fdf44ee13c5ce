"""Sums over ranks by torch.distributed: gloo for tensors in CPU memory, NCCL between GPUs."""

import socket
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from hpcsurrogate.core.errors import RankLostError
from hpcsurrogate.parallel.engine import Done, Engine, Handle, message_lost
from hpcsurrogate.parallel.torch_world import CONNECT_LIMIT, WAIT_LIMIT
from hpcsurrogate.parallel.world import World


class TorchEngine(Engine):
    """Sums by torch.distributed among the ranks of any launcher.

    Parameters
    ----------
    world : World
    device : torch.device    cuda: NCCL sums what lies on GPUs

    Raises
    ------
    RankLostError    on every rank, if one of them cannot reach rank 0's host
    """

    name = "torch"

    def __init__(self, world: World, device: torch.device):
        super().__init__(world)
        self._group = None
        if self.size == 1:
            return
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        if dist.is_initialized():  # torchrun's ranks talk through a group of their own already: world.py
            self._group = dist.new_group(backend=backend, timeout=WAIT_LIMIT)
        else:
            dist.init_process_group(
                backend, store=_meet(world), rank=world.rank, world_size=world.size, timeout=WAIT_LIMIT
            )
            self._group = dist.group.WORLD

    def sum_async(self, tensor: Tensor, name: str) -> Handle:
        """Begin to sum in place."""
        return self._begin(tensor, name, dist.ReduceOp.SUM)

    def max_async(self, tensor: Tensor, name: str) -> Handle:
        """Begin to find the largest, in place."""
        return self._begin(tensor, name, dist.ReduceOp.MAX)

    def close(self) -> None:
        """Leave the group."""
        if self._group is not None:
            dist.destroy_process_group(self._group)
            self._group = None

    def _begin(self, tensor: Tensor, name: str, operation: dist.ReduceOp) -> Handle:
        if self.size == 1:
            return Done()
        try:
            return _TorchHandle(dist.all_reduce(tensor, operation, self._group, async_op=True), name)
        except RuntimeError as error:
            raise message_lost(name, error) from error


class _TorchHandle:
    def __init__(self, work: dist.Work, name: str):
        self._work, self._name = work, name

    def wait(self) -> None:
        """Return when the tensor holds the result."""
        try:
            self._work.wait()
        except RuntimeError as error:
            raise message_lost(self._name, error) from error


def _meet(world: World) -> dist.Store:
    """Open a store of keys on a free port of rank 0's host, through which the ranks find each other."""
    store, address = None, None
    with world.failing_together():
        if world.rank == 0:
            # By name only where others need it: a lone machine need not know its own.
            host = "127.0.0.1" if world.local_size == world.size else socket.gethostname()
            store = _store(host, 0, is_master=True)
            address = (host, store.port)
    address = world.bcast(address)
    with world.failing_together():
        if store is None:
            store = _store(*address, is_master=False)
    return store


def _store(host: str, port: int, is_master: bool) -> dist.Store:
    limit = timedelta(seconds=CONNECT_LIMIT)
    try:
        return dist.TCPStore(host, port, is_master=is_master, timeout=limit, wait_for_workers=False)
    except RuntimeError as error:
        raise RankLostError(
            f"train.engine: torch: host {socket.gethostname()} cannot reach rank 0 at {host}:{port} "
            f"({' '.join(str(error).split())}); the nodes must know each other's names and allow the connection"
        ) from error
