"""Small real data for the tests of the data room."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardWriter

PROJECT = Path(__file__).resolve().parents[3]
FIELDS = ("velocity", "commutator", "sgs_stress")
COMPONENTS = {"velocity": 2, "commutator": 2, "sgs_stress": 3}


def _experiment(run_dir, **sections) -> Experiment:
    content = {
        "name": "tiny",
        "run_dir": str(run_dir),
        "flow": {"viscosity": 5e-3, "forcing": {"kind": "kolmogorov", "wavenumber": 2}},
        "host": {"kind": "finite_volume", "grid": (8, 8), "time_step": 0.05},
        "simulate": {
            "kind": "dns",
            "grid": (32, 32),
            "realisations": 3,
            "duration": 0.4,
            "snapshot_interval": 0.1,
            "spin_up": 0.2,
            "spin_up_coarse": 0.5,
        },
        "prepare": {"split": {"train": (0,), "validation": (1,), "test": (2,)}},
        "train": {"model": {"kind": "cnn"}},
        "couple": {"duration": 0.2, "contenders": ({"name": "bare", "closure": {"kind": "none"}},)},
    }
    return Experiment.model_validate(content | sections)


@pytest.fixture
def make_experiment(tmp_path):
    """make_experiment(simulate={...}) -> Experiment with whole sections replaced; run_dir is the test's own folder."""
    return lambda **sections: _experiment(tmp_path / "run", **sections)


@pytest.fixture
def write_shards(tmp_path):
    """write_shards(lengths, dtype, layout) -> (directory, arrays[realisation][field] of (time, component, 6, 4))."""

    def write(lengths=(5, 4), dtype="float32", layout="staggered"):
        directory, arrays, entries = tmp_path / "shards", {}, []
        generator = np.random.default_rng(0)
        for realisation, length in enumerate(lengths):
            header = ShardHeader(
                "noise", realisation, length, 0.1, (6, 4), (1.5, 1.0), layout, "box", (0.25, 0.25), {"viscosity": 1e-3}
            )
            arrays[realisation] = {
                name: generator.standard_normal((length, COMPONENTS[name], 6, 4)).astype(dtype) for name in FIELDS
            }
            with ShardWriter(directory / shard_name(realisation), header, FIELDS, dtype) as shard:
                for index in range(length):
                    shard.append({name: arrays[realisation][name][index] for name in FIELDS})
            entries.append(catalogue_shard(directory / shard_name(realisation)))
        Catalogue(directory, entries).write()
        return directory, arrays

    return write


@pytest.fixture
def fresh_python():
    """fresh_python(script) -> CompletedProcess of a fresh interpreter: for what would harm the test's own process."""

    def run(script):
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            capture_output=True, text=True, timeout=60, cwd=PROJECT, check=False,
        )  # fmt: skip

    return run
