"""A small valid experiment with a section `tune`, in a run directory of the test's own."""

import pytest

from hpcsurrogate.core.yaml_loader import load_experiment

EXPERIMENT = """\
name: tiny
run_dir: {run_dir}
flow: {{viscosity: 1e-3}}
host: {{kind: finite_volume, grid: [16, 16], time_step: 0.05}}
simulate: {{kind: dns, grid: [64, 64], realisations: 3, duration: 2.0, snapshot_interval: 0.1}}
prepare: {{split: {{train: [0], validation: [1], test: [2]}}}}
train: {{engine: none, model: {{kind: quadratic_stencil}}}}
couple: {{duration: 1.0, contenders: [{{name: bare, closure: {{kind: none}}}}]}}
tune:
  parameters:
    train.apriori.learning_rate: {{low: 1e-4, high: 1e-1, log: true}}
    train.model.channels: {{low: 1, high: 4}}
    train.apriori.augmentation.rotations: {{choices: [true, false]}}
"""


@pytest.fixture
def tiny(tmp_path):
    """The experiment, as loaded."""
    path = tmp_path / "tiny.yaml"
    path.write_text(EXPERIMENT.format(run_dir=tmp_path / "run"))
    return load_experiment(path)
