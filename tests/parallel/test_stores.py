"""The stores in memory over several ranks: the numbers of the files, read once, held once, failing together."""

import numpy as np
import pytest

from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardWriter

GRID = (64, 40)
LENGTHS = {0: 90, 2: 61}  # in shards of 32, so that most ranks' parts end within one

OPENING = """
import re, sys
from dataclasses import replace
from pathlib import Path
import h5py
import numpy as np
from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.stores.choose import open_store
from hpcsurrogate.parallel.world import get_world

world = get_world()
catalogue = Catalogue.read(sys.argv[1], world)
fields = ("velocity", "sgs_stress")
kind = sys.argv[2]
"""

COMPARE = """
with open_store(catalogue, (0, 2), fields, world, kind) as store:
    for rank, field in enumerate(fields, start=1):
        # as HDF5 itself reads them
        paths = sorted(Path(sys.argv[1]).glob("*-000[02]-*.hdf5"))
        expected = np.concatenate([h5py.File(path)[f"t{rank}_fields/{field}"][0] for path in paths])
        assert store.shape(field) == expected.shape[1:] and store.dtype(field) == np.float32
        wanted = np.random.default_rng(world.rank).integers(0, len(expected), 200)
        out = np.zeros((200, *store.shape(field)), np.float32)
        store.read(field, wanted, out)
        assert (out == expected[wanted]).all()
        store.read(field, wanted[:0], out[:0])
        for wrong in (-1, len(expected)):
            try:
                store.read(field, np.array([0, wrong]), out[:2])
                print("read what does not exist")
            except IndexError:
                pass
    world.barrier()
print("equal", flush=True)
"""

MEASURE = """
def bytes_read():
    return int(re.search(r"rchar: (\\d+)", Path("/proc/self/io").read_text())[1])

def resident():  # each page divided by the number of processes that map it
    return 1024 * int(re.search(r"^Pss: +(\\d+)", Path("/proc/self/smaps_rollup").read_text(), re.M)[1])

for _ in range(2):  # libraries and buffers of the first time do not count
    world.barrier()
    before = np.array([bytes_read(), resident()])
    store = open_store(catalogue, (0, 2), fields, world, kind)
    world.barrier()
    after = np.array([bytes_read(), resident()])
    world.barrier()
    store.close()
files = sum(path.stat().st_size for path in Path(sys.argv[1]).glob("*-000[02]-*.hdf5"))
samples = store.table.num_snapshots * sum(int(np.prod(store.shape(field))) * 4 for field in fields)
per_rank = world.allgather((after - before) / [files, samples])
if world.rank == 0:
    print("read", *(float(read) for read, _ in per_rank))
    print("held", float(sum(held for _, held in per_rank)), flush=True)
"""

TWO_NODES = """
node = world.comm.Split(world.rank // 2)
world = replace(world, node=node, local_rank=node.rank, local_size=node.size)
"""

FAIL = """
try:
    open_store(catalogue, (0, 2), fields, world, kind)
except HpcsurrogateError as error:
    print(f"{type(error).__name__}: {error}, rank {error.from_rank}\\n", end="", flush=True)
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Shards of two realisations and of one that no store is asked for; 9 MB of samples."""
    directory, records = tmp_path_factory.mktemp("shards"), []
    for realisation, length in {**LENGTHS, 1: 1}.items():
        for first in range(0, length, 32):
            records.append(write_shard(directory, realisation, first, min(32, length - first), seed=first))
    Catalogue.from_shards(directory, records).write()
    return directory


@pytest.fixture
def copy(directory, tmp_path):
    """The same shards, to be damaged."""
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def write_shard(directory, realisation, first, length, seed):
    header = ShardHeader(
        dataset_name="noise", realisation=realisation, num_snapshots=length, snapshot_interval=0.1, grid_shape=GRID,
        domain=(1.0, 1.0), layout="staggered", filter_kind="box", filter_width=(0.25, 0.25), parameters={},
        first_snapshot=first,
    )  # fmt: skip
    generator = np.random.default_rng([seed, realisation])
    path = directory / shard_name(realisation, first)
    with ShardWriter(path, header, ("velocity", "sgs_stress")) as shard:
        for _ in range(length):
            shard.append({"velocity": generator.random((2, *GRID)), "sgs_stress": generator.random((3, *GRID))})
    return catalogue_shard(path)


@pytest.mark.parametrize(("kind", "ranks"), [("node", 2), ("cluster", 2), ("cluster", 3)])
def test_every_rank_reads_the_numbers_of_the_files(run_mpi, directory, kind, ranks):
    assert run_mpi(OPENING + COMPARE, ranks, arguments=[directory, kind]).split() == ["equal"] * ranks


def test_more_ranks_than_snapshots(run_mpi, tmp_path):
    Catalogue.from_shards(tmp_path, [write_shard(tmp_path, number, 0, 1, seed=0) for number in (0, 2)]).write()
    assert run_mpi(OPENING + COMPARE, ranks=3, arguments=[tmp_path, "cluster"]).split() == ["equal"] * 3


def test_each_of_two_nodes_holds_all(run_mpi, directory):
    assert run_mpi(OPENING + TWO_NODES + COMPARE, 4, arguments=[directory, "node"]).split() == ["equal"] * 4


# Five shards on three ranks: the last one reads one, of 26 snapshots of 151. The parts of a cluster are equal.
@pytest.mark.parametrize(("kind", "least", "most"), [("node", 0.15, 0.45), ("cluster", 0.3, 0.4)])
def test_every_byte_is_read_once_and_held_once(run_mpi, directory, kind, least, most):
    read, held = run_mpi(OPENING + MEASURE, ranks=3, arguments=[directory, kind]).splitlines()
    shares = [float(share) for share in read.split()[1:]]
    # Of the files' bytes. Above 1: HDF5 looks up where the snapshots lie, twice where two ranks share a shard.
    assert sum(shares) <= 1.1
    assert least < min(shares) and max(shares) < most
    # 1 is one copy, 3 one on each rank; a buffer of 1 MiB on every rank may stay, a third of the 9 MB together.
    assert 0.9 < float(held.split()[1]) < 1.5


# The third of five shards is read by the third of three ranks, or holds snapshots 64 to 89, of the second third of 151.
@pytest.mark.parametrize(("kind", "reader"), [("node", 2), ("cluster", 1)])
def test_a_damaged_shard_ends_all_ranks_with_the_same_line(run_mpi, copy, kind, reader):
    damaged = copy / shard_name(0, 64)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    lines = run_mpi(OPENING + FAIL, ranks=3, timeout=20, arguments=[copy, kind]).splitlines()
    assert len(lines) == 3 and len(set(lines)) == 1
    assert lines[0].startswith(f"DataError: {damaged}: ")
    assert lines[0].endswith(f", rank {reader}")


def test_a_shard_that_was_exchanged_is_noticed_by_its_sha256(run_mpi, copy):
    """The same header, size and sound checksums of all snapshots, but other numbers."""
    write_shard(copy, 0, 32, 32, seed=99)
    (line,) = set(run_mpi(OPENING + FAIL, ranks=2, timeout=20, arguments=[copy, "node"]).splitlines())
    assert "SHA-256 differs from the catalogue" in line and shard_name(0, 32) in line
