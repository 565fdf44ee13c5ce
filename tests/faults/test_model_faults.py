"""Files that carry code instead of numbers: refused before anything of them is run, and nothing is written."""

import hashlib
import io
import json
import pickle
import re
import shutil
from pathlib import Path

import artifact_forgeries
import pytest
import torch

from hpcsurrogate.core.errors import HpcsurrogateError, ModelRefusedError
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.embed.torchscript import quiet_torchscript
from hpcsurrogate.export.script import write_artifact
from hpcsurrogate.train.checkpoint import FILES, TENSOR_PARTS, Checkpoint, CheckpointStore
from hpcsurrogate.train.checkpoint_files import publish_folder, read_folder

EVERY = 53  # bytes between two that are changed


@pytest.fixture(scope="module")
def good() -> bytes:
    return artifact_forgeries.good_artifact()


@pytest.fixture
def canary(tmp_path) -> Path:
    """A file that is there if code of a forged file was run."""
    return tmp_path / "canary"


def write_with_checksum(path: Path, content: bytes) -> Path:
    """As whoever forges a file does it: the checksum fits."""
    path.write_bytes(content)
    path.with_name(path.name + ".sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {path.name}\n")
    return path


def torch_load(content: bytes):
    with quiet_torchscript():
        return torch.jit.load(io.BytesIO(content))


@pytest.mark.fault(40, "artifact with __setstate__, file, process or thread operators, other entries or pickles")
def test_forged_artifacts_are_refused_before_they_are_loaded(good, canary, tmp_path, fault):
    for name, forgery in artifact_forgeries.forgeries(good, canary).items():
        path = write_with_checksum(tmp_path / "model.pt", forgery.content)
        with pytest.raises(ModelRefusedError) as refusal:
            load_artifact(path)
        assert re.search(forgery.reason, str(refusal.value)), f"{name}: {refusal.value}"
        assert not canary.exists(), name
        fault.withstood()


@pytest.mark.fault(40, "what these files do to a program that just loads them")
def test_torch_alone_would_run_their_code(good, canary):
    """Without this the test above might pass because its forgeries do nothing."""
    forged = artifact_forgeries.forgeries(good, canary)
    torch_load(forged["code that runs at load"].content)
    assert canary.exists()
    canary.unlink()
    module = torch_load(forged["code that maps a file"].content)
    assert not canary.exists()
    module(torch.zeros(1, 2, 8, 8))
    assert canary.exists()
    canary.unlink()
    pickle.loads(pickle.dumps(artifact_forgeries.Opener(str(canary)))).close()
    assert canary.exists()


@pytest.mark.fault(40, "artifact with a changed byte")
def test_a_changed_byte_is_refused_by_the_checksum(good, tmp_path, fault):
    path = tmp_path / "model.pt"
    write_artifact(path, good)
    for position in range(0, len(good), EVERY):
        content = bytearray(good)
        content[position] ^= 1 << position % 8
        path.write_bytes(content)
        with pytest.raises(ModelRefusedError, match="SHA-256"):
            load_artifact(path)
        fault.withstood()


@pytest.mark.fault(40, "artifact with a changed byte and the checksum made to fit")
def test_a_changed_byte_under_a_new_checksum_changes_no_number(good, tmp_path, fault):
    """Refused by the seal; or it lies where torch does not look, such as the time of an entry."""
    path = tmp_path / "model.pt"
    velocity = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    whole = load_artifact(write_with_checksum(path, good))
    expected = (*whole.guarded(velocity), whole.metadata)
    refused = loaded = 0
    for position in range(0, len(good), EVERY):
        content = bytearray(good)
        content[position] ^= 1 << position % 8
        try:
            artifact = load_artifact(write_with_checksum(path, bytes(content)))
        except HpcsurrogateError:
            refused += 1
        else:
            output, counts = artifact.guarded(velocity)
            assert torch.equal(output, expected[0]) and (counts, artifact.metadata) == expected[1:]
            loaded += 1
        fault.withstood()
    assert refused > 10 * loaded


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "checkpoints", 3, "mine", state_keys=("iteration",))
    tensors = [{f"{part}.tensor": torch.ones(2)} for part in TENSOR_PARTS]
    store.save(Checkpoint(1, *tensors, {"iteration": 1}))
    store.close()
    return store


@pytest.mark.fault(40, "pickle in a checkpoint")
@pytest.mark.parametrize("name", [*FILES, "optimizer.pt"])
def test_a_pickle_in_a_checkpoint_is_never_read_as_one(store, canary, name):
    """In the place of a file under a manifest that fits, or beside the files."""
    folder = store.directory / "step-00000001"
    manifest, contents = read_folder(folder, FILES)
    contents[name] = pickle.dumps(artifact_forgeries.Opener(str(canary)))
    shutil.rmtree(folder)
    publish_folder(folder, contents.items(), manifest.step, manifest.config_digest)
    if name in FILES:
        with pytest.raises(ModelRefusedError, match="none of the 1 checkpoints is whole"):
            store.newest()
    else:
        assert store.newest().step == 1
    assert not canary.exists()


@pytest.mark.fault(40, "metadata that say what the network's own table does not")
def test_edited_metadata_are_refused(good, tmp_path):
    entry = "extra/hpcsurrogate.json"
    metadata = json.loads(artifact_forgeries.read_entries(good, "good")[entry])
    metadata["filter"]["width"] *= 2
    forged = artifact_forgeries.with_changed(good, entry, json.dumps(metadata).encode())
    with pytest.raises(ModelRefusedError, match="filter_width"):
        load_artifact(write_with_checksum(tmp_path / "model.pt", forged))
