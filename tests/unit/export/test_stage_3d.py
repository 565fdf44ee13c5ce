"""Export of a run in three dimensions: the grid form, the form of single cells, and both verified."""

import numpy as np
import pytest
import torch

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.layout import ShardHeader
from hpcsurrogate.data.shards import ShardWriter
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.export.stage import run_export, run_verify
from hpcsurrogate.models.build import build_model
from hpcsurrogate.models.cell_stress import force_of_cells, gradient_in_cells
from hpcsurrogate.physics.grid import Grid

GRID, DOMAIN = (12, 10, 8), (2.4, 2.5, 1.6)
SPACING = [0.2, 0.25, 0.2]


@pytest.fixture
def experiment() -> Experiment:
    return Experiment.model_validate(
        {
            "name": "box",
            "run_dir": "run",
            "flow": {"viscosity": 1e-3, "domain": DOMAIN},
            "host": {"kind": "spectral", "grid": GRID, "time_step": 0.01},
            "simulate": {"kind": "dns", "grid": (24, 20, 16), "duration": 1.0, "snapshot_interval": 0.1},
            "prepare": {"split": {"train": (0,), "validation": (1,), "test": (2,)}, "filter": {"kind": "gaussian"}},
            "train": {"engine": "none", "model": {"kind": "tensor_basis", "channels": 4}},
            "couple": {"duration": 1.0, "contenders": ({"name": "no closure", "closure": {"kind": "none"}},)},
        }
    )


@pytest.fixture
def paths(tmp_path, experiment) -> RunPaths:
    """With three realisations of smooth random flow."""
    paths = RunPaths(tmp_path / "run")
    for realisation in range(3):
        header = ShardHeader(
            dataset_name="box", realisation=realisation, num_snapshots=2, snapshot_interval=0.1, grid_shape=GRID,
            domain=DOMAIN, layout="collocated", filter_kind="gaussian", filter_width=tuple(SPACING),
        )  # fmt: skip
        with ShardWriter(paths.prepared / shard_name(realisation), header, ["velocity"]) as shard:
            for snapshot in range(2):
                shard.append({"velocity": smooth_velocity(10 * realisation + snapshot)})
    shards = [catalogue_shard(paths.prepared / shard_name(realisation)) for realisation in range(3)]
    Catalogue.from_shards(paths.prepared, shards).write()
    write_json_atomic(paths.evaluation, {"target": "commutator", "closures": []})
    return paths


def smooth_velocity(seed: int) -> np.ndarray:
    """A few waves with random phases, shape (3, nx, ny, nz) [m/s]."""
    generator = np.random.default_rng(seed)
    places = Grid(GRID, DOMAIN).coordinates((0,) * 3)
    angles = [2 * np.pi * x.numpy() / length for x, length in zip(places, DOMAIN, strict=True)]
    velocity = np.zeros((3, *GRID), np.float32)
    for component in velocity:
        for k in generator.integers(-2, 3, size=(6, 3)):
            component += np.sin(sum(k * angle for k, angle in zip(k, angles, strict=True)) + generator.uniform(0, 6))
    return velocity


def test_a_run_in_three_dimensions_is_exported_in_both_forms_and_verified(experiment, paths, monkeypatch):
    torch.manual_seed(0)
    network = build_model(experiment.train.model, experiment.host, experiment.flow, None).eval().requires_grad_(False)
    for stage in ("stage", "verify"):
        monkeypatch.setattr(f"hpcsurrogate.export.{stage}.load_weights", lambda experiment, paths: network)
    run_export(experiment, paths)
    grid, cells = load_artifact(paths.model), load_artifact(paths.pointwise)
    assert grid.metadata.inputs[0].axes == "bcxyz" and grid.metadata.halo == 3
    assert grid.metadata.host.grid_spacing == pytest.approx(SPACING)
    # The width is the side of the cube as large as the cell, and of the filter: the geometric mean.
    assert cells.metadata.filter.width == pytest.approx(0.01 ** (1 / 3))
    velocity = torch.from_numpy(smooth_velocity(99))[None]
    gradient = gradient_in_cells(velocity, SPACING, False)[0].flatten(1).T.contiguous()
    stress = cells(gradient, torch.full((len(gradient),), cells.metadata.filter.width))
    force = force_of_cells(stress.T.reshape(1, 6, *GRID), SPACING, False)
    # Two ways to the same sums in float32.
    torch.testing.assert_close(force, grid(velocity), rtol=0, atol=1e-5 * float(force.abs().max()))
    findings = run_verify(experiment, paths)
    assert findings == read_json(paths.verification) and findings["pointwise"]["kind"] == "pointwise"
    assert findings["golden_fallback"] < 0.05 and findings["eager_difference"] <= 1e-6
    assert max(findings["residuals"].values()) < 1e-5
