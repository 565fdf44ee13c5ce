"""Ranks that find each other by torchrun's variables: no MPI anywhere."""

import os
import socket
import subprocess
import sys
import time

import pytest

LIMIT = 60  # seconds for processes that take about 3 on two idle cores


@pytest.fixture
def start_by_variables(tmp_path):
    """`start_by_variables(script, *arguments, size=2)` -> [(exit code, output) of each rank]."""

    def start(script, *arguments, size=2):
        path = tmp_path / "script.py"
        path.write_text(script, encoding="utf-8")
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        ranks = []
        for rank in range(size):
            place = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment = os.environ | {name: str(value) for name, value in place.items()}
            command = [sys.executable, str(path), *arguments]
            ranks.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            )
        try:
            deadline = time.monotonic() + LIMIT
            outputs = [process.communicate(timeout=max(0.1, deadline - time.monotonic()))[0] for process in ranks]
        finally:
            for process in ranks:
                process.kill()
        return [(process.returncode, output) for process, output in zip(ranks, outputs, strict=True)]

    return start


COLLECTIVES = """
import sys
from datetime import timedelta
import numpy as np
import torch
import torch.distributed as dist
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.parallel.engine import make_engine
from hpcsurrogate.parallel.world import get_world

world = get_world()
assert world is get_world() and not world.is_mpi
assert (world.local_rank, world.local_size) == (world.rank, world.size)  # one machine
assert world.allgather(world.rank) == list(range(world.size))
assert world.bcast({"from": world.rank}) == {"from": 0}
assert world.gather(world.rank) == (list(range(world.size)) if world.rank == 0 else [])
mine = np.full((2, 3), 2.0**-40 if world.rank else 1.0).T
total = world.sum(mine)
assert total.dtype == np.float64 and total.shape == (3, 2) and (total == 1.0 + (world.size - 1) * 2.0**-40).all()
assert (mine == (2.0**-40 if world.rank else 1.0)).all()
assert world.sum(np.asarray(world.rank)).item() == sum(range(world.size))
world.barrier()
try:
    with world.failing_together():
        if world.rank == 1:
            raise DataError("damaged")
except DataError as error:
    assert error.from_rank == 1

try:
    make_engine("horovod", world)
except ConfigError as error:
    assert "set `train.engine: torch`" in str(error)
for _ in range(2):  # one engine after the other
    engine = make_engine("torch", world)
    tensor = torch.tensor([1 + world.rank])
    handle = engine.sum_async(tensor, "sum")
    world.barrier()  # the world's own calls and an engine's messages do not meet
    handle.wait()
    assert tensor.item() == world.size * (world.size + 1) // 2
    for group in (dist.group.WORLD, engine._group):  # others may be at work, or suspended, for longer than any job
        assert group._get_backend(torch.device("cpu")).options._timeout > timedelta(days=30)
    engine.close()
assert "mpi4py.MPI" not in sys.modules
print("fine\\n", end="", flush=True)  # in one piece: ranks write to one pipe
"""

ENDINGS = """
import os, sys, time
from hpcsurrogate.core.errors import RankLostError
from hpcsurrogate.parallel.world import get_world

what, rank = sys.argv[1:]
world = get_world()
world.barrier()
if world.rank == int(rank):
    print("said before the end")
    world.abort(5) if what == "abort" else os._exit(7)
if what == "abort":
    time.sleep(50)  # as a rank that computes: it makes no collective call
try:
    world.barrier()
except RankLostError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("size", [2, 3])
def test_collectives_and_engine(start_by_variables, size):
    for code, output in start_by_variables(COLLECTIVES, size=size):
        assert (code, output) == (0, "fine\n"), output


def test_torchrun_itself(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(COLLECTIVES, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    # As inside a step of srun that starts one torchrun a node: its number of tasks is not that of the ranks.
    environment = os.environ | {"SLURM_STEP_NUM_TASKS": "4", "PMIX_RANK": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0 and done.stdout.split() == ["fine", "fine"], done.stderr


@pytest.mark.parametrize("rank", ["0", "2"])
def test_abort_ends_ranks_wherever_they_are(start_by_variables, rank):
    started = time.monotonic()
    ends = start_by_variables(ENDINGS, "abort", rank, size=3)
    assert time.monotonic() - started < 45  # they would have slept 50 s
    assert [code for code, _ in ends] == [5, 5, 5], ends
    assert [output for _, output in ends] == ["said before the end\n" if str(n) == rank else "" for n in range(3)]


def test_a_lost_rank_is_an_error_where_it_is_missed(start_by_variables):
    (code_0, output_0), (code_1, _) = start_by_variables(ENDINGS, "lost", "1")
    assert (code_0, code_1) == (6, 7)
    assert output_0.startswith("torch.distributed lost another rank")


def test_a_place_where_nobody_listens_is_named():
    script = """
from hpcsurrogate.parallel import torch_world
from hpcsurrogate.parallel.world import get_world
torch_world.CONNECT_LIMIT = 1.0  # rank 0 may come later, so a rank tries for a while
get_world()
"""
    place = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=os.environ | place, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert "RankLostError: rank 1 of 2: the ranks do not meet at MASTER_ADDR=127.0.0.1, MASTER_PORT=1" in done.stderr
