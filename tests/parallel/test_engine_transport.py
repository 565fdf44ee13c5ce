"""What engines carry: sums and largest values of every type, many messages at once, and what a lost rank leads to."""

import pytest

MESSAGES = """
import torch
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import get_world

world = get_world()
for kind in ("horovod", "torch"):
    engine = make_engine(kind, world)
    assert (engine.rank, engine.size, engine.name) == (world.rank, world.size, kind)
    for dtype in sorted(engine.dtypes, key=str):
        numbers = torch.tensor([1, 2, 3]).to(dtype) * (world.rank + 1)
        total, largest = numbers.clone(), -numbers
        handles = [engine.sum_async(total, f"sum.{dtype}"), engine.max_async(largest, f"max.{dtype}")]
        for handle in handles:
            handle.wait()
        assert total.dtype == dtype and total.tolist() == [6, 12, 18], (kind, dtype, total)  # 1 + 2 + 3
        assert largest.tolist() == [-1, -2, -3], (kind, dtype, largest)
    # int64 is not carried as a floating-point number
    large = torch.tensor([2**62 - 5 if world.rank == 0 else 1])
    engine.sum_async(large, "large").wait()
    assert large.item() == 2**62 - 3
    # infinity is the largest; scalars and empty tensors travel too
    infinite = torch.tensor(float("inf") if world.rank == 1 else 1.0, dtype=torch.float64)
    engine.max_async(infinite, "infinite").wait()
    assert infinite.item() == float("inf")
    # many at once, waited for in another order; the same bits everywhere
    tensors = [torch.randn(n, generator=torch.Generator().manual_seed(world.rank)) for n in (1, 10, 1000, 100_000)]
    for _ in range(3):  # names come again
        messages = [tensor.clone() for tensor in tensors]
        handles = [engine.sum_async(message, f"many.{n}") for n, message in enumerate(messages)]
        for handle in reversed(handles):
            handle.wait()
    for mine, of_first in zip(messages, world.bcast(messages)):
        assert torch.equal(mine, of_first)
    engine.close()
    print(f"{kind} fine\\n", end="", flush=True)
"""

LOST = """
import os, time
import torch
from hpcsurrogate.core.errors import RankLostError
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import get_world

world = get_world()
engine = make_engine("torch", world)
engine.sum_async(torch.ones(3), "before").wait()
if world.rank == 1:
    engine.close()
    time.sleep(60)  # mpirun ends the ranks when rank 0 has
try:
    engine.sum_async(torch.ones(3), "loss").wait()
except RankLostError as error:
    print(error, flush=True)
    world.abort(error.exit_code)
"""

UNEQUAL = """
import torch
from hpcsurrogate.core.errors import RankLostError
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import get_world

world = get_world()
engine = make_engine("horovod", world)
try:
    engine.sum_async(torch.ones(3 + world.rank), "loss").wait()
except RankLostError as error:
    print(f"{error}\\n", end="", flush=True)
"""


def test_sums_and_largest_values_of_all_types(run_mpi):
    lines = run_mpi(MESSAGES, ranks=3).split("\n")
    assert lines.count("horovod fine") == 3 and lines.count("torch fine") == 3


def test_a_rank_that_leaves_is_an_error_of_the_others(mpi_process):
    done = mpi_process(LOST, ranks=2)
    assert done.returncode == 6
    (line,) = [line for line in done.stdout.splitlines() if line]
    assert line.startswith("message 'loss' to the other ranks failed: ")


def test_horovod_names_the_message_that_does_not_fit(run_mpi):
    lines = [line for line in run_mpi(UNEQUAL, ranks=2).splitlines() if line]
    assert len(lines) == 2
    for line in lines:
        assert "message 'loss' to the other ranks failed" in line and "shape" in line


@pytest.mark.parametrize("kind", ["horovod", "torch"])
def test_one_rank_needs_no_other(run_mpi, kind):
    script = f"""
import torch
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import get_world
engine = make_engine({kind!r}, get_world())
tensor = torch.tensor([1.5])
engine.sum_async(tensor, "one").wait()
engine.max_async(tensor, "one").wait()
print(tensor.item(), engine.size)
engine.close()
"""
    assert run_mpi(script, ranks=1).split() == ["1.5", "1"]
