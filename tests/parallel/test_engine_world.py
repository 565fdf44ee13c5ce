"""The world as ranks see it: sizes, sums, shares, and what happens when the launcher's promise is broken."""

import pytest

from hpcsurrogate.parallel.launch import PROMISED_RANKS

COLLECTIVES = """
import numpy as np
from hpcsurrogate.parallel.world import get_world

world = get_world()
assert world is get_world()
assert world.allgather(world.rank) == list(range(world.size))
assert (world.local_rank, world.local_size, world.node.size) == (world.rank, world.size, world.size)  # one machine
assert world.bcast({"from": world.rank}) == {"from": 0}

# 2**-40 is lost beside 1 in float32, not in float64
mine = np.full((2, 3), 2.0**-40 if world.rank else 1.0)
total = world.sum(mine)
assert total.dtype == np.float64 and total.shape == (2, 3)
assert (total == 1.0 + (world.size - 1) * 2.0**-40).all()
assert (mine == (2.0**-40 if world.rank else 1.0)).all()
assert world.sum(np.asarray(world.rank)).item() == sum(range(world.size))

parts = world.allgather(world.share(range(7)))
assert sorted(sum(parts, [])) == list(range(7))
done = []
assert world.map(lambda item: done.append(item) or item**2, range(7)) == [item**2 for item in range(7)]
assert sorted(sum(world.allgather(done), [])) == list(range(7)) and world.map(abs, []) == []
world.barrier()
print("size", world.size, flush=True)
"""


@pytest.mark.parametrize("ranks", [2, 3])
def test_collectives(run_mpi, ranks):
    assert run_mpi(COLLECTIVES, ranks).split().count("size") == ranks


FAILING = """
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.parallel.world import get_world
world = get_world()
with world.failing_together():
    pass
for kind in (DataError, FileNotFoundError):
    try:
        with world.failing_together():
            if world.rank:
                raise kind(2, f"damaged on {world.rank}") if kind is FileNotFoundError else kind(f"{world.rank} is bad")
            print("rank 0 came to the end")
    except kind as error:
        print(f"{world.rank}: {kind.__name__}: {error}, {getattr(error, 'from_rank', None)}\\n", end="", flush=True)
"""


def test_the_first_error_of_any_rank_is_raised_on_all(run_mpi):
    lines = run_mpi(FAILING, ranks=3).splitlines()
    for rank in range(3):
        assert f"{rank}: DataError: 1 is bad, 1" in lines
        assert f"{rank}: FileNotFoundError: [Errno 2] damaged on 1, None" in lines
    assert lines.count("rank 0 came to the end") == 2


def test_a_world_size_that_the_launcher_did_not_promise_is_refused(mpi_process):
    script = """
from hpcsurrogate.core.errors import RankLostError
from hpcsurrogate.parallel.world import get_world
try:
    get_world()
except RankLostError as error:
    print(error, flush=True)
"""
    done = mpi_process(script, ranks=2, environment={PROMISED_RANKS: "3"})
    assert done.stdout.count("promises 3 ranks, MPI sees 2") == 2


BOTH = """
import os
os.environ |= {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
from hpcsurrogate.core.errors import RankLostError
from hpcsurrogate.parallel.world import get_world
try:
    get_world()
except RankLostError as error:
    print(f"{error}\\n", end="", flush=True)
"""


def test_launchers_that_contradict_each_other_are_both_named(run_mpi):
    lines = run_mpi(BOTH, ranks=2).splitlines()
    for rank in range(2):
        (line,) = [line for line in lines if f"this is rank {rank} of 2" in line]
        assert "RANK=1 and WORLD_SIZE=4 are torchrun's, but by HPCSURROGATE_RANKS, OMPI_COMM_WORLD_SIZE" in line


def test_ranks_that_wait_for_mpi_give_way_to_the_arithmetic(run_mpi):
    script = """
import os
from hpcsurrogate.parallel.world import get_world
get_world()
print(os.environ["OMPI_MCA_mpi_yield_when_idle"])
"""
    assert run_mpi(script, ranks=2).split() == ["1", "1"]
