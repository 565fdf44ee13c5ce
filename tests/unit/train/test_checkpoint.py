"""Checkpoints: what is written is read back, what is damaged or foreign is not used."""

import errno
import logging
import math
import os
import subprocess
import sys
import threading
from concurrent import futures

import pytest
import torch
from safetensors import safe_open

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.train.checkpoint import STATE, Checkpoint, CheckpointStore, serialize
from hpcsurrogate.train.checkpoint_files import MANIFEST

PARTS = ("weights", "best", "optimizer", "average")


def a_checkpoint(step: int) -> Checkpoint:
    weights = {"layer.weight": torch.full((2, 3), float(step)), "layer.bias": torch.arange(2.0)}
    optimizer = {"0.step": torch.tensor(float(step)), "0.exp_avg": torch.arange(5, dtype=torch.float64)}
    return Checkpoint(step, weights, {"layer.weight": torch.zeros(1)}, optimizer, {}, {"phase": 1, "best": 0.1 + 0.2})


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", keep=3, config_digest="mine", state_keys=("phase", "best"))


def save(store, step):
    store.save(a_checkpoint(step))
    store.wait()
    return store.directory / f"step-{step:08d}"


def names(store):
    return sorted(path.name for path in store.directory.iterdir())


def test_a_checkpoint_comes_back_as_it_was(store):
    save(store, 1200)
    read = store.newest()
    assert names(store) == ["step-00001200"]
    assert read.step == 1200
    assert read.state == {"phase": 1, "best": 0.1 + 0.2}
    for name in PARTS:
        wrote, got = getattr(a_checkpoint(1200), name), getattr(read, name)
        assert wrote.keys() == got.keys()
        assert all(torch.equal(wrote[key], got[key]) and wrote[key].dtype == got[key].dtype for key in wrote)


def test_none_where_there_is_none(store):
    assert store.newest() is None


def test_the_newest_are_kept_and_a_step_can_be_written_again(store):
    for step in (100, 200, 300, 400, 400):
        save(store, step)
    assert names(store) == ["step-00000200", "step-00000300", "step-00000400"]
    assert store.newest().step == 400


def test_what_changes_after_save_does_not_reach_the_file(store):
    checkpoint = a_checkpoint(100)
    store.save(checkpoint)
    for part in PARTS:
        for tensor in getattr(checkpoint, part).values():
            tensor.add_(1.0)
    checkpoint.state["phase"] = 2
    read = store.newest()
    assert torch.equal(read.weights["layer.weight"], torch.full((2, 3), 100.0)) and read.state["phase"] == 1
    assert torch.equal(read.best["layer.weight"], torch.zeros(1)) and read.optimizer["0.step"] == 100.0


def test_an_average_comes_back_too(store):
    checkpoint = a_checkpoint(100)
    checkpoint.average = {"layer.weight": torch.full((2, 3), 0.5, dtype=torch.bfloat16)}
    store.save(checkpoint)
    read = store.newest().average["layer.weight"]
    assert read.dtype == torch.bfloat16 and torch.equal(read, checkpoint.average["layer.weight"])


@pytest.mark.parametrize("name", [*(f"{part}.safetensors" for part in PARTS), STATE, MANIFEST])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(store, caplog, name, damage):
    save(store, 100)
    file = save(store, 200) / name
    content = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[:-10])
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert store.newest().step == 100
    assert f"step-00000200 is damaged ({name}" in caplog.text


def test_where_no_checkpoint_is_whole_nothing_begins_anew(store):
    for step in (100, 200):
        (save(store, step) / MANIFEST).unlink()
    with pytest.raises(ModelRefusedError, match="none of the 2 checkpoints is whole; .* remove this folder"):
        store.newest()


def test_a_state_without_what_the_training_needs_is_no_state(store, caplog):
    save(store, 100)
    lacking = a_checkpoint(200)
    del lacking.state["best"]
    store.save(lacking)
    assert store.newest().step == 100
    assert "step-00000200 is damaged (state.json lacks best)" in caplog.text


def test_a_state_that_is_not_finite_is_refused_at_once(store):
    checkpoint = a_checkpoint(100)
    checkpoint.state["best"] = math.nan
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.save(checkpoint)


def test_a_folder_with_another_steps_name_is_damaged(store, caplog):
    save(store, 100).rename(store.directory / "step-00000900")
    save(store, 200)
    assert store.newest().step == 200
    assert "its manifest is that of step 100" in caplog.text


def test_a_damaged_later_checkpoint_does_not_push_out_a_good_one(store):
    store.keep = 1
    (save(store, 400) / STATE).write_text("{}")
    save(store, 310)
    assert store.newest().step == 310


def test_another_configuration_is_refused_with_the_remedy(store):
    save(store, 100)
    with pytest.raises(ModelRefusedError, match="remove .*checkpoints to train anew, or change run_dir"):
        CheckpointStore(store.directory, 3, "another").newest()


def fail_to_sync(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("surfaces_at", ["poll", "wait", "save", "newest", "close"])
def test_a_background_save_that_fails_says_so_once_and_leaves_the_old_ones(store, monkeypatch, surfaces_at):
    save(store, 100)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail_to_sync)
        store.save(a_checkpoint(200))
        futures.wait([store._saving])
    with pytest.raises(OSError, match="No space") as failed:
        store.save(a_checkpoint(300)) if surfaces_at == "save" else getattr(store, surfaces_at)()
    assert failed.value.filename == str(store.directory / "step-00000200" / "weights.safetensors")
    store.poll()
    assert names(store) == ["step-00000100"] and store.newest().step == 100


def test_after_a_failed_save_the_next_one_is_as_good_as_any(store, monkeypatch):
    save(store, 100)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(os, "fsync", fail_to_sync)
        save(store, 200)
    save(store, 300)
    assert names(store) == ["step-00000100", "step-00000300"]


def test_poll_does_not_wait_for_a_save_that_is_under_way(store, monkeypatch):
    reached, may_go_on = threading.Event(), threading.Event()

    def slow_disk(descriptor):
        reached.set()
        assert may_go_on.wait(30)

    monkeypatch.setattr(os, "fsync", slow_disk)
    store.save(a_checkpoint(100))
    assert reached.wait(30)
    store.poll()
    assert [name for name in names(store) if not name.startswith(".")] == []
    may_go_on.set()
    store.close()
    assert names(store) == ["step-00000100"]


def test_an_old_checkpoint_that_cannot_be_removed_is_no_reason_to_stop(store, monkeypatch, caplog):
    store.keep = 1
    save(store, 100)

    def held_open(folder):
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(folder))

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", held_open)
        save(store, 200)
    assert "could not be removed ([Errno 39] Directory not empty" in caplog.text
    save(store, 300)
    assert names(store) == ["step-00000300"]


def test_one_that_was_about_to_be_replaced_is_read_if_its_successor_did_not_come(store):
    save(store, 100)
    save(store, 200).rename(store.directory / ".replaced-step-00000200")
    assert store.newest().step == 200
    save(store, 200)
    assert names(store) == ["step-00000100", "step-00000200"]


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
