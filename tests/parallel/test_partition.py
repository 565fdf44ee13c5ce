"""Sixteen ranks share every epoch: each window once, in one order, whatever the number of ranks and the store."""

import json

import numpy as np
import pytest

from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardWriter

LIMIT = 120  # seconds for a launch that takes 25 on two idle cores, of which 20 go to importing torch sixteen times
BLOCKS = ((13, 4), (9,), (6, 11, 2))  # snapshots of the shards of each realisation
WINDOW, BATCH = 2, 32
LENGTHS = [sum(blocks) for blocks in BLOCKS]
STARTS = [100 * number + first for number, length in enumerate(LENGTHS) for first in range(length - WINDOW)]

# A window is known by the number in its first snapshot. The ranks also form worlds of 1, 2 and 4 beside the one of 16.
SCRIPT = """
import itertools, json, sys
import numpy as np
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.loader import WindowLoader
from hpcsurrogate.data.stores.choose import open_store
from hpcsurrogate.parallel.world import World, get_world

directory, result, window, batch_size, num_batches = *sys.argv[1:3], *map(int, sys.argv[3:])
world = get_world()

def numbers(batch):
    velocity = batch["velocity"][:, :, 0, 0, 0].numpy().astype(int)
    assert (np.diff(velocity, axis=1) == 1).all()
    return velocity[:, 0].tolist()

def taken(loader, first, last):
    batches = loader.batches(first)
    seen = [numbers(batch) for _, batch in itertools.islice(batches, last - first)]
    batches.close()
    return seen

def run(world, kind):
    with open_store(Catalogue.read(directory, world), (0, 1, 2), ("velocity",), world, kind) as store:
        loader = WindowLoader(store, window, batch_size, world, seed=11, fields=("velocity",))
        single = WindowLoader(store, 0, batch_size, world, seed=11, fields=("velocity",))
        own = {
            "training": taken(loader, 0, num_batches),
            "rest": taken(loader, 5, num_batches),
            "validation": [numbers(batch) for batch in loader.validation(world.rank, world.size)],
            "single": [numbers(batch) for batch in single.validation(world.rank, world.size)],
        }
        return world.allgather(own)

results = {f"{world.size} {kind}": run(world, kind) for kind in ("stream", "node", "cluster")}
size = 1 if world.rank == 0 else 2 if world.rank < 3 else 4
group = world.comm.Split(size if world.rank < 7 else 0, world.rank)
small = World(group.rank, group.size, group.rank, group, group.size, group)
own = {f"{size} stream": run(small, "stream")} if world.rank < 7 else {}
for part in world.allgather(own):
    results |= part
if world.rank == 0:
    with open(result, "w") as file:
        json.dump(results, file)
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Three realisations in shards of unequal size; snapshot i of realisation r is filled with 100 r + i."""
    directory, records = tmp_path_factory.mktemp("shards"), []
    for realisation, blocks in enumerate(BLOCKS):
        first = 0
        for num_snapshots in blocks:
            domain = (1.0, 1.0)
            header = ShardHeader("counted", realisation, num_snapshots, 0.1, (4, 4), domain, first_snapshot=first)
            path = directory / shard_name(realisation, first)
            with ShardWriter(path, header, ("velocity",)) as shard:
                for snapshot in range(first, first + num_snapshots):
                    shard.append({"velocity": np.full((2, 4, 4), 100 * realisation + snapshot)})
            records.append(catalogue_shard(path))
            first += num_snapshots
    Catalogue.from_shards(directory, records).write()
    return directory


def joined(ranks, key):
    """The windows of all ranks in the order of the global batches."""
    return [window for parts in zip(*(rank[key] for rank in ranks), strict=True) for part in parts for window in part]


def test_every_window_comes_once_an_epoch_over_all_ranks(run_mpi, directory, tmp_path):
    num_windows = len(STARTS)
    assert num_windows == 39 and num_windows % 16 and BATCH % num_windows
    num_batches = num_windows  # that is BATCH epochs
    arguments = (directory, tmp_path / "result.json", WINDOW, BATCH, num_batches)
    run_mpi(SCRIPT, ranks=16, timeout=LIMIT, arguments=arguments)
    results = json.loads((tmp_path / "result.json").read_text())
    assert set(results) == {"16 stream", "16 node", "16 cluster", "4 stream", "2 stream", "1 stream"}
    order = joined(results["1 stream"], "training")
    epochs = np.array(order).reshape(BATCH, num_windows)
    assert all(sorted(epoch) == sorted(STARTS) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == BATCH
    for name, ranks in results.items():
        size = int(name.split()[0])
        assert len(ranks) == size
        for rank in ranks:  # the same number of steps and of samples on every rank
            assert [len(part) for part in rank["training"]] == [BATCH // size] * num_batches
        assert joined(ranks, "training") == order, name
        assert joined(ranks, "rest") == order[5 * BATCH :], name
        touching = [100 * r + first for r, n in enumerate(LENGTHS) for first in range(0, n - WINDOW, WINDOW)]
        every = [100 * r + first for r, n in enumerate(LENGTHS) for first in range(n)]
        for key, expected in (("validation", touching), ("single", every)):
            assert sorted(window for rank in ranks for part in rank[key] for window in part) == expected, name
