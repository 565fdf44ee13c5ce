"""Small real data for the tests of the data room."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardWriter

PROJECT = Path(__file__).resolve().parents[3]
NAMES = ("velocity", "commutator", "sgs_stress")


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
    """write_shards(lengths, ...) -> (directory, arrays[realisation][field] of (time, component, 6, 4[, 8])).

    The realisations are cut into shards of `snapshots_per_shard` and listed in a catalogue.
    """

    def write(
        lengths=(5, 4), dtype="float32", layout="staggered", num_dims=2, snapshots_per_shard=128, compression="none"
    ):
        directory, arrays, records = tmp_path / "shards", {}, []
        generator = np.random.default_rng(0)
        shape, domain = (6, 4, 8)[:num_dims], (1.5, 1.0, 2.0)[:num_dims]
        for realisation, length in enumerate(lengths):
            arrays[realisation] = {}
            for name in NAMES:
                values = generator.standard_normal((length, len(FIELDS[name].components_in(num_dims)), *shape))
                arrays[realisation][name] = values.astype(dtype)
            for first in range(0, length, snapshots_per_shard):
                header = ShardHeader(
                    dataset_name="noise",
                    realisation=realisation,
                    num_snapshots=min(snapshots_per_shard, length - first),
                    snapshot_interval=0.1,
                    grid_shape=shape,
                    domain=domain,
                    layout=layout,
                    filter_kind="box",
                    filter_width=(0.25,) * num_dims,
                    parameters={"viscosity": 1e-3},
                    first_snapshot=first,
                )
                path = directory / shard_name(realisation, first)
                with ShardWriter(path, header, NAMES, dtype, compression) as shard:
                    for index in range(first, first + header.num_snapshots):
                        shard.append({name: values[index] for name, values in arrays[realisation].items()})
                records.append(catalogue_shard(path))
        Catalogue.from_shards(directory, records).write()
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
