"""What the loader accepts, and everything it must refuse."""

import io
import json
import os
import subprocess
import sys
import warnings
import zipfile

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from hpcsurrogate.core.errors import DataError, ModelRefusedError, ShapeError
from hpcsurrogate.embed.archive import read_entries
from hpcsurrogate.embed.artifact import METADATA_ENTRY, load_artifact, manifest_path
from hpcsurrogate.embed.torchscript import quiet_torchscript
from hpcsurrogate.export.archive_file import pack
from hpcsurrogate.export.script import artifact_bytes, script_module, write_artifact


class Bare(nn.Module):
    """A network that nobody has wrapped for hosts."""

    def forward(self, velocity: Tensor) -> Tensor:
        return torch.tanh(velocity)


def save_scripted(module, extra_files) -> bytes:
    buffer = io.BytesIO()
    with quiet_torchscript():
        torch.jit.save(script_module(module), buffer, _extra_files=extra_files)
    return pack(buffer.getvalue())


def zip_of(entries) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, entry in entries.items():
            archive.writestr(f"archive/{name}", entry)
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


def test_a_path_that_no_file_can_have_is_a_missing_file(artifact_path):
    with pytest.raises(DataError, match="missing"):
        load_artifact(artifact_path / "model.pt")


def test_a_folder_in_place_of_a_file_is_named(artifact_path, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_artifact(tmp_path)
    manifest_path(artifact_path).unlink()
    manifest_path(artifact_path).mkdir()
    with pytest.raises(DataError, match="sha256: cannot be read"):
        load_artifact(artifact_path)


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
    with pytest.raises(ModelRefusedError, match="no TorchScript archive"):
        load_artifact(artifact_path)


def test_archive_whose_network_torch_cannot_read_is_refused(artifact_path):
    entries = read_entries(artifact_path.read_bytes(), artifact_path)
    del entries["constants.pkl"]
    write_artifact(artifact_path, pack(zip_of(entries)))
    with pytest.raises(ModelRefusedError, match="torch cannot load it"):
        load_artifact(artifact_path)


def test_missing_metadata_is_refused(artifact_path, laplacian):
    write_artifact(artifact_path, save_scripted(laplacian, {}))
    with pytest.raises(ModelRefusedError, match="hpcsurrogate.json"):
        load_artifact(artifact_path)


def test_unknown_schema_is_refused(artifact_path, laplacian, metadata):
    text = metadata.to_json().replace('"schema_version": 2', '"schema_version": 99')
    write_artifact(artifact_path, save_scripted(laplacian, {METADATA_ENTRY: text}))
    with pytest.raises(ModelRefusedError, match="schema_version"):
        load_artifact(artifact_path)


def test_network_without_guard_is_refused(artifact_path, metadata):
    write_artifact(artifact_path, artifact_bytes(script_module(Bare()), metadata, [], torch.zeros(1)))
    with pytest.raises(ModelRefusedError, match="has no `guarded`"):
        load_artifact(artifact_path)


def test_table_that_differs_from_the_metadata_is_refused(artifact_path, laplacian, metadata, golden_input, monkeypatch):
    """A host reads the table and the person the metadata: they must be told the same."""
    monkeypatch.setattr(type(metadata), "facts", lambda self: {"filter_width": "0.2"})
    write_artifact(artifact_path, artifact_bytes(script_module(laplacian), metadata, [golden_input], golden_input))
    monkeypatch.undo()
    with pytest.raises(ModelRefusedError, match="`facts` and hpcsurrogate.json differ"):
        load_artifact(artifact_path)


@pytest.mark.parametrize(
    "golden, reason",
    [([], "0 golden vectors"), ([torch.zeros(1, 3, 8, 8)] * 2, r"golden velocity is .*\(1, 3, 8, 8\)")],
)
def test_missing_or_damaged_golden_vectors_are_refused(artifact_path, laplacian, metadata, golden, reason):
    scripted = script_module(laplacian)
    scripted.facts, scripted.golden = metadata.facts(), golden
    buffer = io.BytesIO()
    with quiet_torchscript():
        torch.jit.save(scripted, buffer, _extra_files={METADATA_ENTRY: metadata.to_json()})
    write_artifact(artifact_path, pack(buffer.getvalue()))
    with pytest.raises(ModelRefusedError, match=reason):
        load_artifact(artifact_path)


def test_damaged_weights_are_refused_and_none_are_an_empty_dictionary(
    artifact_path, laplacian, metadata, golden_input, monkeypatch
):
    assert load_artifact(artifact_path).weights == {}
    monkeypatch.setattr(safetensors.torch, "save", lambda weights: b"garbage")
    content = artifact_bytes(script_module(laplacian), metadata, [golden_input], laplacian(golden_input), {})
    write_artifact(artifact_path, content)
    with pytest.raises(ModelRefusedError, match="weights.safetensors is damaged"):
        load_artifact(artifact_path)


@pytest.mark.parametrize(
    "change", [lambda y: 1.0001 * y, lambda y: y.clone().fill_(float("nan")), lambda y: y[..., :4]]
)
def test_output_other_than_golden_is_refused(artifact_path, laplacian, metadata, golden_input, change):
    with torch.no_grad():
        golden_output = change(laplacian(golden_input))
    write_artifact(artifact_path, artifact_bytes(script_module(laplacian), metadata, [golden_input], golden_output))
    with pytest.raises(ModelRefusedError, match="golden"):
        load_artifact(artifact_path)


def test_golden_vectors_of_another_precision_are_refused(artifact_path, laplacian, metadata, golden_input):
    golden = golden_input.double()
    write_artifact(artifact_path, artifact_bytes(script_module(laplacian), metadata, [golden], golden.clone()))
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


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return (velocity,)", "no output with three counts|not enough values"),
        ("return (velocity, torch.zeros([2], dtype=4))", "no output with three counts"),
        ("return (velocity, torch.zeros([3], dtype=6))", "no output with three counts"),
        ("return (torch.sum(velocity), torch.zeros([3], dtype=4))", "no output with three counts"),
        ('ops.prim.RaiseException("no", "builtins.SystemExit")', "cannot run it"),
    ],
)
def test_a_guard_that_is_none_is_refused(artifact_forgeries, good, tmp_path, body, reason):
    """Of a file whose network reproduces its golden vectors."""
    name = artifact_forgeries.code_entry(good)
    code = artifact_forgeries.read_entries(good, "good")[name].decode()
    head = code[: code.index("    halo: int=0")] + "    halo: int=0) -> "
    returns = "Tuple[Tensor]" if ",)" in body else "Tuple[Tensor, Tensor]"
    end = "" if body.startswith("return") else "    return (velocity, velocity)\n"
    forged = f"{head}{returns}:\n    {body}\n{end}".encode()
    write_artifact(tmp_path / "model.pt", artifact_forgeries.with_changed(good, name, forged))
    with pytest.raises(ModelRefusedError, match=reason) as refusal:
        load_artifact(tmp_path / "model.pt")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("dtype", ["F4", "F8_E8M0"])
def test_weights_of_a_type_that_torch_lacks_are_refused(artifact_forgeries, good, tmp_path, dtype):
    header = json.dumps({"a": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4 if "8" in dtype else 2]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(4 if "8" in dtype else 2)
    write_artifact(tmp_path / "model.pt", artifact_forgeries.with_changed(good, "extra/weights.safetensors", weights))
    with pytest.raises(ModelRefusedError, match=f"weights.safetensors is damaged.*{dtype}"):
        load_artifact(tmp_path / "model.pt")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.pt")
    with pytest.raises(DataError, match="cannot be read"):
        load_artifact(tmp_path / "model.pt")
