"""Every rank sends a block to every other and back: what turns slabs along one axis into slabs along another.

Tensors of a GPU travel through the memory of its node: copied out, sent, copied back. That takes no MPI that reads the
memory of GPUs, and is slow. The tests run it on CPUs alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.errors import ConfigError, RankLostError
from hpcsurrogate.parallel.world import World

MAX_COUNT = 2**31 - 1  # MPI counts in 32 bits


class Exchange:
    """Blocks of fixed sizes between every two ranks, moved from one side to the other and back. Collective.

    Parameters
    ----------
    world : World    of MPI (`World.in_groups_of`), or a process alone
    near, far : sequence of int, one a rank     numbers in this rank's blocks on the two sides: near[q] of rank p is
                                                far[p] of rank q
    dtype : torch.dtype
    device : torch.device or str

    Attributes
    ----------
    near, far : list of Tensors, one a rank, contiguous, shape (n,)    fill one side, swap, read the other; the same
                memory every time. A rank's own block is one piece of memory on both sides

    Raises
    ------
    ConfigError    if the blocks hold more numbers than MPI can count

    Notes
    -----
    Uneven and empty blocks, there and back: tests/parallel/test_exchange.py.
    """

    def __init__(
        self,
        world: World,
        near: Sequence[int],
        far: Sequence[int],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ):
        if max(sum(near), sum(far)) > MAX_COUNT:
            raise ConfigError(
                f"rank {world.rank} of {world.size}: {max(sum(near), sum(far)):.3g} numbers in one exchange are more "
                "than MPI can count; let more ranks share the field (simulate.ranks_per_realisation)"
            )
        self._world = world
        own = world.rank
        self._near, self.near = _Side.make(near, own, dtype, device)
        self._far, self.far = _Side.make(far, own, dtype, device)
        self.far[own] = self.near[own]

    def swap_to_far(self) -> None:
        """Fill `far` with what the other ranks hold for this one in their `near`.

        Raises
        ------
        RankLostError    if MPI could not deliver
        """
        self._swap(self._near, self._far)

    def swap_to_near(self) -> None:
        """Fill `near` with what the other ranks hold for this one in their `far`; raises as `swap_to_far`."""
        self._swap(self._far, self._near)

    def _swap(self, source: "_Side", target: "_Side") -> None:
        if self._world.comm is None:
            return
        from mpi4py import MPI

        try:
            self._world.comm.Alltoallv(source.to_send(), target.message)
        except MPI.Exception as error:
            raise RankLostError(f"rank {self._world.rank}: MPI could not exchange slabs ({error})") from error
        target.arrived()


class _Side:
    """The blocks of one side, as MPI takes them: a buffer, numbers for each rank, where they begin."""

    def __init__(self, buffer: Tensor, counts: list[int]):
        self._buffer = buffer
        self._on_host = buffer if buffer.device.type == "cpu" else torch.empty_like(buffer, device="cpu")
        starts = [0, *np.cumsum(counts).tolist()[:-1]]
        self.message = [self._on_host.numpy(), (counts, starts)]

    @classmethod
    def make(
        cls, counts: Sequence[int], own: int, dtype: torch.dtype, device: torch.device | str
    ) -> tuple["_Side", list[Tensor]]:
        """The side and its blocks; the own one lies behind the others and does not travel."""
        travelling = [0 if rank == own else count for rank, count in enumerate(counts)]
        buffer = torch.empty(sum(travelling), dtype=dtype, device=device)
        blocks = list(buffer.split(travelling))
        blocks[own] = torch.empty(counts[own], dtype=dtype, device=device)
        return cls(buffer, travelling), blocks

    def to_send(self) -> list:
        """The message, once the blocks are filled."""
        if self._on_host is not self._buffer:
            self._on_host.copy_(self._buffer)
        return self.message

    def arrived(self) -> None:
        """Let the blocks hold what came in with the message."""
        if self._on_host is not self._buffer:
            self._buffer.copy_(self._on_host)


def gather_numbers(world: World, value: Tensor) -> Tensor:
    """The values of all ranks, the same bits on every rank; for a few numbers. Collective.

    Parameters
    ----------
    value : Tensor, float32 or float64    same shape on every rank

    Returns
    -------
    Tensor, shape (ranks, *value.shape)    in rank order: a sum of them does not depend on how MPI sums

    Notes
    -----
    A NaN of one rank is there on all (tests/parallel/test_exchange.py); MPI's own maximum may lose it.
    """
    if world.comm is None:
        return value.unsqueeze(0)
    mine = value.detach().cpu().contiguous()
    everyone = torch.empty((world.size, *mine.shape), dtype=mine.dtype)
    world.comm.Allgather(mine.numpy(), everyone.numpy())
    return everyone.to(value.device)


def gather_blocks(world: World, blocks: Sequence[Tensor], whole: np.ndarray | None) -> None:
    """Put the blocks of all ranks one after another into an array of rank 0, without a copy of more than one of them.

    Parameters
    ----------
    blocks : sequence of Tensors, any strides, all of one shape    this rank's, at least none
    whole : ndarray, shape (blocks of all ranks, *shape of a block), C order, on rank 0; None on the others
    """
    counts = world.allgather(len(blocks))
    for index, block in enumerate(blocks):
        contiguous = block.detach().cpu().contiguous().numpy()
        if whole is None:
            world.comm.Send(contiguous, dest=0)
        else:
            whole[index] = contiguous
    if whole is not None:
        index = len(blocks)
        for rank, count in enumerate(counts[1:], start=1):
            for _ in range(count):
                world.comm.Recv(whole[index], source=rank)
                index += 1


def share_first(world: World, tensor: Tensor | None, longest: int = MAX_COUNT) -> Tensor:
    """Rank 0's Tensor on every rank, of any size. Collective.

    Parameters
    ----------
    tensor : Tensor on rank 0, None on the others
    longest : int    numbers in a message
    """
    if world.comm is None:
        return tensor
    shape, dtype = world.bcast(None if tensor is None else (tensor.shape, tensor.dtype))
    shared = torch.empty(shape, dtype=dtype) if tensor is None else tensor.detach().cpu().contiguous()
    numbers = shared.view(-1).numpy()
    for start in range(0, len(numbers), longest):
        world.comm.Bcast(numbers[start : start + longest], root=0)
    return shared


def shares(length: int, ranks: int) -> list[range]:
    """Cut 0 ... length - 1 into one run of indices a rank; their lengths differ by one at most."""
    edges = [rank * length // ranks for rank in range(ranks + 1)]
    return [range(first, last) for first, last in zip(edges[:-1], edges[1:], strict=True)]
