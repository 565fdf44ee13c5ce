"""prepare on fields made by hand: three dimensions, channels that must not be prepared, and the memory it takes."""

import numpy as np
import pytest
import torch

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import dump_experiment
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.prepare import run_prepare
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.data.shards import ShardHeader, ShardWriter
from hpcsurrogate.data.statistics import Statistics
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host

LENGTH = 2 * np.pi


def solenoidal(shape, seed):
    """A divergence-free field without a mean, of a few long waves: amplitudes across the wave vectors."""
    generator = np.random.default_rng(seed)
    points = np.meshgrid(*(np.arange(n) * LENGTH / n for n in shape), indexing="ij")
    velocity = np.zeros((len(shape), *shape))
    for _ in range(6):
        wave = generator.integers(1, 4, len(shape)) * generator.choice((-1, 1), len(shape))
        amplitude = generator.standard_normal(len(shape))
        amplitude -= wave * (amplitude @ wave) / (wave @ wave)
        phase = sum(k * x for k, x in zip(wave, points, strict=True)) + generator.uniform(0, LENGTH)
        velocity += amplitude.reshape(-1, *(1,) * len(shape)) * np.cos(phase)
    return velocity


def write_raw(directory, fields):
    """One realisation for each list of snapshots (component, nx, ny[, nz])."""
    records = []
    for realisation, snapshots in enumerate(fields):
        shape = snapshots[0].shape[1:]
        header = ShardHeader("made", realisation, len(snapshots), 0.1, shape, (LENGTH,) * len(shape),
                             filter_width=(0.0,) * len(shape))  # fmt: skip
        path = directory / shard_name(realisation, 0)
        with ShardWriter(path, header, ("velocity",)) as shard:
            for snapshot in snapshots:
                shard.append({"velocity": snapshot})
        records.append(catalogue_shard(path))
    Catalogue.from_shards(directory, records).write()


@pytest.fixture
def three_dimensional(make_experiment):
    """make(source) -> Experiment on 16 x 16 x 12 points of fine data and 8 x 8 x 6 of coarse."""

    def make(**sections):
        host = {"kind": "finite_volume", "grid": (8, 8, 6), "time_step": 0.05}
        return make_experiment(flow={"viscosity": 5e-3, "domain": (LENGTH,) * 3}, host=host, **sections)

    return make


def test_three_dimensional_data_get_all_fields(three_dimensional):
    experiment = three_dimensional()
    paths = RunPaths(experiment.run_dir)
    fields = [[solenoidal((16, 16, 12), 10 * realisation + index) for index in range(2)] for realisation in range(3)]
    write_raw(paths.raw, fields)
    run_prepare(experiment, paths, World())
    statistics = Statistics.read(paths.statistics)
    assert {name: len(of.rms) for name, of in statistics.fields.items()} == {
        "velocity": 3, "commutator": 3, "sgs_force": 3, "sgs_stress": 6
    }  # fmt: skip
    host = make_host(experiment.host, experiment.flow, dtype=torch.float64)
    fine_grid = Grid((16, 16, 12), experiment.flow.domain, dtype=torch.float64)
    graining = CoarseGraining(experiment.flow, fine_grid, host, experiment.prepare.filter)
    expected = graining.fields(torch.from_numpy(fields[1][1].astype(np.float32))[None])
    with Catalogue.read(paths.prepared).open(1) as prepared:
        assert sorted(prepared.field_names) == sorted(expected) == [
            "commutator", "sgs_force", "sgs_stress", "velocity"
        ]  # fmt: skip
        for name, values in expected.items():
            np.testing.assert_array_equal(prepared.snapshot(name, 1), values[0].to(torch.float32).numpy())


def test_a_users_three_dimensional_file_is_recorded_and_held_against_continuity(three_dimensional, tmp_path):
    good = [solenoidal((16, 16, 12), seed) for seed in range(3)]
    write_raw(tmp_path / "users", [good])
    source = {"kind": "well", "files": (str(tmp_path / "users" / shard_name(0, 0)),), "snapshots_per_shard": 2}
    experiment = three_dimensional(simulate=source)
    paths = RunPaths(experiment.run_dir)
    run_simulate(experiment, paths, World())
    with Catalogue.read(paths.raw).open(0) as recorded:
        np.testing.assert_array_equal(recorded.read("velocity"), np.array(good, dtype=np.float32))
    write_raw(tmp_path / "users", [[*good[:2], good[2][[1, 2, 0]]]])
    with pytest.raises(DataError, match="snapshot 2: divergence is .* of the vorticity, not 0"):
        run_simulate(experiment, paths, World())
    write_raw(tmp_path / "users", [[good[0], good[1] + np.array([0, 0, 1.0]).reshape(3, 1, 1, 1)]])
    with pytest.raises(DataError, match="snapshot 1: mean velocity is .*, 1 m/s"):
        run_simulate(experiment, paths, World())


@pytest.fixture
def prepare_made(make_experiment):
    """prepare_made(change) -> Experiment prepared from three realisations of three snapshots, after change(fields)."""

    def prepare(change):
        experiment = make_experiment(flow={"viscosity": 5e-3})
        fields = [[solenoidal((16, 16), 10 * realisation + index) for index in range(3)] for realisation in range(3)]
        change(fields)
        write_raw(RunPaths(experiment.run_dir).raw, fields)
        run_prepare(experiment, RunPaths(experiment.run_dir), World())

    return prepare


def test_not_a_number_is_named_with_its_place(prepare_made):
    def change(fields):
        fields[1][2][1, 5, 7] = np.nan

    expected = "realisation 1, snapshot 2: component y of velocity holds NaN or infinity; run simulate again"
    with pytest.raises(DataError, match=expected):
        prepare_made(change)


def test_what_float32_cannot_hold_is_named_with_its_place(prepare_made):
    def change(fields):
        fields[2][0] *= 1e21  # its square is 1e42, the largest number of float32 3e38

    expected = "realisation 2, snapshot 0: component x of commutator holds NaN or infinity; it is too large for float32"
    with pytest.raises(DataError, match=expected):
        prepare_made(change)


def test_a_constant_channel_of_the_train_split_is_named(prepare_made, tmp_path):
    def shear(fields):
        for index, snapshot in enumerate(fields[0]):
            snapshot[0] = (1 + index) * np.sin(np.arange(16) * LENGTH / 16)
            snapshot[1] = 0

    with pytest.raises(DataError, match="component y of velocity is .* everywhere in the train split"):
        prepare_made(shear)
    assert not (tmp_path / "run" / "prepared" / "catalogue.json").exists()


PEAK = """
    import re
    from pathlib import Path
    from hpcsurrogate.core.paths import RunPaths
    from hpcsurrogate.core.yaml_loader import load_experiment
    from hpcsurrogate.data.prepare import run_prepare
    from hpcsurrogate.parallel.world import World

    experiment = load_experiment({experiment!r})
    for folder in {folders!r}:
        run_prepare(experiment, RunPaths(folder), World())
        print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
"""


def test_memory_does_not_grow_with_the_data(make_experiment, tmp_path, fresh_python):
    """A block of 80 snapshots, then one of 240: 21 MB more of fine numbers and 23 MB more of coarse ones."""
    prepare = {"split": {"train": (0,), "validation": (1,), "test": (2,)}, "snapshots_per_shard": 1000}
    host = {"kind": "finite_volume", "grid": (64, 64), "time_step": 0.05}
    (tmp_path / "experiment.yaml").write_text(dump_experiment(make_experiment(prepare=prepare, host=host)))
    snapshot = solenoidal((128, 128), 0)
    folders = [str(tmp_path / "short"), str(tmp_path / "long")]
    for folder, length in zip(folders, (80, 240), strict=True):
        write_raw(RunPaths(folder).raw, [[snapshot] * length, [snapshot], [snapshot]])
    script = PEAK.replace("{experiment!r}", repr(str(tmp_path / "experiment.yaml"))).replace(
        "{folders!r}", repr(folders)
    )
    finished = fresh_python(script)
    assert finished.returncode == 0, finished.stderr
    short, long = map(int, finished.stdout.split())
    # In kB. What the allocator keeps back settles during the first block; nothing of the second's data may be added.
    assert long - short < 8_000, (short, long)
