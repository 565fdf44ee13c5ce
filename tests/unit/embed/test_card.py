"""The card says what the file holds, in words and numbers, and needs no network for it."""

import io
import json
import re
import zipfile
from pathlib import Path

import pytest
import torch

from hpcsurrogate.core.errors import DataError, ModelRefusedError
from hpcsurrogate.core.metadata import ArtifactMetadata, Certificate, FieldPort
from hpcsurrogate.embed.artifact import load_artifact, manifest_path
from hpcsurrogate.embed.card import card, inspect_artifact
from hpcsurrogate.embed.card_use import usage
from hpcsurrogate.export.pointwise import describe_pointwise, write_pointwise
from hpcsurrogate.export.script import write_artifact

SHA256 = "f" * 64
ENTRY = "extra/hpcsurrogate.json"
RESIDUALS = {"galilean_invariance": 2.5e-7, "momentum": 0.0123, "rotation_90": 0.71}


def a_line(name: str, time: float) -> dict:
    return {
        "name": name,
        "decorrelation_time": time,
        "decorrelation_interval": [0.9 * time, 1.1 * time],
        "cost_ratio_time": 2.5,
        "fallback_fraction": 0.0123 if name == "learned" else None,
    }


VERDICT = {
    "verdict": "The learned closure helped: on 64 x 64.",
    "learned": a_line("learned", 3.21),
    "best_classical": None,
    "bare": a_line("no closure", 0.32),
}
A_PRIORI = {
    "target": "commutator",
    "learned": {"name": "learned", "relative_error_force": 0.456, "correlation_stress": None},
    "best_classical": {"name": "gradient 4", "relative_error_force": 0.789, "correlation_stress": 0.5},
}


@pytest.fixture
def certified(metadata) -> ArtifactMetadata:
    certificate = Certificate(residuals=RESIDUALS, a_priori=A_PRIORI, a_posteriori=VERDICT)
    return metadata.model_copy(update={"certificate": certificate})


def rows_of(markdown: str) -> dict[str, list[str]]:
    """Rows of all tables by their first cell."""
    tables = (re.findall(r"[^|]+", line) for line in markdown.splitlines() if line.startswith("| "))
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in tables}


def test_it_says_every_residual_in_words_and_numbers(certified):
    rows = rows_of(card(certified, SHA256, "model.pt"))
    assert rows["a constant velocity added to the flow changes nothing"] == ["2.5e-07", "kept, to round-off"]
    assert rows["momentum is only moved about"] == ["1.2e-02", "nearly kept"]
    assert rows["flow turned by 90 degrees, answer turned"] == ["7.1e-01", "not kept"]


def test_round_off_is_that_of_the_type(certified):
    rows = rows_of(card(certified.model_copy(update={"dtype": "float64"}), SHA256, "model.pt"))
    assert rows["a constant velocity added to the flow changes nothing"][1] == "nearly kept"


def test_scores_stand_beside_the_best_classical_closure_and_the_verdict_with_its_spread(certified):
    text = card(certified, SHA256, "model.pt")
    rows = rows_of(text)
    assert rows["target: commutator"] == ["learned", "best classical: gradient 4"]
    assert rows["error of the commutator"] == ["0.456", "0.789"] and "correlation of the stress" not in rows
    assert VERDICT["verdict"] in text and rows["learned"] == ["3.21", "2.89 to 3.53", "2.5"]
    assert "Unverified" not in text and "the guard would have given 1.2 % of the cells" in text


def test_what_was_not_measured_is_said(metadata):
    text = card(metadata, SHA256, "model.pt")
    assert "Not measured." in text and "Unverified" in text
    assert "subdomains" in card(metadata.model_copy(update={"halo": None}), SHA256, "model.pt")


def test_it_is_written_beside_the_file_and_names_its_checksum(artifact_path, metadata):
    write_artifact(artifact_path, artifact_path.read_bytes(), metadata)
    text = artifact_path.with_suffix(".md").read_text()
    assert manifest_path(artifact_path).read_text().split()[0] in text
    assert text.startswith("# laplacian: model.pt\n") and "0.1 by 0.1 m" in text


def test_inspect_says_the_same_and_loads_no_network(artifact_path, metadata, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", lambda *arguments, **keywords: pytest.fail("the network was loaded"))
    text = inspect_artifact(artifact_path)
    assert max(map(len, text.splitlines())) <= 120 and "|" not in text and "`" not in text
    words = set(re.findall(r"\w+", card(metadata, manifest_path(artifact_path).read_text().split()[0], "model.pt")))
    assert {word.lower() for word in words} - {word.lower() for word in re.findall(r"\w+", text)} == set()


def test_inspect_refuses_what_the_loader_refuses_without_loading(artifact_path):
    artifact_path.write_bytes(artifact_path.read_bytes() + b"x")
    with pytest.raises(ModelRefusedError, match="SHA-256"):
        inspect_artifact(artifact_path)
    with pytest.raises(DataError, match="missing"):
        inspect_artifact(artifact_path.with_name("none.pt"))


@pytest.mark.parametrize(
    "changed",
    [
        {"certificate": {"a_priori": {"learned": "x"}}},
        {"certificate": {"a_priori": {"learned": {"relative_error_force": "x"}, "best_classical": {}}}},
        {"certificate": {"a_posteriori": {"helped": True}}},
        {"certificate": {"a_posteriori": {"verdict": "helped", "learned": {"name": 3}}}},
        {"provenance": {"libraries": ["torch"]}},
    ],
)
def test_a_certificate_of_another_form_is_refused_in_one_line(artifact_forgeries, good, tmp_path, changed):
    path = write_metadata(artifact_forgeries, good, tmp_path / "model.pt", changed)
    with pytest.raises(ModelRefusedError, match=r"model.pt: its certificate or provenance is not .*again$"):
        inspect_artifact(path)


@pytest.mark.parametrize("changed", [{"name": "a\x1b]0;b\x07"}, {"name": "a\nb"}, {"provenance": {"c\x1b[2J": {}}}])
def test_letters_that_would_move_the_cursor_are_refused(artifact_forgeries, good, tmp_path, changed):
    path = write_metadata(artifact_forgeries, good, tmp_path / "model.pt", changed)
    for read in (inspect_artifact, load_artifact):
        with pytest.raises(ModelRefusedError, match="letters that do not print"):
            read(path)


def test_a_key_that_is_none_is_named_in_letters_that_print(artifact_forgeries, good, tmp_path):
    path = write_metadata(artifact_forgeries, good, tmp_path / "model.pt", {"a\x1b[2J\n": 1})
    with pytest.raises(ModelRefusedError, match=r"metadata: a\\x1b\[2J\\n: Extra inputs"):
        inspect_artifact(path)


def write_metadata(artifact_forgeries, good: bytes, path: Path, changed: dict) -> Path:
    """A whole artifact, sealed and with a fitting checksum, whose metadata say something else in these places."""
    metadata = json.loads(json.dumps(artifact_forgeries.METADATA))
    for key, value in changed.items():
        metadata[key] = metadata[key] | value if key == "certificate" else value
    write_artifact(path, artifact_forgeries.with_changed(good, ENTRY, json.dumps(metadata).encode()))
    return path


def test_of_compiled_code_the_metadata_alone_are_read(artifact_path, metadata):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/version", "3")
        archive.writestr("model/data/aotinductor/model/code.so", "no code at all")
        archive.writestr("model/extra/hpcsurrogate.json", metadata.to_json())
    path = artifact_path.with_suffix(".pt2")
    write_artifact(path, buffer.getvalue())
    text = inspect_artifact(path)
    assert text.startswith("laplacian: model.pt2") and "allow_compiled" in text
    assert "allow_compiled" not in inspect_artifact(artifact_path)


def test_the_lines_for_python_run(artifact_path, metadata):
    names = {"velocity": load_artifact(artifact_path).golden_inputs[0]}
    exec(usage(metadata, str(artifact_path))["python"], names)
    assert names["acceleration"].shape == names["velocity"].shape


class Nothing(torch.nn.Module):
    """A stress proportional to the gradient, deviatoric in two dimensions without divergence."""

    def forward(self, velocity_gradient: torch.Tensor, filter_width: torch.Tensor) -> torch.Tensor:
        area = (filter_width * filter_width).unsqueeze(1)
        shear = 0.5 * (velocity_gradient[:, 1:2] + velocity_gradient[:, 2:3])
        difference = 0.5 * (velocity_gradient[:, 0:1] - velocity_gradient[:, 3:4])
        return area * torch.cat((difference, shear, -difference), dim=1)


def test_a_pointwise_file_has_a_card_and_its_lines_run(tmp_path, metadata):
    path = tmp_path / "stress.pt"
    description = describe_pointwise("stress", 2, metadata.filter, metadata.host, 10.0)
    written = write_pointwise(path, Nothing(), description)
    text = path.with_suffix(".md").read_text()
    assert "kind `pointwise`" in text and "the cell's filter width" in text
    assert isinstance(written.inputs[0], FieldPort) and "(n, 4)" in text
    assert "The stress is symmetric by its form" in text and "symmetric" not in card(metadata, SHA256, "model.pt")
    gradient, width = load_artifact(path).golden_inputs
    names = {"velocity_gradient": gradient, "filter_width": width}
    exec(usage(written, str(path))["python"], names)
    assert names["stress"].shape == (len(width), 3)
