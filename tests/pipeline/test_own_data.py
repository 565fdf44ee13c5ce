"""A user's own data: a file in the layout of The Well, written with plain h5py, and what `kind: well` makes of it."""

import h5py
import numpy as np
import pytest

from hpcsurrogate.data.catalogue import Catalogue, shard_name
from hpcsurrogate.data.statistics import Statistics

NUM_TRAJECTORIES, NUM_SNAPSHOTS, POINTS, CELLS, INTERVAL = 3, 9, 48, 16, 0.1

EXPERIMENT = """\
name: own-data
run_dir: {run_dir}
flow: {{viscosity: 1e-2}}
host: {{kind: finite_volume, grid: [16, 16], time_step: 0.05}}
simulate: {{kind: well, files: [data/eddies.hdf5], velocity: wind}}
prepare: {{split: {{train: [0], validation: [1], test: [2]}}}}
train:
  engine: none
  model: {{kind: quadratic_stencil, channels: 2}}
  apriori: {{epochs: 2, batch_size: 3}}
  unrolled: {{iterations: 2, batch_size: 2, snapshots: [1]}}
couple: {{duration: 0.4, contenders: [{{name: learned, closure: {{kind: learned}}}}]}}
"""


def velocity_at(x, y, time, trajectory):
    """A divergence-free field of a few waves: u = d psi / dy, v = - d psi / dx; shapes of x and y broadcast."""
    u, v = 0.0, 0.0
    for wave, (kx, ky) in enumerate([(1, 2), (3, 1), (2, -4), (7, 5)]):
        slope = np.cos(kx * x + ky * y + wave + trajectory + (1 + wave) * time) / np.hypot(kx, ky)
        u, v = u + ky * slope, v - kx * slope
    return u, v


@pytest.fixture
def well_file(tmp_path):
    """What another program would write, with nothing of this package."""
    path = tmp_path / "data" / "eddies.hdf5"
    path.parent.mkdir()
    axis = np.arange(POINTS) * 2 * np.pi / POINTS
    times = np.arange(NUM_SNAPSHOTS) * INTERVAL
    wind = np.empty((NUM_TRAJECTORIES, NUM_SNAPSHOTS, POINTS, POINTS, 2), dtype=np.float32)
    for trajectory in range(NUM_TRAJECTORIES):
        for index, time in enumerate(times):
            wind[trajectory, index] = np.stack(velocity_at(axis[:, None], axis[None, :], time, trajectory), axis=-1)
    with h5py.File(path, "w") as file:
        file.attrs["dataset_name"] = "eddies"
        file.attrs["grid_type"] = "cartesian"
        file.attrs["n_spatial_dims"] = 2
        file.attrs["n_trajectories"] = NUM_TRAJECTORIES
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y"]
        for name, values in {"time": times, "x": axis, "y": axis}.items():
            dimensions[name] = values.astype(np.float32)
            dimensions[name].attrs["sample_varying"] = False
        for name in "xy":
            boundary = file.create_group(f"boundary_conditions/{name}_periodic")
            boundary.attrs["bc_type"] = "PERIODIC"
            boundary.attrs["associated_dims"] = [name]
        file["t1_fields/wind"] = wind
        file["t1_fields/wind"].attrs.update({"sample_varying": True, "time_varying": True, "dim_varying": [True, True]})
    return path


@pytest.fixture
def experiment_file(tmp_path, well_file):
    path = tmp_path / "own-data.yaml"
    path.write_text(EXPERIMENT.format(run_dir=tmp_path / "run"))
    return path


def test_from_a_users_file_to_a_trained_network(command, experiment_file, tmp_path):
    # Started elsewhere: files of the source count from the experiment file.
    (tmp_path / "elsewhere").mkdir()
    finished = command("run", experiment_file, "--until", "train", folder=tmp_path / "elsewhere")
    assert finished.exit_code == 0, finished.stderr
    assert [line.split()[0] for line in finished.stdout.splitlines()] == ["simulate", "prepare", "train"]
    assert (tmp_path / "run" / "weights.safetensors").stat().st_size > 0
    assert Statistics.read(tmp_path / "run" / "prepared" / "statistics.json").num_snapshots == NUM_SNAPSHOTS

    # The prepared velocity is the mean over the faces of the coarse cells: here by the midpoint rule on the formula,
    # whose error with 400 points a face is (k h / 400)^2 / 24 = 2e-6 for the shortest wave; the rest is float32.
    h = 2 * np.pi / CELLS
    face = (np.arange(CELLS) + 1) * h
    along = (np.arange(CELLS)[:, None] + (np.arange(400) + 0.5) / 400) * h
    with Catalogue.read(tmp_path / "run" / "prepared").open(1) as shard:
        prepared = shard.snapshot("velocity", 4)
    u, _ = velocity_at(face[:, None, None], along[None], 4 * INTERVAL, 1)
    _, v = velocity_at(along[:, None], face[None, :, None], 4 * INTERVAL, 1)
    np.testing.assert_allclose(prepared, np.stack((u.mean(-1), v.mean(-1))), atol=1e-5)

    # A changed file of the user is noticed.
    with h5py.File(tmp_path / "data" / "eddies.hdf5", "a") as file:
        file["t1_fields/wind"][0, 0] *= 2
    finished = command("run", experiment_file, "--dry-run")
    assert finished.stdout.startswith("simulate   would run: experiment or input changed")


def test_not_a_number_in_a_users_file(command, experiment_file, well_file, tmp_path):
    with h5py.File(well_file, "a") as file:
        file["t1_fields/wind"][1, 3, 5, 7, 0] = np.nan
    finished = command("run", experiment_file)
    assert finished.exit_code == 3
    what, which_stage = finished.errors
    assert what.startswith(f"hpcsurrogate: error: {well_file}: ")
    assert "trajectory 1, snapshot 3 holds NaN or infinity" in what
    assert "stage simulate ended with exit code 3" in which_stage
    # Trajectory 0 was good and may stay; without a catalogue nothing is taken for complete.
    assert sorted(path.name for path in (tmp_path / "run" / "raw").iterdir()) == [".progress", shard_name(0, 0)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda wind: wind + np.float32(1.0), "mean velocity is 1, 1 m/s"),
        (lambda wind: wind[..., ::-1], "are axes or components exchanged?"),
        (lambda wind: np.swapaxes(wind, 2, 3), "are axes or components exchanged?"),
    ],
)
def test_a_flow_whose_targets_would_be_wrong(command, experiment_file, well_file, tmp_path, change, expected):
    with h5py.File(well_file, "a") as file:
        file["t1_fields/wind"][2] = change(file["t1_fields/wind"][()])[2]
    finished = command("simulate", experiment_file)
    assert finished.exit_code == 3 and len(finished.errors) == 1
    assert f"{well_file}: wind, trajectory 2, snapshot 0: " in finished.errors[0] and expected in finished.errors[0]
    assert not (tmp_path / "run" / "raw" / "catalogue.json").exists()
