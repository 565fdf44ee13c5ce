"""Verify accepts what was exported and nothing else."""

import pytest
import torch
from torch import Tensor, nn

from hpcsurrogate.core.atomic import read_json, sha256_file
from hpcsurrogate.core.errors import DataError, ModelRefusedError
from hpcsurrogate.embed.artifact import load_artifact, manifest_path
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.script import artifact_bytes, script_module, write_artifact
from hpcsurrogate.export.stage import run_export, run_verify, verify_artifact


@pytest.fixture
def exported(experiment, paths, trained):
    run_export(experiment, paths)
    return paths.model


def test_exported_file_is_verified(experiment, paths, trained, exported):
    findings = run_verify(experiment, paths)
    assert findings == read_json(paths.verification)
    assert findings["sha256"] == sha256_file(exported)
    assert findings["eager_difference"] <= 1e-6 and findings["golden_difference"] <= 1e-6
    assert findings["residuals"] == pytest.approx(load_artifact(exported).metadata.certificate.residuals, abs=1e-6)
    assert findings["changed_byte_refused"] is True


def test_file_alone_is_verified(exported, tmp_path):
    copy = tmp_path / "elsewhere" / "closure.pt"
    copy.parent.mkdir()
    copy.write_bytes(exported.read_bytes())
    manifest_path(copy).write_bytes(manifest_path(exported).read_bytes())
    assert verify_artifact(copy)["a_posteriori"] == "unverified"


def test_one_changed_byte_is_refused(experiment, paths, trained, exported):
    content = bytearray(exported.read_bytes())
    content[len(content) // 3] ^= 1
    exported.write_bytes(content)
    with pytest.raises(ModelRefusedError, match="SHA-256"):
        run_verify(experiment, paths)
    assert not paths.verification.exists()


def test_weights_changed_since_export_are_noticed(experiment, paths, trained, exported):
    with torch.no_grad():
        trained.viscosity *= 1.0001
    with pytest.raises(ModelRefusedError, match="differ"):
        run_verify(experiment, paths)


@pytest.mark.parametrize("change, reason", [(lambda r: r | {"momentum": -1.0}, "residual"), (lambda r: {}, "lacks")])
def test_false_certificate_is_refused(exported, trained, change, reason):
    artifact = load_artifact(exported)
    certificate = artifact.metadata.certificate
    false = certificate.model_copy(update={"residuals": change(certificate.residuals)})
    metadata = artifact.metadata.model_copy(update={"certificate": false})
    content = artifact_bytes(artifact.module, metadata, artifact.golden_inputs, artifact.golden_output)
    write_artifact(exported, content)
    with pytest.raises(ModelRefusedError, match=reason):
        verify_artifact(exported)


class InverseOfTheFlow(nn.Module):
    """Fails in a uniform flow, whose values make a matrix without an inverse."""

    def forward(self, velocity: Tensor) -> Tensor:
        return velocity * torch.linalg.inv(velocity[0, 0, :2, :2]).sum()


def test_a_network_that_fails_on_other_inputs_than_the_golden_ones_is_refused_in_one_line(exported):
    artifact = load_artifact(exported)
    metadata = artifact.metadata.model_copy(update={"halo": None})
    closure = script_module(
        GridClosure(InverseOfTheFlow(), metadata.fallback, metadata.validity, "staggered", metadata.host.grid_spacing)
    )
    golden = artifact.golden_inputs[0]
    write_artifact(exported, artifact_bytes(closure, metadata, [golden], closure(golden)))
    load_artifact(exported)
    with pytest.raises(ModelRefusedError, match="torch cannot run it") as refused:
        verify_artifact(exported)
    assert "\n" not in str(refused.value)


def test_loader_without_checksum_would_not_pass(exported, monkeypatch):
    monkeypatch.setattr("hpcsurrogate.embed.artifact.read_checked", lambda path: exported.read_bytes())
    with pytest.raises(ModelRefusedError, match="not being checked"):
        verify_artifact(exported)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="missing"):
        verify_artifact(tmp_path / "model.pt")
