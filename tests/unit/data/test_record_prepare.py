"""simulate and prepare on a flow of 32 x 32: what they write, and what they refuse."""

import h5py
import numpy as np
import pytest
import torch

from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.catalogue import Catalogue, shard_name
from hpcsurrogate.data.check import check_directory
from hpcsurrogate.data.prepare import FIELD_NAMES, run_prepare
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.data.statistics import Statistics
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.sources.dns import dns_snapshots


@pytest.fixture
def simulated(make_experiment):
    experiment = make_experiment()
    paths = RunPaths(experiment.run_dir)
    run_simulate(experiment, paths, World())
    return experiment, paths


def test_simulate_records_what_the_source_yields(simulated):
    experiment, paths = simulated
    catalogue = Catalogue.read(paths.raw)
    assert catalogue.realisations == (0, 1, 2)
    with catalogue.open(1, verify=True) as shard:
        assert shard.field_names == ("velocity",) and shard.header.grid_shape == (32, 32)
        recorded = shard.read("velocity")
    for snapshot, velocity in zip(dns_snapshots(experiment.flow, experiment.simulate, 1, 0), recorded, strict=True):
        np.testing.assert_array_equal(velocity, snapshot.velocity)


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
        for name in FIELD_NAMES:
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


def test_a_second_simulate_leaves_nothing_of_the_first(simulated, make_experiment):
    experiment, paths = simulated
    fewer = experiment.simulate.model_copy(update={"realisations": 1})
    run_simulate(experiment.model_copy(update={"simulate": fewer}), paths, World())
    assert sorted(path.name for path in paths.raw.iterdir()) == ["catalogue.json", shard_name(0)]


def test_more_ranks_than_realisations_are_refused(make_experiment, tmp_path):
    with pytest.raises(ConfigError, match="too many ranks for the shards: 4 ranks, 3 realisations"):
        run_simulate(make_experiment(), RunPaths(tmp_path / "run"), World(rank=0, size=4))
    assert not (tmp_path / "run").exists()


def test_a_split_that_names_an_unrecorded_realisation_is_refused(simulated):
    experiment, paths = simulated
    split = experiment.prepare.split.model_copy(update={"test": (2, 8)})
    prepare = experiment.prepare.model_copy(update={"split": split})
    with pytest.raises(ConfigError, match=r"prepare.split.test: realisations \[8\] were not recorded"):
        run_prepare(experiment.model_copy(update={"prepare": prepare}), paths, World())


def test_a_changed_raw_shard_is_refused_and_no_catalogue_is_left(simulated):
    experiment, paths = simulated
    run_prepare(experiment, paths, World())
    path = paths.raw / shard_name(1)
    with h5py.File(path, "a") as file:
        file["t1_fields/velocity"][0, 0, 0, 0, 0] += 1
    with pytest.raises(DataError, match=shard_name(1)):
        run_prepare(experiment, paths, World())
    assert not (paths.prepared / "catalogue.json").exists() and not paths.statistics.exists()


def test_users_files_become_realisations_one_a_trajectory(simulated, make_experiment, tmp_path):
    """The shards of a DNS are files of The Well: recorded again through the well source they are the same."""
    experiment, paths = simulated
    files = tuple(str(paths.raw / shard_name(number)) for number in (2, 0))
    source = {"kind": "well", "files": files}
    again = make_experiment(simulate=source)
    copied = RunPaths(tmp_path / "copied")
    run_simulate(again, copied, World())
    with Catalogue.read(paths.raw).open(2) as original, Catalogue.read(copied.raw).open(0) as copy:
        np.testing.assert_array_equal(copy.read("velocity"), original.read("velocity"))
        assert copy.header.snapshot_interval == original.header.snapshot_interval == 0.1


def test_users_files_must_fit_the_flow(simulated, make_experiment, tmp_path):
    _, paths = simulated
    source = {"kind": "well", "files": (str(paths.raw / shard_name(0)),)}
    other = make_experiment(simulate=source, flow={"viscosity": 1e-3, "domain": (1.0, 6.283185307179586)})
    with pytest.raises(DataError, match="domain x is 6.28.* flow.domain says 1;"):
        run_simulate(other, RunPaths(tmp_path / "copied"), World())
    with h5py.File(paths.raw / shard_name(0), "a") as file:
        file["dimensions/y"][:] += 0.1
    with pytest.raises(DataError, match="first point along y lies at 0.1 m, not at 0"):
        run_simulate(make_experiment(simulate=source), RunPaths(tmp_path / "copied"), World())
