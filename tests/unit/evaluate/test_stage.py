"""The stage on a tiny prepared data set: filtered random turbulence, written by the data room's own writers."""

import json

import pytest
import torch

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.layout import ShardHeader
from hpcsurrogate.data.shards import ShardWriter
from hpcsurrogate.evaluate import stage
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.closures import make_classical
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.physics.spectral import SpectralSolver

NUM_SNAPSHOTS = 3
SECTIONS = {
    "name": "tiny",
    "run_dir": "run",
    "flow": {"viscosity": 1e-3},
    "host": {"kind": "finite_volume", "grid": [16, 16], "time_step": 0.01},
    "simulate": {"kind": "dns", "grid": [48, 48], "duration": 1.0, "snapshot_interval": 0.5},
    "prepare": {"split": {"train": [0], "validation": [1], "test": [2, 3]}},
    "train": {"model": {"kind": "quadratic_stencil"}},
    "couple": {"duration": 1.0, "contenders": [{"name": "none", "closure": {"kind": "none"}}]},
}


@pytest.fixture
def experiment():
    return Experiment.model_validate_json(json.dumps(SECTIONS))


@pytest.fixture
def paths(tmp_path, experiment):
    """A run directory with prepared shards."""
    paths = RunPaths(tmp_path)
    fine = Grid(experiment.simulate.grid, experiment.flow.domain)
    solver = SpectralSolver(fine, experiment.flow)
    host = make_host(experiment.host, experiment.flow, torch.float64)
    coarse = CoarseGraining(experiment.flow, fine, host, experiment.prepare.filter)
    generator = torch.Generator().manual_seed(0)
    records = []
    for realisation in range(4):
        header = ShardHeader("tiny", realisation, NUM_SNAPSHOTS, 0.5, host.grid.shape, host.grid.lengths, host.layout)
        path = paths.prepared / shard_name(realisation)
        with ShardWriter(path, header, ("velocity", "commutator", "sgs_force", "sgs_stress")) as shard:
            for _ in range(NUM_SNAPSHOTS):
                u = solver.velocity(solver.random_vorticity_hat(3, 1.0, generator))[None]
                fields = {name: getattr(coarse, name)(u)[0].numpy() for name in shard.fields}
                shard.append(fields)
        records.append(catalogue_shard(path))
    Catalogue.from_shards(paths.prepared, records).write()
    return paths


def learn_gradient_model(experiment, paths):
    """A `load_weights` whose trained network happens to be the gradient model: its scores are then known."""
    closure = make_classical(stage.BASELINES[2]["gradient 2"], make_host(experiment.host, experiment.flow))
    return lambda velocity: closure(velocity)


def test_evaluate_writes_the_scores_of_all_closures(experiment, paths, monkeypatch):
    monkeypatch.setattr(stage, "load_weights", learn_gradient_model)
    stage.run_evaluate(experiment, paths, World())
    content = json.loads(paths.evaluation.read_text())
    assert content["target"] == "commutator"
    assert content["num_snapshots"] == 2 * NUM_SNAPSHOTS
    assert 0 < content["dns_backscatter_fraction"] < 1 and 0 < content["dns_stress_backscatter_fraction"] < 1
    floor = content["one_point_floor"]
    assert str(floor["bins_per_invariant"]) in floor["validation_errors"] and 0 < floor["relative_error_stress"] < 1
    scores = {entry["name"]: entry for entry in content["closures"]}
    assert set(scores) == {"learned", *stage.BASELINES[2]}
    forces = [name for name in scores["learned"] if "stress" not in name and name != "name"]
    assert [scores["learned"][name] for name in forces] == [scores["gradient 2"][name] for name in forces]
    assert scores["learned"]["correlation_stress"] is None
    assert scores["none"]["relative_error_force"] == 1 and scores["none"]["correlation_force"] is None
    # The box filter's stress of a smooth field is the gradient model's, but for terms of relative order (k Delta)^2.
    assert scores["gradient 2"]["correlation_stress"] > 0.85
    assert scores["gradient 2"]["correlation_sgs_force"] > 0.8
    # Random phases have no cascade: an eddy viscosity has little to tell about them, and its best fit does not harm.
    assert scores["smagorinsky"]["constant"] >= 0
    assert scores["gradient 4"]["constant"] is None


def test_other_ranks_only_wait(experiment, paths, monkeypatch):
    monkeypatch.setattr(stage, "load_weights", learn_gradient_model)
    stage.run_evaluate(experiment, paths, World(rank=1, size=2))
    assert not paths.evaluation.exists()


def test_data_prepared_for_another_host_are_refused(experiment, paths, monkeypatch):
    monkeypatch.setattr(stage, "load_weights", learn_gradient_model)
    host = experiment.host.model_copy(update={"grid": (8, 8)})
    with pytest.raises(DataError, match="realisation-0000: staggered on .16, 16., the host is .* on .8, 8."):
        stage.run_evaluate(experiment.model_copy(update={"host": host}), paths, World())
    assert not paths.evaluation.exists()
