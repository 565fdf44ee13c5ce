"""simulate and prepare on a flow of 32 x 32: what they write, what they keep, and what they refuse."""

import shutil

import h5py
import numpy as np
import pytest
import torch

from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import dump_experiment
from hpcsurrogate.data import coarse_shards, record
from hpcsurrogate.data.catalogue import Catalogue, shard_name
from hpcsurrogate.data.check import check_directory
from hpcsurrogate.data.prepare import run_prepare
from hpcsurrogate.data.readers import RealisationReader
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.data.statistics import Statistics
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.sources.dns import dns_snapshots

SPLIT = {"train": (0,), "validation": (1,), "test": (2,)}
GAUSSIAN = {"kind": "gaussian", "width_over_spacing": 2.0}


@pytest.fixture
def simulated(make_experiment):
    experiment = make_experiment()
    paths = RunPaths(experiment.run_dir)
    run_simulate(experiment, paths, World())
    return experiment, paths


def with_prepare(experiment, **values):
    section = experiment.prepare.model_validate({"split": SPLIT} | values)
    return experiment.model_copy(update={"prepare": section})


def arrays(directory):
    catalogue = Catalogue.read(directory)
    found = {}
    for realisation in catalogue.realisations:
        with catalogue.open(realisation, verify=True) as shard:
            found |= {(realisation, name): shard.read(name) for name in shard.field_names}
    return found


def assert_same_bytes(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert one[key].tobytes() == other[key].tobytes(), key


@pytest.fixture
def count_calls(monkeypatch):
    """count_calls(owner, name) -> list that grows by one tuple of arguments at each call."""

    def start(owner, name):
        calls, function = [], getattr(owner, name)

        def counted(*arguments, **options):
            calls.append(arguments)
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)
        return calls

    return start


# --- simulate ---------------------------------------------------------------------------------------------------


def test_simulate_records_what_the_source_yields(simulated):
    experiment, paths = simulated
    catalogue = Catalogue.read(paths.raw)
    assert catalogue.realisations == (0, 1, 2)
    with catalogue.open(1, verify=True) as shard:
        assert shard.field_names == ("velocity",) and shard.header.grid_shape == (32, 32)
        recorded = shard.read("velocity")
    for snapshot, velocity in zip(dns_snapshots(experiment.flow, experiment.simulate, 1, 0), recorded, strict=True):
        np.testing.assert_array_equal(velocity, snapshot.velocity)


def test_a_realisation_lies_in_shards_of_equal_length(simulated, monkeypatch, tmp_path):
    experiment, paths = simulated
    monkeypatch.setattr("hpcsurrogate.data.record.DNS_SNAPSHOTS_PER_SHARD", 2)
    again = RunPaths(tmp_path / "again")
    run_simulate(experiment, again, World())
    shards = Catalogue.read(again.raw).entry(0).shards
    assert [(shard.file, shard.num_snapshots) for shard in shards] == [
        (shard_name(0, 0), 2), (shard_name(0, 2), 2), (shard_name(0, 4), 1)
    ]  # fmt: skip
    assert_same_bytes(arrays(again.raw), arrays(paths.raw))


def test_a_second_simulate_leaves_nothing_of_the_first(simulated):
    experiment, paths = simulated
    other = experiment.simulate.model_copy(update={"realisations": 1, "spin_up": 0.1})
    run_simulate(experiment.model_copy(update={"simulate": other}), paths, World())
    assert sorted(path.name for path in paths.raw.iterdir()) == [".progress", "catalogue.json", shard_name(0, 0)]


def test_more_realisations_are_added_to_those_there_are(simulated, count_calls):
    experiment, paths = simulated
    before = arrays(paths.raw)
    more = experiment.simulate.model_copy(update={"realisations": 4})
    calls = count_calls(record, "dns_snapshots")
    run_simulate(experiment.model_copy(update={"simulate": more}), paths, World())
    assert [realisation for _, _, realisation, *_ in calls] == [3]
    after = arrays(paths.raw)
    assert_same_bytes(before, {key: after[key] for key in before})
    assert Catalogue.read(paths.raw).realisations == (0, 1, 2, 3)


def test_more_ranks_than_realisations_are_refused(make_experiment, tmp_path):
    with pytest.raises(ConfigError, match="too many ranks for the shards: 4 ranks, 3 realisations"):
        run_simulate(make_experiment(), RunPaths(tmp_path / "run"), World(rank=0, size=4))
    assert not (tmp_path / "run").exists()


def test_users_files_become_realisations_one_a_trajectory(simulated, make_experiment, tmp_path):
    """The shards of a DNS are files of The Well: recorded again through the well source they are the same."""
    experiment, paths = simulated
    files = tuple(str(paths.raw / shard_name(number, 0)) for number in (2, 0))
    again = make_experiment(simulate={"kind": "well", "files": files, "snapshots_per_shard": 3})
    copied = RunPaths(tmp_path / "copied")
    run_simulate(again, copied, World())
    with Catalogue.read(paths.raw).open(2) as original, Catalogue.read(copied.raw).open(0) as copy:
        np.testing.assert_array_equal(copy.read("velocity"), original.read("velocity"))
        assert copy.header.snapshot_interval == original.header.snapshot_interval == 0.1
    assert [shard.num_snapshots for shard in Catalogue.read(copied.raw).entry(1).shards] == [3, 2]


def test_a_users_file_that_changed_is_recorded_again_and_no_other(simulated, make_experiment, tmp_path, count_calls):
    _, paths = simulated
    files = tuple(str(paths.raw / shard_name(number, 0)) for number in (0, 1))
    again = make_experiment(simulate={"kind": "well", "files": files, "snapshots_per_shard": 3})
    copied = RunPaths(tmp_path / "copied")
    run_simulate(again, copied, World())
    with h5py.File(files[1], "a") as file:
        file["t1_fields/velocity"][:] *= 2
    calls = count_calls(record, "well_snapshots")
    run_simulate(again, copied, World())
    assert [(path, start, stop) for path, _, _, start, stop in calls] == [(files[1], 0, 3), (files[1], 3, 5)]


def test_users_files_must_fit_the_flow(simulated, make_experiment, tmp_path):
    _, paths = simulated
    source = {"kind": "well", "files": (str(paths.raw / shard_name(0, 0)),)}
    other = make_experiment(simulate=source, flow={"viscosity": 1e-3, "domain": (1.0, 6.283185307179586)})
    with pytest.raises(DataError, match="domain x is 6.28.* flow.domain says 1;"):
        run_simulate(other, RunPaths(tmp_path / "copied"), World())
    other = make_experiment(simulate=source, flow={"viscosity": 1e-3, "domain": (1.0, 1.0, 1.0)})
    with pytest.raises(DataError, match="the data have 2 dimensions, flow.domain has 3; correct flow.domain"):
        run_simulate(other, RunPaths(tmp_path / "copied"), World())
    with h5py.File(paths.raw / shard_name(0, 0), "a") as file:
        file["dimensions/y"][:] += 0.1
    with pytest.raises(DataError, match="first point along y lies at 0.1 m, not at 0"):
        run_simulate(make_experiment(simulate=source), RunPaths(tmp_path / "copied"), World())


# --- prepare ----------------------------------------------------------------------------------------------------


def test_prepare_writes_the_coarse_graining_of_every_realisation(simulated):
    experiment, paths = simulated
    run_prepare(experiment, paths, World())
    assert check_directory(experiment.run_dir, deep=True) == []
    host = make_host(experiment.host, experiment.flow, dtype=torch.float64)
    fine_grid = Grid((32, 32), experiment.flow.domain, dtype=torch.float64)
    graining = CoarseGraining(experiment.flow, fine_grid, host, experiment.prepare.filter)
    with Catalogue.read(paths.raw).open(2) as raw, Catalogue.read(paths.prepared).open(2) as prepared:
        fine = torch.from_numpy(raw.read("velocity")).double()
        assert prepared.header.layout == "staggered" and prepared.header.filter_kind == "face_average"
        assert prepared.header.filter_width == tuple(host.grid.spacing)
        assert sorted(prepared.field_names) == ["commutator", "sgs_force", "sgs_stress", "velocity"]
        for name in prepared.field_names:
            # Calculated in float64, one snapshot or all at once, and rounded to float32.
            expected = getattr(graining, name)(fine).numpy()
            np.testing.assert_allclose(prepared.read(name), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_statistics_are_those_of_the_train_split_alone(simulated):
    experiment, paths = simulated
    run_prepare(experiment, paths, World())
    statistics = Statistics.read(paths.statistics)
    with Catalogue.read(paths.prepared).open(0) as shard:
        commutator = shard.read("commutator").astype(np.float64)
    assert statistics.num_snapshots == len(commutator)
    # Sums of 640 numbers in float64.
    assert statistics.commutator_rms == pytest.approx(np.sqrt(np.mean(commutator**2)), rel=1e-13)


def test_blocks_of_any_length_hold_the_same_snapshots(simulated, count_calls):
    experiment, paths = simulated
    run_prepare(experiment, paths, World())
    whole = arrays(paths.prepared)
    hashed = count_calls(coarse_shards, "verify_shard")
    run_prepare(with_prepare(experiment, snapshots_per_shard=2), paths, World())
    assert [shard.num_snapshots for shard in Catalogue.read(paths.prepared).entry(2).shards] == [2, 2, 1]
    assert_same_bytes(arrays(paths.prepared), whole)
    # A fine shard that several blocks read is hashed once.
    assert [path.name for path, _ in hashed] == [shard_name(number, 0) for number in range(3)]


def test_several_filters_in_one_pass_are_those_of_a_pass_each(simulated, count_calls):
    experiment, paths = simulated
    alone = {}
    for name, config in (("prepared", {"kind": "face_average"}), ("prepared/filter-1", GAUSSIAN)):
        run_prepare(with_prepare(experiment, filter=config), paths, World())
        alone[name] = arrays(paths.prepared), Statistics.read(paths.statistics)
    read = count_calls(RealisationReader, "snapshot")
    run_prepare(with_prepare(experiment, more_filters=(GAUSSIAN,)), paths, World())
    assert len(read) == 3 * 5  # every fine snapshot once
    for name, (fields, statistics) in alone.items():
        assert_same_bytes(arrays(paths.run_dir / name), fields)
        assert Statistics.read(paths.run_dir / name / "statistics.json") == statistics
    assert check_directory(experiment.run_dir, deep=True) == []
    # A filter that is no longer asked for leaves nothing.
    run_prepare(experiment, paths, World())
    assert not (paths.prepared / "filter-1").exists()


def test_a_filter_that_is_added_leaves_the_others_as_they_are(simulated):
    experiment, paths = simulated
    run_prepare(experiment, paths, World())
    before = (paths.prepared / shard_name(0, 0)).stat().st_mtime_ns
    run_prepare(with_prepare(experiment, more_filters=(GAUSSIAN,)), paths, World())
    assert (paths.prepared / shard_name(0, 0)).stat().st_mtime_ns == before
    assert len(arrays(paths.prepared / "filter-1")) == 3 * 4


def test_a_lost_shard_is_made_again_and_no_other(simulated, count_calls):
    experiment, paths = simulated
    blocks_of_two = with_prepare(experiment, snapshots_per_shard=2)
    run_prepare(blocks_of_two, paths, World())
    fields, statistics = arrays(paths.prepared), paths.statistics.read_bytes()
    (paths.prepared / shard_name(1, 2)).unlink()
    written = count_calls(coarse_shards.CoarseShards, "write")
    run_prepare(blocks_of_two, paths, World())
    assert [unit.name for _, unit, _ in written] == [shard_name(1, 2)]
    assert_same_bytes(arrays(paths.prepared), fields)
    assert paths.statistics.read_bytes() == statistics


KILLED = """
    import os, signal, sys
    from hpcsurrogate.core.yaml_loader import load_experiment
    from hpcsurrogate.core.paths import RunPaths
    from hpcsurrogate.data.prepare import run_prepare
    from hpcsurrogate.data.shards import ShardWriter
    from hpcsurrogate.parallel.world import World

    appended, append = [], ShardWriter.append

    def append_or_die(self, values):
        append(self, values)
        appended.append(self.path)
        if len(appended) == 10:  # within the sixth block: 2 + 2 + 1 + 2 + 2 snapshots are done
            os.kill(os.getpid(), signal.SIGKILL)

    ShardWriter.append = append_or_die
    experiment = load_experiment({path!r})
    run_prepare(experiment, RunPaths(experiment.run_dir), World())
"""


def test_a_killed_prepare_goes_on_where_it_stopped(simulated, tmp_path, fresh_python, count_calls):
    experiment, paths = simulated
    experiment = with_prepare(experiment, snapshots_per_shard=2)
    run_prepare(experiment, paths, World())
    fields, statistics = arrays(paths.prepared), paths.statistics.read_bytes()
    shutil.rmtree(paths.prepared)

    (tmp_path / "experiment.yaml").write_text(dump_experiment(experiment))
    killed = fresh_python(KILLED.replace("{path!r}", repr(str(tmp_path / "experiment.yaml"))))
    assert killed.returncode == -9, killed.stderr
    assert len(list(paths.prepared.glob("realisation-*.hdf5"))) == 5
    assert (paths.prepared / f".partial-{shard_name(1, 4)}").exists()
    assert not (paths.prepared / "catalogue.json").exists()

    written = count_calls(coarse_shards.CoarseShards, "write")
    run_prepare(experiment, paths, World())
    assert [unit.name for _, unit, _ in written] == [shard_name(1, 4), *(shard_name(2, first) for first in (0, 2, 4))]
    assert_same_bytes(arrays(paths.prepared), fields)
    assert paths.statistics.read_bytes() == statistics
    assert not list(paths.prepared.glob(".partial-*"))


def test_a_split_that_names_an_unrecorded_realisation_is_refused(simulated):
    experiment, paths = simulated
    split = experiment.prepare.split.model_copy(update={"test": (2, 8)})
    prepare = experiment.prepare.model_copy(update={"split": split})
    with pytest.raises(ConfigError, match=r"prepare.split.test: realisations \[8\] were not recorded"):
        run_prepare(experiment.model_copy(update={"prepare": prepare}), paths, World())


def test_a_changed_raw_shard_is_refused_and_no_catalogue_is_left(simulated):
    experiment, paths = simulated
    run_prepare(experiment, paths, World())
    path = paths.raw / shard_name(1, 0)
    with h5py.File(path, "a") as file:
        file["t1_fields/velocity"][0, 0, 0, 0, 0] += 1
    coarser = with_prepare(experiment, snapshots_per_shard=3)
    with pytest.raises(DataError, match=shard_name(1, 0)):
        run_prepare(coarser, paths, World())
    assert not (paths.prepared / "catalogue.json").exists() and not paths.statistics.exists()
