"""couple on several ranks: the scores of one, every run done once, and one line for what cannot be run."""

import json

EXPERIMENT = """
import sys
from pathlib import Path
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.couple.stage import run_couple
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.parallel.world import World, get_world

world, folder = get_world(), Path(sys.argv[1])

def experiment(**couple):
    tuned = {"kind": "smagorinsky", "constant": "tuned"}
    return Experiment.model_validate({
        "name": "tiny", "run_dir": str(folder), "flow": {"viscosity": 2e-3},
        "host": {"kind": "finite_volume", "grid": (16, 16), "time_step": 0.05},
        "simulate": {"kind": "dns", "grid": (48, 48), "realisations": 3, "duration": 0.5, "snapshot_interval": 0.1,
                     "initial_wavenumber": 3, "time_step": 0.0125, "cfl": 0.9},
        "prepare": {"filter": {"kind": "face_average"}, "split": {"train": (0,), "validation": (1,), "test": (2,)}},
        "train": {"engine": "none", "model": {"kind": "cnn"}},
        "couple": {"duration": 0.4, "starts": 2, "correlation": 0.99, "ladder": (24,), "contenders": (
            {"name": "Smagorinsky", "closure": tuned, "ladder": (24,)},
            {"name": "spectral", "closure": {"kind": "none"},
             "host": {"kind": "spectral", "grid": (16, 16), "time_step": 0.04}},
        )} | couple,
    })

run_simulate(experiment(), RunPaths(folder), world)
world.barrier()
"""

RUNS = """
alone, shared = folder / "alone", folder / "shared"
if world.rank == 0:
    for path in (alone, shared):
        path.mkdir()
        (path / "raw").symlink_to(folder / "raw")
    run_couple(experiment(), RunPaths(alone), World())
world.barrier()
run_couple(experiment(), RunPaths(shared), world)
try:
    run_couple(experiment(ladder=(96,), lengthen_steps=False), RunPaths(folder), world)
except HpcsurrogateError as error:
    print(f"{world.rank}: {error}\\n", end="", flush=True)
"""


def scores(path):
    """All but what was measured by the clock, and what follows from it."""
    lines = json.loads((path / "couple.json").read_text())["contenders"]
    return [{key: value for key, value in line.items() if not any(word in key for word in ("cost", "speed", "cheap"))}
            for line in lines]  # fmt: skip


def test_the_scores_are_those_of_one_rank(run_mpi, tmp_path):
    """Two ranks deal five runs, two of them tuned one after the other; a rank alone does the same arithmetic.

    A rung that is finer than the data is one rank's, its refusal that of both.
    """
    said = run_mpi(EXPERIMENT + RUNS, ranks=2, timeout=100, arguments=[tmp_path]).splitlines()
    alone, shared = scores(tmp_path / "alone"), scores(tmp_path / "shared")
    assert len(shared) == 5 and shared == alone
    assert all(line["step_trials"] for line in shared) and sum(bool(line["tuning"]) for line in shared) == 2
    refusals = sorted(line for line in said if "finer than the data" in line)
    assert [line[:2] for line in refusals] == ["0:", "1:"] and len({line[2:] for line in refusals}) == 1
