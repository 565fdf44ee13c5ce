"""One rank reads the catalogue, the others are told: what it holds, or why it cannot be read."""

from hpcsurrogate.data.catalogue import FILE_NAME, Catalogue, shard_name
from hpcsurrogate.data.entries import RealisationEntry, ShardEntry

# Only rank 0 is given the directory: the others could not open the file if they tried.
SCRIPT = """
import sys
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.data.catalogue import Catalogue, SnapshotTable
from hpcsurrogate.parallel.world import get_world

world = get_world()
try:
    catalogue = Catalogue.read(sys.argv[1] if world.rank == 0 else "/nowhere/at/all", world)
except DataError as error:
    found = str(error)
else:
    table = SnapshotTable(catalogue, catalogue.realisations[::-1])
    entries = [repr(catalogue.entry(number)) for number in catalogue.realisations]
    found = f"{table.num_snapshots} {digest(entries)} {catalogue.directory}"
found = world.allgather(found)
for rank, line in enumerate(found if world.rank == 0 else []):
    print(rank, line)
"""


def made_up_catalogue(directory):
    """Three realisations of two shards; no reader of a catalogue looks for the files."""
    entries = []
    for realisation in range(3):
        shards = [ShardEntry(shard_name(realisation, first), 10**6, f"{first:064x}", first, 7) for first in (0, 7)]
        entries.append(
            RealisationEntry(
                snapshot_interval=0.1,
                grid_shape=(8, 8, 8),
                domain=(1.0, 1.0, 1.0),
                layout="collocated",
                fields=("velocity",),
                dtype="float64",
                filter_kind="none",
                filter_width=(0.0, 0.0, 0.0),
                parameters={"viscosity": 1e-3 * (1 + realisation)},
                realisation=realisation,
                shards=tuple(shards),
            )  # fmt: skip
        )
    Catalogue(directory, entries).write()


def lines(output):
    return [line.split(" ", 1)[1] for line in output.splitlines()]


def test_ranks_without_the_file_know_the_same(run_mpi, tmp_path):
    made_up_catalogue(tmp_path)
    (alone,) = lines(run_mpi(SCRIPT, ranks=1, timeout=60, arguments=[tmp_path]))
    together = lines(run_mpi(SCRIPT, ranks=3, timeout=60, arguments=[tmp_path]))
    assert alone.startswith("42 ") and alone.endswith(f" {tmp_path}")
    assert together == [alone] * 3


def test_a_damaged_catalogue_is_an_error_on_every_rank(run_mpi, tmp_path):
    made_up_catalogue(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_text(path.read_text().replace('"collocated"', '"collected"', 1))
    found = lines(run_mpi(SCRIPT, ranks=3, timeout=60, arguments=[tmp_path]))
    assert len(found) == 3 and len(set(found)) == 1
    assert found[0].startswith(f"{path}: realisation 0: layout: is 'collected'")
