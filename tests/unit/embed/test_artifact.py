"""What the loader accepts, and everything it must refuse."""

import io
import subprocess
import sys
import warnings
import zipfile

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from hpcsurrogate.core.errors import DataError, ModelRefusedError, ShapeError
from hpcsurrogate.embed.artifact import GOLDEN_ENTRY, METADATA_ENTRY, WEIGHTS_ENTRY, load_artifact, manifest_path
from hpcsurrogate.embed.torchscript import quiet_torchscript
from hpcsurrogate.export.script import artifact_bytes, script_module, write_artifact


class RunsAtLoad(nn.Module):
    """A module whose archive carries code that torch runs while loading."""

    def __init__(self):
        super().__init__()
        self.factor = 1.0

    def forward(self, velocity: Tensor) -> Tensor:
        return self.factor * velocity

    @torch.jit.export
    def __getstate__(self):
        return (self.factor, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[float, bool]):
        self.factor = state[0] + 1.0
        self.training = state[1]


def save_scripted(module, extra_files) -> bytes:
    buffer = io.BytesIO()
    with quiet_torchscript():
        torch.jit.save(torch.jit.script(module), buffer, _extra_files=extra_files)
    return buffer.getvalue()


def test_artifact_is_the_module(artifact_path, laplacian):
    artifact = load_artifact(artifact_path)
    velocity = torch.randn(3, 2, 12, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = laplacian(velocity)
    # Same kernels on the same weights: round-off of float32 at most.
    torch.testing.assert_close(artifact(velocity), expected, rtol=1e-6, atol=1e-6)
    assert artifact.metadata.name == "laplacian"


def test_loading_warns_of_nothing(artifact_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_artifact(artifact_path)


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 3, 8, 8), (1, 1, 2, 8, 8)])
def test_wrong_shape_is_refused(artifact_path, shape):
    with pytest.raises(ShapeError, match="shape"):
        load_artifact(artifact_path)(torch.zeros(shape))


def test_wrong_dtype_is_refused(artifact_path):
    with pytest.raises(ShapeError, match="float32"):
        load_artifact(artifact_path)(torch.zeros(1, 2, 8, 8, dtype=torch.float64))


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="missing"):
        load_artifact(tmp_path / "none.pt")


def test_missing_manifest_is_refused_with_remedy(artifact_path):
    manifest_path(artifact_path).unlink()
    with pytest.raises(ModelRefusedError, match="copy it along"):
        load_artifact(artifact_path)


@pytest.mark.parametrize("text", ["", "not a checksum  model.pt\n", "\n"])
def test_damaged_manifest_is_refused(artifact_path, text):
    manifest_path(artifact_path).write_text(text)
    with pytest.raises(ModelRefusedError, match="no SHA-256"):
        load_artifact(artifact_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_changed_byte_is_refused(artifact_path, share):
    content = bytearray(artifact_path.read_bytes())
    content[int(share * len(content))] ^= 1
    artifact_path.write_bytes(content)
    with pytest.raises(ModelRefusedError, match="SHA-256"):
        load_artifact(artifact_path)


def test_manifest_is_read_by_sha256sum(artifact_path):
    checked = subprocess.run(
        ["sha256sum", "-c", manifest_path(artifact_path).name], cwd=artifact_path.parent, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_file_that_is_no_archive_is_refused(artifact_path):
    write_artifact(artifact_path, b"no archive at all")
    with pytest.raises(ModelRefusedError, match="no TorchScript archive"):
        load_artifact(artifact_path)


def test_archive_without_network_is_refused(artifact_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/readme", "nothing")
    write_artifact(artifact_path, buffer.getvalue())
    with pytest.raises(ModelRefusedError, match="cannot load"):
        load_artifact(artifact_path)


def test_code_that_runs_at_load_is_refused(artifact_path):
    write_artifact(artifact_path, save_scripted(RunsAtLoad(), {}))
    with pytest.raises(ModelRefusedError, match="__setstate__"):
        load_artifact(artifact_path)


def test_missing_metadata_is_refused(artifact_path, laplacian):
    write_artifact(artifact_path, save_scripted(laplacian, {}))
    with pytest.raises(ModelRefusedError, match="hpcsurrogate.json"):
        load_artifact(artifact_path)


def test_unknown_schema_is_refused(artifact_path, laplacian, metadata):
    text = metadata.to_json().replace('"schema_version": 1', '"schema_version": 99')
    write_artifact(artifact_path, save_scripted(laplacian, {METADATA_ENTRY: text}))
    with pytest.raises(ModelRefusedError, match="schema_version"):
        load_artifact(artifact_path)


@pytest.mark.parametrize("golden, reason", [(b"", "holds no"), (b"garbage", "damaged")])
def test_missing_or_damaged_golden_vectors_are_refused(artifact_path, laplacian, metadata, golden, reason):
    write_artifact(artifact_path, save_scripted(laplacian, {METADATA_ENTRY: metadata.to_json(), GOLDEN_ENTRY: golden}))
    with pytest.raises(ModelRefusedError, match=reason):
        load_artifact(artifact_path)


def test_damaged_weights_are_refused_and_none_are_an_empty_dictionary(artifact_path, laplacian, metadata, golden_input):
    assert load_artifact(artifact_path).weights == {}
    golden = safetensors.torch.save({"input": golden_input, "output": laplacian(golden_input).detach()})
    entries = {METADATA_ENTRY: metadata.to_json(), GOLDEN_ENTRY: golden, WEIGHTS_ENTRY: b"garbage"}
    write_artifact(artifact_path, save_scripted(laplacian, entries))
    with pytest.raises(ModelRefusedError, match="weights.safetensors is damaged"):
        load_artifact(artifact_path)


@pytest.mark.parametrize(
    "change", [lambda y: 1.0001 * y, lambda y: y.clone().fill_(float("nan")), lambda y: y[..., :4]]
)
def test_output_other_than_golden_is_refused(artifact_path, laplacian, metadata, golden_input, change):
    with torch.no_grad():
        golden_output = change(laplacian(golden_input))
    write_artifact(artifact_path, artifact_bytes(script_module(laplacian), metadata, golden_input, golden_output))
    with pytest.raises(ModelRefusedError, match="golden"):
        load_artifact(artifact_path)


def test_golden_vectors_of_another_precision_are_refused(artifact_path, laplacian, metadata, golden_input):
    golden = golden_input.double()
    write_artifact(artifact_path, artifact_bytes(script_module(laplacian), metadata, golden, golden.clone()))
    with pytest.raises(ModelRefusedError, match="float64"):
        load_artifact(artifact_path)


def test_a_solver_needs_no_other_room():
    program = (
        "import sys, hpcsurrogate.embed.artifact\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('hpcsurrogate.')}\n"
        "assert rooms == {'core', 'embed'}, rooms\n"
        "assert not {'horovod', 'mpi4py', 'h5py'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
