"""A run folder with what export reads: prepared shards, evaluate.json, a small closure in place of a network."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.layout import ShardHeader
from hpcsurrogate.data.shards import ShardWriter

NX = 16
NUM_SNAPSHOTS = 3


class EddyViscosity(nn.Module):
    """Sum over directions of differences of (C h)^2 |du| du, on each component alone: nonlinear, with two weights."""

    reach = 1

    def __init__(self, constant: float = 0.2):
        super().__init__()
        self.constant = nn.Parameter(torch.tensor(constant))
        self.viscosity = nn.Parameter(torch.tensor(0.01))

    def forward(self, velocity: Tensor) -> Tensor:
        step_x = velocity.roll(-1, -2) - velocity
        step_y = velocity.roll(-1, -1) - velocity
        flux_x = step_x * (self.viscosity + self.constant**2 * step_x.abs())
        flux_y = step_y * (self.viscosity + self.constant**2 * step_y.abs())
        return flux_x - flux_x.roll(1, -2) + flux_y - flux_y.roll(1, -1)


@pytest.fixture
def experiment() -> Experiment:
    return Experiment.model_validate(
        {
            "name": "synthetic",
            "run_dir": "run",
            "flow": {"viscosity": 1e-3},
            "host": {"kind": "finite_volume", "grid": (NX, NX), "time_step": 0.01},
            "simulate": {"kind": "dns", "grid": (64, 64), "duration": 1.0, "snapshot_interval": 0.1},
            "prepare": {"split": {"train": (0, 1), "validation": (2,), "test": (3,)}},
            "train": {"engine": "none", "model": {"kind": "quadratic_stencil"}},
            "couple": {"duration": 1.0, "contenders": ({"name": "no closure", "closure": {"kind": "none"}},)},
        }
    )


def prepared_velocity(realisation: int) -> np.ndarray:
    """Random velocity, shape (NUM_SNAPSHOTS, 2, NX, NX) [m/s]."""
    return np.random.default_rng(realisation).standard_normal((NUM_SNAPSHOTS, 2, NX, NX)).astype(np.float32)


@pytest.fixture
def write_prepared(experiment):
    """`write_prepared(paths, realisation, velocity)` writes a shard and the catalogue of all that lie there."""

    def write(paths: RunPaths, realisation: int, velocity: np.ndarray) -> None:
        header = ShardHeader(
            dataset_name="synthetic", realisation=realisation, num_snapshots=len(velocity), snapshot_interval=0.1,
            grid_shape=(NX, NX), domain=experiment.flow.domain, layout="staggered", filter_kind="face_average",
            filter_width=(experiment.flow.domain[0] / NX,) * 2,
        )  # fmt: skip
        with ShardWriter(paths.prepared / shard_name(realisation), header, ["velocity"]) as shard:
            for snapshot in velocity:
                shard.append({"velocity": snapshot})
        present = [path for path in map(paths.prepared.joinpath, map(shard_name, range(4))) if path.exists()]
        Catalogue.from_shards(paths.prepared, [catalogue_shard(path) for path in present]).write()

    return write


@pytest.fixture
def paths(tmp_path, write_prepared) -> RunPaths:
    paths = RunPaths(tmp_path / "run")
    for realisation in range(4):
        write_prepared(paths, realisation, prepared_velocity(realisation))
    learned = {"name": "learned", "correlation_force": 0.8, "relative_error_force": 0.6}
    write_json_atomic(paths.evaluation, {"target": "commutator", "closures": [learned]})
    return paths


@pytest.fixture
def trained(monkeypatch) -> EddyViscosity:
    """The closure that both stages find in place of the network rebuilt from weights.safetensors."""
    module = EddyViscosity()
    for stage in ("stage", "verify"):
        monkeypatch.setattr(f"hpcsurrogate.export.{stage}.load_weights", lambda experiment, paths: module)
    return module
