"""Start-up of a rank on 100,000 shards: catalogue and table of samples. Started by bench_loader.py under mpirun."""

import sys
import time
from pathlib import Path

import numpy as np

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.data.catalogue import Catalogue, SnapshotTable, shard_name
from hpcsurrogate.data.entries import RealisationEntry, ShardEntry
from hpcsurrogate.data.order import SampleOrder
from hpcsurrogate.parallel.world import get_world

GRID, SNAPSHOTS = (64, 64), 1000
SIZE = SNAPSHOTS * 2 * (8 * 64 * 64 + 4)  # two vector fields with their checksums


def write_catalogue(directory: Path, num_shards: int, shards_each: int) -> None:
    """A catalogue without shards: sizes and checksums are made up, everything else as a run would write it."""
    entries = []
    for realisation in range(num_shards // shards_each):
        shards = []
        for block in range(shards_each):
            checksum = f"{realisation * shards_each + block:064x}"
            file = shard_name(realisation, block * SNAPSHOTS)
            shards.append(ShardEntry(file, SIZE, checksum, block * SNAPSHOTS, SNAPSHOTS))
        entries.append(
            RealisationEntry(
                snapshot_interval=0.1,
                grid_shape=GRID,
                domain=(1.0, 1.0),
                layout="staggered",
                fields=("velocity", "commutator"),
                dtype="float32",
                filter_kind="face_average",
                filter_width=(1 / 64, 1 / 64),
                parameters={"viscosity": 1e-3 * (1 + realisation), "drag": 0.1},
                realisation=realisation,
                shards=tuple(shards),
            )  # fmt: skip
        )
    Catalogue(directory, entries).write()


def status(key: str) -> int:
    """A size of this process [bytes]: VmRSS now, VmHWM at its peak."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status: no line {key}")


def main(directory: str, result_file: str) -> None:
    """Time and peak of additional memory of the slowest and the largest rank."""
    world = get_world()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    before = status("VmRSS")
    world.barrier()
    start = time.perf_counter()
    catalogue = Catalogue.read(directory, world)
    table = SnapshotTable(catalogue, catalogue.realisations)
    order = SampleOrder(table.num_snapshots, seed=1)
    table.locate(order.at(np.arange(64) + 64 * world.rank))
    seconds = time.perf_counter() - start
    ranks = world.allgather((seconds, status("VmHWM") - before))
    if world.rank == 0:
        slowest, largest = np.max(ranks, axis=0)
        result = {"seconds": slowest, "bytes": largest, "samples": table.num_snapshots}
        write_json_atomic(result_file, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
