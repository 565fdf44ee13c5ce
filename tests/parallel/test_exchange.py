"""Blocks between all ranks, numbers and blocks gathered, groups of ranks; and one lost rank ends those that wait."""

import time

START = """
import numpy as np
import torch
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.exchange import Exchange, gather_blocks, gather_numbers, share_first
from hpcsurrogate.parallel.world import World, get_world

world = get_world()
me, ranks = world.rank, range(world.size)
"""

BLOCKS = """
def size(near, far):
    return (3 * near + 2 * far) % 4  # some are empty, none depends on one side alone

def content(near, far, dtype):
    # Every number of every block is another one, and those of complex type have an imaginary part.
    numbers = torch.arange(size(near, far)) + 10.0 * near + 100.0 * far
    return (numbers * (1 - 2j)).to(dtype) if dtype.is_complex else numbers.to(dtype)

for dtype in (torch.float64, torch.complex64, torch.complex128):
    exchange = Exchange(world, [size(me, q) for q in ranks], [size(p, me) for p in ranks], dtype)
    for _ in range(2):  # the same memory again
        for q in ranks:
            exchange.near[q].copy_(content(me, q, dtype))
        exchange.swap_to_far()
        for p in ranks:
            assert torch.equal(exchange.far[p], content(p, me, dtype)), (dtype, p, me)
            exchange.far[p].mul_(2)
        exchange.swap_to_near()
        for q in ranks:
            assert torch.equal(exchange.near[q], 2 * content(me, q, dtype)), (dtype, me, q)
print("exchanged", flush=True)
"""

GATHERED = """
# Numbers: the same on all, a NaN of one rank among them
values = gather_numbers(world, torch.tensor([1.0 + me, torch.nan if me == 1 else 0.0], dtype=torch.float64))
assert values[:, 0].tolist() == [1.0 + rank for rank in ranks]
assert values[:, 1].isnan().tolist() == [rank == 1 for rank in ranks]

# Blocks: an uneven number of each rank, none of one, and not contiguous
counts = [2, 0, 3, 1]
whole = np.arange(6.0 * 4 * 5).reshape(6, 4, 5)
first = sum(counts[:me])
mine = torch.from_numpy(np.ascontiguousarray(whole.swapaxes(1, 2))).transpose(1, 2)[first : first + counts[me]]
received = np.full_like(whole, np.nan) if me == 0 else None
gather_blocks(world, list(mine), received)
assert me or (received == whole).all()

# Out of one rank's memory into that of all; a message of ten numbers at most
field = torch.arange(24.0).reshape(2, 3, 4).mT * (1 + 1j) if me == 0 else None
shared = share_first(world, field, longest=10)
assert shared.dtype == torch.complex64 and torch.equal(shared.mT, torch.arange(24.0).reshape(2, 3, 4) * (1 + 1j))
print("gathered", flush=True)
"""


GROUPS = """
group = world.in_groups_of(2)
assert (group.size, group.rank, group.is_mpi) == (2, me % 2, True)
assert group.allgather(me) == [me - me % 2, me - me % 2 + 1]
# One group makes a collective call that the other does not
if me >= 2:
    assert group.sum(np.array([me])) == 5
assert world.in_groups_of(1) == World()
try:
    world.in_groups_of(3)
except ConfigError as error:
    print(f"{error}\\n", end="", flush=True)
"""


def test_blocks_travel_there_and_back_numbers_are_gathered_and_groups_are_worlds(run_mpi):
    lines = run_mpi(START + BLOCKS + GATHERED + GROUPS, ranks=4).splitlines()
    assert (lines.count("exchanged"), lines.count("gathered")) == (4, 4)
    assert sum("3 is no divisor of the number of ranks of this job, 4" in line for line in lines) == 4


LOST = """
exchange = Exchange(world, [1000] * world.size, [1000] * world.size, torch.float64)
exchange.swap_to_far()
print("went well", flush=True)
if me == 1:
    raise RuntimeError("rank 1 fails between two exchanges")
exchange.swap_to_near()
print("never here", flush=True)
"""


def test_a_rank_that_fails_ends_those_that_wait_for_its_blocks(mpi_process):
    start = time.monotonic()
    done = mpi_process(START + LOST, ranks=2, timeout=40)
    assert done.returncode != 0
    assert done.stdout.count("went well") == 2 and "never here" not in done.stdout
    assert "rank 1 fails between two exchanges" in done.stderr
    assert time.monotonic() - start < 30
