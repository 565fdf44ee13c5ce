"""A law from slices of channels of LAMMPS: one file, two ranks; homogeneous runs of its states have its viscosity."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hpcsurrogate.core.atomic import read_json
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_fluid_experiment
from hpcsurrogate.data.ingest_lammps import run_ingest
from hpcsurrogate.data.material import about_material, read_material
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.parallel.world import World
from hpcsurrogate.pipeline.sweep import run_sweep
from tests.lammps_program import require_lammps
from tests.pipeline.conftest import run_command

DECKS = Path(__file__).resolve().parents[2] / "configs" / "lammps"
CHANNELS = """\
name: slices
run_dir: {folder}/channels
ranks: 2
simulate:
  kind: lammps
  script: {decks}/channel.lmp
  grid: {{speed: [1.6], T: [0.9, 1.1]}}
  variables: {{rho: 0.82, cells: 3, height: 9, melting: 500, start: 5000, steps: 12000, frame: 200, width: 1.47}}
ingest: {{kind: chunks, wall_layer: 3.0, discard: 0.0, blocks: 6}}
train: {{model: {{kind: viscous_law, channels: 8}}, members: 2, epochs: 300}}
"""
SHEAR = """\
name: shear
run_dir: {folder}/shear
simulate:
  kind: lammps
  script: {decks}/shear.lmp
  grid: {{rate: [{rate}], rho: [{density}], T: [{temperature}]}}
  variables: {{steps: 20000, melting: 1000, start: 2000}}
train: {{model: {{kind: viscous_law}}}}
"""
SHEAR_STRESS, SHEAR_RATE = 1, 1  # places of xy in a stress of 6 and a gradient of 9


@pytest.fixture(scope="module")
def channels(tmp_path_factory):
    require_lammps()
    folder = tmp_path_factory.mktemp("slices")
    file = folder / "channels.yaml"
    file.write_text(CHANNELS.format(folder=folder, decks=DECKS))
    done = run_command("run", file, timeout=180.0)
    assert done.exit_code == 0, done.stderr
    return RunPaths(folder / "channels")


def test_every_run_gives_slices_of_one_state(channels):
    samples, runs = read_material(channels.material), about_material(channels.material).runs
    assert len(set(runs)) == 2 < len(runs) == len(samples.density)
    assert all(len({runs[row] for row in np.flatnonzero(samples.state == state)}) == 1 for state in range(2))
    assert read_json(channels.fit)["training"]["runs"] == len(runs) and channels.report.exists()


def test_the_viscosity_is_that_of_homogeneous_runs(channels, tmp_path):
    """At the density, temperature and rate of the hotter channel."""
    samples = read_material(channels.material)
    rows = samples.state == samples.state[samples.temperature.argmax()]
    rates = samples.velocity_gradient[rows, SHEAR_RATE]
    state = {
        "rate": rates.mean(), "density": samples.density[rows].mean(), "temperature": samples.temperature[rows].mean()
    }  # fmt: skip
    file = tmp_path / "shear.yaml"
    file.write_text(SHEAR.format(folder=tmp_path, decks=DECKS, **state))
    experiment = load_fluid_experiment(file)
    paths = RunPaths(experiment.run_dir)
    run_sweep(experiment, paths, World())
    found = run_ingest(experiment, paths, World())
    homogeneous, its_error = (
        float(values[0, SHEAR_STRESS]) / state["rate"] for values in (found.stress, found.stress_error)
    )
    viscosities = samples.stress[rows, SHEAR_STRESS] / rates
    # Momentum is handed on from slice to slice, so that their errors are taken for one.
    error = np.hypot(its_error, (samples.stress_error[rows, SHEAR_STRESS] / rates).mean())
    assert error < 0.12 * homogeneous
    assert abs(viscosities.mean() - homogeneous) < 3 * error, (viscosities, homogeneous, error)
    gradient = torch.zeros(1, 9, dtype=torch.float64)
    gradient[0, SHEAR_RATE] = float(state["rate"])
    density, temperature = (torch.tensor([state[name]], dtype=torch.float64) for name in ("density", "temperature"))
    with torch.no_grad():
        law = float(load_artifact(channels.law)(density, temperature, gradient)[0, SHEAR_STRESS]) / state["rate"]
    assert abs(law - homogeneous) < 3 * error, (law, homogeneous, error)
