import pytest
from pydantic import ValidationError

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.core.metadata import ArtifactMetadata

VELOCITY = {"field": "velocity", "unit": "m/s", "components": ("x", "y"), "layout": "staggered"}
CONTENT = {
    "name": "tiny",
    "kind": "grid",
    "inputs": (VELOCITY,),
    "outputs": ({**VELOCITY, "field": "commutator", "unit": "m/s^2"},),
    "dtype": "float32",
    "filter": {"kind": "face_average", "width": 0.1},
    "host": {"kind": "finite_volume", "order": 2, "grid_spacing": (0.1, 0.1), "time_step": 0.01},
    "validity": {"velocity_magnitude": (0.0, 3.0), "gradient_magnitude": (0.0, 30.0)},
    "halo": 4,
    "fallback": {"kind": "smagorinsky", "constant": 0.17, "width": 0.1},
    "training_data_digest": "0" * 64,
    "config_digest": "1" * 64,
    "provenance": {"version": "0"},
    "certificate": {"residuals": {"galilean_invariance": 1e-7}, "a_priori": {}},
}


def test_round_trip():
    metadata = ArtifactMetadata(**CONTENT)
    assert ArtifactMetadata.from_json(metadata.to_json()) == metadata
    assert metadata.certificate.a_posteriori == "unverified"


def test_missing_entry_is_refused_with_the_file_name():
    """torch.jit.load gives an empty string for an extra file that is not there."""
    with pytest.raises(ModelRefusedError, match=r"model.pt: holds no hpcsurrogate.json"):
        ArtifactMetadata.from_json("", "model.pt")


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 1}'])
def test_text_of_another_form_is_refused_in_one_line(text):
    with pytest.raises(ModelRefusedError, match="export the model again") as caught:
        ArtifactMetadata.from_json(text)
    assert "\n" not in str(caught.value)


def test_schema_of_the_future_is_refused():
    text = ArtifactMetadata(**CONTENT).to_json().replace('"schema_version": 2', '"schema_version": 3')
    with pytest.raises(ModelRefusedError, match="schema_version"):
        ArtifactMetadata.from_json(text)


def test_facts_tell_a_host_without_json_what_it_needs_and_numbers_read_back_as_they_were():
    width = 0.1 + 0.2
    content = {**CONTENT, "filter": {"kind": "box", "width": width}, "halo": None}
    facts = ArtifactMetadata(**content).facts()
    assert all(isinstance(text, str) for text in facts.values())
    assert float(facts["filter_width"]) == width and facts["halo"] == "whole field"
    assert facts["input_0"] == "velocity m/s staggered bcxy x,y" and facts["num_outputs"] == "1"
    assert facts["output_0"].split()[0] == "commutator"


def test_unknown_fields_and_impossible_widths_are_refused():
    with pytest.raises(ValidationError, match="is none of velocity"):
        ArtifactMetadata(**{**CONTENT, "inputs": ({**VELOCITY, "field": "speed"},)})
    with pytest.raises(ValidationError):
        ArtifactMetadata(**{**CONTENT, "filter": {"kind": "box", "width": 0.0}})
