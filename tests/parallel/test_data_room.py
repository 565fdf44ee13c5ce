"""simulate and prepare on several ranks write what one rank writes, bit for bit."""

from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.check import check_directory

EXPERIMENT = """
import sys
from pathlib import Path
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.prepare import run_prepare
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.parallel.world import World, get_world

folder, everyone = Path(sys.argv[1]), get_world()

def experiment(snapshots_per_shard, **sections):
    return Experiment.model_validate({
        "name": "tiny", "run_dir": str(folder), "flow": {"viscosity": 5e-3},
        "host": {"kind": "finite_volume", "grid": (8, 8), "time_step": 0.05},
        "simulate": {"kind": "dns", "grid": (32, 32), "realisations": 3, "duration": 0.4,
                     "snapshot_interval": 0.1, "spin_up": 0.1},
        "prepare": {"split": {"train": (0,), "validation": (1,), "test": (2,)},
                    "snapshots_per_shard": snapshots_per_shard, "more_filters": ({"kind": "box"},)},
        "train": {"model": {"kind": "cnn"}},
        "couple": {"duration": 0.2, "contenders": ({"name": "bare", "closure": {"kind": "none"}},)},
    } | sections)
"""

# Within one launch, the first 1, 2, 3 and 4 ranks in turn are a world of their own.
WORLDS = """
def world_of(size):
    part = everyone.comm.Split(everyone.rank < size, everyone.rank)
    return World(part.rank, part.size, comm=part) if everyone.rank < size else None

for size in (1, 2, 3, 4):
    paths = RunPaths(folder / str(size))
    if world := world_of(min(size, 3)):
        run_simulate(experiment(2), paths, world)
    everyone.barrier()
    if world := world_of(size):
        run_prepare(experiment(2), paths, world)

# Three units of work for four ranks; then again with nothing left to do.
paths = RunPaths(folder / "few")
if world := world_of(3):
    run_simulate(experiment(2), paths, world)
everyone.barrier()
for _ in range(2):
    run_prepare(experiment(128), paths, everyone)

# These three as a user's files: blocks of three trajectories for four ranks.
files = tuple(str(path) for path in sorted(paths.raw.glob("*.hdf5")))
users = experiment(2, simulate={"kind": "well", "files": files, "snapshots_per_shard": 2})
run_simulate(users, RunPaths(folder / "users"), everyone)
"""

REFUSED = "run_simulate(experiment(2), RunPaths(folder / 'run'), everyone)"


def contents(directory):
    catalogue = Catalogue.read(directory)
    arrays = {}
    for realisation in catalogue.realisations:
        with catalogue.open(realisation, verify=True) as shard:
            arrays |= {(realisation, name): shard.read(name).tobytes() for name in shard.field_names}
    return arrays


def test_any_number_of_ranks_writes_the_same_bytes(run_mpi, tmp_path):
    run_mpi(EXPERIMENT + WORLDS, ranks=4, arguments=[tmp_path])
    for folder, fields in (("raw", 1), ("prepared", 4), ("prepared/filter-1", 4)):
        alone = contents(tmp_path / "1" / folder)
        assert len(alone) == 3 * fields
        for other in ("2", "3", "4", "few"):
            assert contents(tmp_path / other / folder) == alone, (other, folder)
    for name in ("prepared/statistics.json", "prepared/filter-1/statistics.json"):
        alone = (tmp_path / "1" / name).read_bytes()
        assert all((tmp_path / other / name).read_bytes() == alone for other in "234")
    assert contents(tmp_path / "users" / "raw") == contents(tmp_path / "few" / "raw")
    assert check_directory(tmp_path / "4", deep=True) == []


def test_more_ranks_than_realisations_of_a_dns_end_with_the_reason(mpi_process, tmp_path):
    done = mpi_process(EXPERIMENT + REFUSED, ranks=4, arguments=[tmp_path])
    assert done.returncode != 0
    assert "too many ranks for the shards: 4 ranks, 3 realisations" in done.stderr
    assert not (tmp_path / "run").exists()
