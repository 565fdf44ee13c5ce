"""simulate with a field shared by ranks: the flow of one rank to round-off, and the same bits from equal groups."""

import numpy as np

from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.check import check_directory

EXPERIMENT = """
import sys
from pathlib import Path
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.parallel.world import World, get_world

folder, everyone = Path(sys.argv[1]), get_world()

def simulate(name, ranks, ranks_per_realisation, **source):
    "On the first ranks of the launch, which are a world of their own"
    experiment = Experiment.model_validate({
        "name": "tiny", "run_dir": str(folder),
        "flow": {"viscosity": 0.02, "domain": (6.0, 5.0, 4.0),
                 "forcing": {"kind": "constant_power", "wavenumber": 2, "power": 1.0}},
        "host": {"kind": "spectral", "grid": (8, 8, 8), "time_step": 0.05},
        "simulate": {"kind": "dns", "grid": (24, 32, 24), "realisations": 2, "duration": 0.3,
                     "snapshot_interval": 0.1, "initial_wavenumber": 1, "precision": "float64",
                     "ranks_per_realisation": ranks_per_realisation} | source,
        "prepare": {"split": {"train": (0,), "validation": (1,), "test": (2,)}},
        "train": {"model": {"kind": "cnn"}},
        "couple": {"duration": 0.2, "contenders": ({"name": "bare", "closure": {"kind": "none"}},)},
    })
    part = everyone.comm.Split(everyone.rank < ranks, everyone.rank)
    if everyone.rank < ranks:
        run_simulate(experiment, RunPaths(folder / name), World(part.rank, part.size, comm=part))
    everyone.barrier()
"""

RUNS = """
coarse = {"spin_up_coarse": 0.2, "spin_up": 0.1}
simulate("alone", 2, 1, **coarse)
simulate("one group", 2, 2, **coarse)
simulate("two groups", 4, 2, **coarse)
simulate("three", 3, 3, **coarse)
if everyone.rank == 0:
    (folder / "one group/raw/realisation-0001-000000.hdf5").unlink()
everyone.barrier()
simulate("one group", 4, 2, **coarse)  # the second group has nothing to do, the first what is missing
vortex = {"initial": "taylor_green"}
simulate("vortex alone", 1, 1, **vortex)
simulate("vortex", 2, 2, **vortex)

for ranks, share, wrong in ((3, 2, {}), (4, 1, {}), (2, 2, {"time_step": 0.1, "cfl": 0.1})):
    try:
        simulate("refused", ranks, share, **wrong)
    except HpcsurrogateError as error:
        print(f"{everyone.rank}: {type(error).__name__}: {error}\\n", end="", flush=True)
        everyone.barrier()
"""


def velocities(directory):
    catalogue, fields = Catalogue.read(directory), []
    for realisation in catalogue.realisations:
        with catalogue.open(realisation, verify=True) as reader:
            fields.append(reader.read("velocity"))
    return np.stack(fields)


def test_ranks_that_share_a_field_record_the_flow_of_one(run_mpi, tmp_path):
    output = run_mpi(EXPERIMENT + RUNS, ranks=4, timeout=120, arguments=[tmp_path])
    alone, vortex = velocities(tmp_path / "alone/raw"), velocities(tmp_path / "vortex alone/raw")
    assert alone.shape == (2, 4, 3, 24, 32, 24)
    assert np.abs(alone[:, -1] - alone[:, 0]).max() > 0.1  # it moves
    # Round-off of some ten steps; the flow has no time to amplify it.
    for name in ("one group", "two groups", "three"):
        np.testing.assert_allclose(velocities(tmp_path / name / "raw"), alone, rtol=0, atol=1e-12)
    np.testing.assert_allclose(velocities(tmp_path / "vortex/raw"), vortex, rtol=0, atol=1e-12)
    # Bit for bit, whichever ranks made it, and in one attempt or two
    groups = [velocities(tmp_path / name / "raw").tobytes() for name in ("one group", "two groups")]
    assert groups[0] == groups[1]
    assert check_directory(tmp_path / "two groups", deep=True) == []

    lines = output.splitlines()
    assert sum("2 is no divisor of the number of ranks of this job, 3" in line for line in lines) == 3
    assert sum("too many ranks for the shards: 4 ranks, 2 realisations" in line for line in lines) == 4
    assert sum("DivergedError: realisation 0, snapshot 1, step 0: CFL number" in line for line in lines) == 2
