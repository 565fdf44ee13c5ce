"""A pipeline of three small stages that write text files, and a valid experiment to run it with."""

import pytest

from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.pipeline import kinds
from hpcsurrogate.pipeline.stage import Stage

EXPERIMENT = """\
name: tiny
run_dir: {run_dir}
flow: {{viscosity: 1e-3}}
host: {{kind: finite_volume, grid: [16, 16], time_step: 0.05}}
simulate: {{kind: dns, grid: [64, 64], realisations: 3, duration: 2.0, snapshot_interval: 0.1}}
prepare: {{split: {{train: [0], validation: [1], test: [2]}}}}
train: {{engine: none, model: {{kind: quadratic_stencil}}}}
couple: {{duration: 1.0, contenders: [{{name: bare, closure: {{kind: none}}}}]}}
"""


@pytest.fixture
def experiment_file(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(EXPERIMENT.format(run_dir=tmp_path / "run"))
    return path


@pytest.fixture
def experiment(experiment_file):
    return load_experiment(experiment_file)


@pytest.fixture
def paths(experiment):
    return RunPaths(experiment.run_dir)


class SmallPipeline:
    """simulate (raw/), train (weights, with a checkpoint) and couple (couple.json), each a text of what it read."""

    def __init__(self):
        self.done = []
        self.failure = None

    def work(self, name):
        def write(experiment, paths, world):
            self.done.append(name)
            if name == "simulate":
                paths.raw.mkdir(exist_ok=True, parents=True)
                (paths.raw / "realisation-0000.hdf5").write_text(str(experiment.flow.viscosity))
            if name == "train":
                paths.checkpoints.mkdir(exist_ok=True)
                (paths.checkpoints / f"attempt-{len(list(paths.checkpoints.iterdir()))}").touch()
                if self.failure:
                    raise self.failure
                fine = (paths.raw / "realisation-0000.hdf5").read_text()
                paths.weights.write_text(f"{fine} {experiment.train.gradient_clip}")
            if name == "couple":
                paths.coupling.write_text('{"verdict": "It helped: yes."}')

        return write

    def stages(self):
        make = Stage
        return (
            make("simulate", "fine data", ("flow", "simulate"), ("raw",), self.work("simulate")),
            make("train", "weights", ("train",), ("weights",), self.work("train"), progress=("checkpoints",)),
            make("couple", "verdict", ("couple",), ("coupling",), self.work("couple")),
        )


@pytest.fixture
def small(monkeypatch):
    pipeline = SmallPipeline()
    monkeypatch.setattr(kinds, "STAGES", pipeline.stages())
    return pipeline
