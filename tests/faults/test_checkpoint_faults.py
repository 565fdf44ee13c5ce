"""Checkpoints that were torn, flipped, edited, taken apart or moved: named and passed over, never used in part."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.train.checkpoint import FILES, STATE, TENSOR_PARTS, Checkpoint, CheckpointStore
from hpcsurrogate.train.checkpoint_files import MANIFEST, publish_folder, read_folder


def a_checkpoint(step: int) -> Checkpoint:
    tensors = [{f"{part}.tensor": torch.full((2, 2), float(step))} for part in TENSOR_PARTS]
    return Checkpoint(step, *tensors, {"value": float(step), "iteration": step})


@pytest.fixture
def store(tmp_path):
    """A store that holds steps 1 and 2."""
    store = CheckpointStore(tmp_path / "checkpoints", 3, "mine", state_keys=("value", "iteration"))
    for step in (1, 2):
        store.save(a_checkpoint(step))
    store.close()
    return store


def step_folder(store: CheckpointStore, step: int) -> Path:
    return store.directory / f"step-{step:08d}"


def replace_files(folder: Path, contents: dict[str, bytes]) -> None:
    """Put other files into a checkpoint, and make manifest and checksums fit them, as nobody does by mistake."""
    manifest, _ = read_folder(folder, ())
    shutil.rmtree(folder)
    publish_folder(folder, contents.items(), manifest.step, manifest.config_digest)


def assert_only_the_one_before_is_used(store: CheckpointStore, caplog) -> None:
    """Step 2 is named and passed over; where there is no other one, nothing is resumed and nothing begins anew."""
    assert store.newest().step == 1
    assert f"{step_folder(store, 2)} is damaged" in caplog.text
    shutil.rmtree(step_folder(store, 1))
    with pytest.raises(ModelRefusedError, match="none of the 1 checkpoints is whole"):
        store.newest()


@pytest.mark.fault(21, "torn write: zeros after the rename")
@pytest.mark.parametrize("kept", [0.0, 0.5], ids=["all", "second half"])
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_zeros_in_a_file_are_found(store, caplog, name, kept):
    """What a power cut leaves of a file whose length reached the disk before its content."""
    path = step_folder(store, 2) / name
    content = path.read_bytes()
    first = int(kept * len(content))
    path.write_bytes(content[:first] + bytes(len(content) - first))
    assert_only_the_one_before_is_used(store, caplog)


@pytest.mark.fault(22, "bit flipped, one in every byte of every file")
def test_a_flipped_bit_anywhere_is_refused(store, fault):
    """One bit of every byte, another from byte to byte; all bits of a small folder: test_checkpoint_files.py."""
    shutil.rmtree(step_folder(store, 1))
    for path in step_folder(store, 2).iterdir():
        written = path.read_bytes()
        for position in range(len(written)):
            content = bytearray(written)
            content[position] ^= 1 << position % 8
            path.write_bytes(content)
            with pytest.raises(ModelRefusedError, match="none of the 1 checkpoints is whole"):
                store.newest()
            fault.withstood()
        path.write_bytes(written)
    assert store.newest().step == 2


def edit_manifest(store: CheckpointStore) -> None:
    """Another size and checksum for a file that is changed: all fits but the manifest's own checksum."""
    path = step_folder(store, 2)
    (path / STATE).write_bytes(b"{}")
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"][STATE] = {"bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    (path / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))


MANIFESTS = {
    "missing": lambda store: (step_folder(store, 2) / MANIFEST).unlink(),
    "empty": lambda store: (step_folder(store, 2) / MANIFEST).write_bytes(b""),
    "edited": edit_manifest,
    "of another step": lambda store: shutil.copy(step_folder(store, 1) / MANIFEST, step_folder(store, 2)),
}


@pytest.mark.fault(23, "manifest missing, edited or of another run")
@pytest.mark.parametrize("how", MANIFESTS)
def test_a_manifest_that_is_not_the_one_written_is_refused(store, caplog, how):
    MANIFESTS[how](store)
    assert_only_the_one_before_is_used(store, caplog)


@pytest.mark.fault(23, "manifest missing, edited or of another run")
def test_a_checkpoint_of_another_run_is_refused(store, tmp_path):
    other = CheckpointStore(tmp_path / "other", 3, "another")
    other.save(a_checkpoint(3))
    other.close()
    shutil.copytree(step_folder(other, 3), step_folder(store, 3))
    with pytest.raises(
        ModelRefusedError, match="step-00000003 was trained with another .* remove .* or change run_dir"
    ):
        store.newest()


@pytest.mark.fault(24, "weights, optimizer, state or a key of it missing")
@pytest.mark.parametrize("agreed", [False, True], ids=["removed", "removed and the manifest made to fit"])
@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_without_one_of_its_parts_is_no_checkpoint(store, caplog, name, agreed):
    folder = step_folder(store, 2)
    if agreed:
        _, contents = read_folder(folder, FILES)
        del contents[name]
        replace_files(folder, contents)
    else:
        (folder / name).unlink()
    assert_only_the_one_before_is_used(store, caplog)


@pytest.mark.fault(24, "weights, optimizer, state or a key of it missing")
def test_a_state_without_one_of_its_keys_is_no_state(store, caplog):
    """Where the sampler is follows from the iteration, and random numbers from the step: the state has no more."""
    folder = step_folder(store, 2)
    _, contents = read_folder(folder, FILES)
    state = json.loads(contents[STATE])
    del state["iteration"]
    replace_files(folder, contents | {STATE: json.dumps(state).encode()})
    assert_only_the_one_before_is_used(store, caplog)


@pytest.mark.fault(25, "clock moves backward")
def test_the_newest_is_chosen_by_step_and_not_by_time(store):
    for step, years in ((1, 50), (2, 20)):  # since 1970
        for path in (step_folder(store, step), *step_folder(store, step).iterdir()):
            os.utime(path, (years * 365 * 86400,) * 2)
    store = CheckpointStore(store.directory, 2, "mine")
    assert store.newest().step == 2
    store.save(a_checkpoint(3))
    store.close()
    assert sorted(path.name for path in store.directory.iterdir()) == ["step-00000002", "step-00000003"]
