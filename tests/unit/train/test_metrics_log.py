"""The training record: one object a line, cut back to the checkpoint when a run goes on."""

import builtins
import json

import pytest

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.train.metrics_log import MetricsLog


def record(step):
    return {"phase": "apriori", "step": step, "epoch": 0, "loss": 1.0 / step, "learning_rate": 0.1}


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def write(path, first, last, resumed_step):
    log = MetricsLog(path, None, resumed_step)
    for step in range(first, last + 1):
        log.write(record(step))
    log.close()


def test_a_resumed_run_repeats_no_line_and_drops_a_torn_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 7, resumed_step=0)
    with path.open("a") as file:
        file.write('{"phase": "apri')
    write(path, 6, 9, resumed_step=5)
    assert steps(path) == list(range(1, 10))


def test_a_fresh_run_starts_a_fresh_record(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 3, resumed_step=0)
    write(path, 1, 2, resumed_step=0)
    assert steps(path) == [1, 2]


def test_tensorboard_files_are_written_beside(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard", 0)
    log.write(record(1))
    log.close()
    assert any(file.stat().st_size > 0 for file in (tmp_path / "tensorboard").iterdir())


def test_tensorboard_wanted_but_missing_is_an_error_with_its_remedy(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without_tensorboard(name, *arguments, **keywords):
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_tensorboard)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard", 0)


def test_a_run_that_goes_back_to_a_checkpoint_writes_its_steps_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, tmp_path / "tensorboard", 0)
    for step in (1, 2, 3):
        log.write(record(step))
    log.write(record(4) | {"loss": None, "gradient_norm": None, "left_out": "the loss is nan on rank 0"})
    log.go_back(2)
    log.write(record(3))
    log.close()
    assert steps(path) == [1, 2, 3]
