"""Checkpoints: what is written is read back, what is damaged or foreign is not used."""

import json
import logging
import os
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.train.checkpoint import MANIFEST, STATE, Checkpoint, CheckpointStore, serialize


def a_checkpoint(step: int) -> Checkpoint:
    weights = {"layer.weight": torch.full((2, 3), float(step)), "layer.bias": torch.arange(2.0)}
    optimizer = {"0.step": torch.tensor(float(step)), "torch_rng_state": torch.arange(5, dtype=torch.uint8)}
    return Checkpoint(step, weights, {"layer.weight": torch.zeros(1)}, optimizer, {"phase": 1, "best_loss": 0.1 + 0.2})


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", keep=3, config_digest="mine")


def names(store):
    return sorted(path.name for path in store.directory.iterdir())


def test_a_checkpoint_comes_back_as_it_was(store):
    store.save(a_checkpoint(1200))
    read = store.newest()
    assert names(store) == ["step-00001200"]
    assert read.step == 1200
    assert read.state["phase"] == 1 and read.state["best_loss"] == 0.1 + 0.2
    for name in ("weights", "best", "optimizer"):
        wrote, got = getattr(a_checkpoint(1200), name), getattr(read, name)
        assert wrote.keys() == got.keys()
        assert all(torch.equal(wrote[key], got[key]) and wrote[key].dtype == got[key].dtype for key in wrote)


def test_none_where_there_is_none(store):
    assert store.newest() is None


def test_the_newest_are_kept_and_a_step_can_be_written_again(store):
    for step in (100, 200, 300, 400, 400):
        store.save(a_checkpoint(step))
    assert names(store) == ["step-00000200", "step-00000300", "step-00000400"]
    assert store.newest().step == 400


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", STATE, MANIFEST])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(store, caplog, name, damage):
    store.save(a_checkpoint(100))
    file = store.save(a_checkpoint(200)) / name
    content = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[:-10])
    else:
        position = content.index(b"sha256") + 12 if name == MANIFEST else len(content) // 2
        content[position] ^= 1
        file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert store.newest().step == 100
    assert "step-00000200 is damaged" in caplog.text


def test_a_damaged_later_checkpoint_does_not_push_out_a_good_one(store):
    store.keep = 1
    (store.save(a_checkpoint(400)) / STATE).write_text("{}")
    store.save(a_checkpoint(310))
    assert store.newest().step == 310


def test_another_configuration_is_refused_with_the_remedy(store):
    store.save(a_checkpoint(100))
    with pytest.raises(ModelRefusedError, match="remove .*checkpoints to train anew, or change run_dir"):
        CheckpointStore(store.directory, 3, "another").newest()


def test_a_write_that_fails_leaves_the_old_checkpoints_alone(store, monkeypatch):
    store.save(a_checkpoint(100))

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(os, "fsync", full_disk)
        store.save(a_checkpoint(200))
    assert store.newest().step == 100
    store.save(a_checkpoint(300))
    assert names(store) == ["step-00000100", "step-00000300"]


def test_the_same_content_gives_the_same_bytes_in_another_process(tmp_path):
    script = (
        "import sys, torch; from hpcsurrogate.train.checkpoint import serialize;"
        "tensors = {'b': torch.ones(3), 'a': torch.zeros(2, 2)};"
        "sys.stdout.buffer.write(serialize(tensors, {n: n for n in ('statistics', 'config_digest', 'c', 'd')}))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=True).stdout
    tensors = {"a": torch.zeros(2, 2), "b": torch.ones(3)}
    own = serialize(tensors, {name: name for name in ("d", "c", "config_digest", "statistics")})
    assert own == other
    (tmp_path / "weights.safetensors").write_bytes(own)
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        assert file.metadata()["config_digest"] == "config_digest"
        assert torch.equal(file.get_tensor("b"), torch.ones(3))


def test_the_manifest_names_every_other_file(store):
    path = store.save(a_checkpoint(100))
    files = json.loads((path / MANIFEST).read_text())["files"]
    assert set(files) == {file.name for file in path.iterdir()} - {MANIFEST}
