"""A small valid experiment file."""

import pytest

EXPERIMENT = """\
name: tiny
run_dir: run
flow: {viscosity: 1e-3}
host: {kind: finite_volume, grid: [16, 16], time_step: 0.05}
simulate:
  kind: dns
  grid: [64, 64]
  realisations: 3
  duration: 2.0
  snapshot_interval: 0.1
prepare: {split: {train: [0], validation: [1], test: [2]}}
train:
  engine: none
  model: {kind: quadratic_stencil}
couple:
  duration: 1.0
  contenders:
    - {name: bare, closure: {kind: none}}
    - {name: damped, closure: {kind: smagorinsky, constant: 0.1}}
"""


@pytest.fixture
def experiment_file(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(EXPERIMENT)
    return path
