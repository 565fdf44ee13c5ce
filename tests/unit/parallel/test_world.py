"""A process alone, and the variables by which launchers say that it is not."""

import os
import subprocess
import sys

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError, RankLostError
from hpcsurrogate.parallel.world import World, get_world, promised_sizes, torchrun_place


def test_a_process_alone_is_a_whole_world():
    world = World()
    assert (world.rank, world.size, world.comm) == (0, 1, None)
    assert (world.local_rank, world.local_size, world.node) == (0, 1, None)
    assert world.is_mpi  # for as much as it needs: its own memory, and a Horovod of one rank
    assert world.bcast("it") == "it"
    assert world.allgather("it") == ["it"]
    assert world.share([3, 1, 2]) == [3, 1, 2]
    assert world.map(str, [3, 1, 2]) == ["3", "1", "2"]
    world.barrier()
    world.abort(3)  # returns: the caller ends itself


def test_an_error_alone_is_raised_as_it_is():
    with pytest.raises(DataError, match="^damaged$"), World().failing_together():
        raise DataError("damaged")
    with World().failing_together():
        pass


def test_sum_alone_is_a_copy():
    array = np.arange(6.0).reshape(2, 3).T
    total = World().sum(array)
    assert (total == array).all() and total.dtype == array.dtype
    total += 1
    assert array[0, 0] == 0


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_hold_every_item_once(size):
    shares = [World(rank=rank, size=size).share(range(13)) for rank in range(size)]
    assert sorted(sum(shares, [])) == list(range(13))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        ({"OMPI_COMM_WORLD_SIZE": "4", "PMIX_RANK": "0"}, {"OMPI_COMM_WORLD_SIZE": 4}),
        ({"PMI_SIZE": "2", "HPCSURROGATE_RANKS": "3"}, {"HPCSURROGATE_RANKS": 3, "PMI_SIZE": 2}),
        ({"PMIX_RANK": "0"}, {"PMIX_RANK": None}),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, {}),  # a batch script
        ({"SLURM_STEP_NUM_TASKS": "8", "PMIX_RANK": "0"}, {"SLURM_STEP_NUM_TASKS": 8}),
        ({"SLURM_STEP_NUM_TASKS": "1"}, {}),  # srun -n 1 of an ordinary command
        ({"SLURM_STEP_NUM_TASKS": "8", "PMIX_RANK": "0", "TORCHELASTIC_RUN_ID": "1"}, {}),  # srun started torchrun
        ({"OMPI_COMM_WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "1"}, {"OMPI_COMM_WORLD_SIZE": 8}),
        ({"SLURM_STEP_NUM_TASKS": "2", "OMPI_COMM_WORLD_SIZE": "16"}, {"OMPI_COMM_WORLD_SIZE": 16}),  # daemons, ranks
    ],
)
def test_promised_sizes(environment, expected):
    assert promised_sizes(environment) == expected


def test_a_promise_that_is_no_number_is_refused():
    with pytest.raises(RankLostError, match="OMPI_COMM_WORLD_SIZE='two'"):
        promised_sizes({"OMPI_COMM_WORLD_SIZE": "two"})


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "node7", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(("changes", "expected"), [({}, (1, 4)), ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1))])
def test_torchrun_place(changes, expected):
    assert torchrun_place(TORCHRUN | changes) == expected
    for name in TORCHRUN:
        assert torchrun_place({key: value for key, value in TORCHRUN.items() if key != name}) is None


@pytest.mark.parametrize(
    ("changes", "message"), [({"RANK": "4"}, "RANK=4 is no rank of WORLD_SIZE=4"), ({"WORLD_SIZE": "all"}, "'all'")]
)
def test_torchrun_variables_without_sense_are_refused(changes, message):
    with pytest.raises(RankLostError, match=message):
        torchrun_place(TORCHRUN | changes)


def test_one_rank_of_torchrun_is_a_process_alone(monkeypatch):
    for name, value in (TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}).items():
        monkeypatch.setenv(name, value)
    get_world.cache_clear()
    try:
        assert get_world() == World()
    finally:
        get_world.cache_clear()


def in_new_process(script, **variables):
    return subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_ranks_that_each_believe_to_be_alone_are_refused():
    """What a foreign mpirun does: its variables say two, and the MPI of mpi4py starts a world of one."""
    done = in_new_process("from hpcsurrogate.parallel.world import get_world; get_world()", OMPI_COMM_WORLD_SIZE="2")
    assert done.returncode != 0
    last_line = done.stderr.splitlines()[-1]
    assert "RankLostError: OMPI_COMM_WORLD_SIZE promises 2 ranks, MPI sees 1" in last_line
    assert "doctor" in last_line


def test_a_process_alone_does_not_load_mpi():
    script = (
        "import sys; from hpcsurrogate.parallel.engine import make_engine; "
        "from hpcsurrogate.parallel.world import get_world; world = get_world(); make_engine('none', world); "
        "print(world.size, 'mpi4py' in sys.modules, 'horovod' in sys.modules)"
    )
    assert in_new_process(script).stdout.split() == ["1", "False", "False"]
