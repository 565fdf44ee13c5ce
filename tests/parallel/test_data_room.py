"""simulate and prepare on several ranks write what one rank writes."""

import numpy as np

from hpcsurrogate.core.atomic import read_json
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.check import check_directory

SCRIPT = """
import sys
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.loader import WindowLoader
from hpcsurrogate.data.prepare import run_prepare
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.parallel.world import get_world

experiment = Experiment.model_validate({
    "name": "tiny", "run_dir": sys.argv[1], "flow": {"viscosity": 5e-3},
    "host": {"kind": "finite_volume", "grid": (8, 8), "time_step": 0.05},
    "simulate": {"kind": "dns", "grid": (32, 32), "realisations": int(sys.argv[2]), "duration": 0.3,
                 "snapshot_interval": 0.1, "spin_up": 0.1},
    "prepare": {"split": {"train": (0, 2), "validation": (1,), "test": (3,)}},
    "train": {"model": {"kind": "cnn"}},
    "couple": {"duration": 0.2, "contenders": ({"name": "bare", "closure": {"kind": "none"}},)},
})
paths, world = RunPaths(experiment.run_dir), get_world()
try:
    run_simulate(experiment, paths, world)
except ConfigError as error:
    sys.exit(str(error))
run_prepare(experiment, paths, world)
loader = WindowLoader(paths.prepared, (0, 2), 1, 4, world, seed=0)
total = world.sum(sum(batch["velocity"].double().sum((0, 1, 3, 4)).numpy() for batch in loader.epoch(0)))
if world.rank == 0:
    print("steps", len(loader), "sum", *(f"{value:.10f}" for value in total))
"""


def contents(directory):
    catalogue = Catalogue.read(directory)
    arrays = {}
    for realisation in catalogue.realisations:
        with catalogue.open(realisation, verify=True) as shard:
            arrays |= {(realisation, name): shard.read(name) for name in shard.field_names}
    return arrays


def test_two_ranks_write_the_shards_and_statistics_of_one(run_mpi, tmp_path):
    alone = run_mpi(SCRIPT, ranks=1, arguments=[tmp_path / "one", 4])
    together = run_mpi(SCRIPT, ranks=2, arguments=[tmp_path / "two", 4])
    assert alone == together and "steps 1 " in alone
    for folder in ("raw", "prepared"):
        one, two = contents(tmp_path / "one" / folder), contents(tmp_path / "two" / folder)
        assert one.keys() == two.keys() and len(one) == 4 * (1 if folder == "raw" else 4)
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])
    assert read_json(tmp_path / "one/prepared/statistics.json") == read_json(tmp_path / "two/prepared/statistics.json")
    assert check_directory(tmp_path / "two", deep=True) == []


def test_more_ranks_than_realisations_end_with_the_reason(mpi_process, tmp_path):
    done = mpi_process(SCRIPT, ranks=2, arguments=[tmp_path / "run", 1])
    assert done.returncode != 0
    assert "too many ranks for the shards: 2 ranks, 1 realisations" in done.stderr
    assert not (tmp_path / "run").exists()
