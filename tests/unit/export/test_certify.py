"""The certified file is the file that ran, with what the runs said."""

import hashlib

import pytest
import torch

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.errors import DataError, ModelRefusedError
from hpcsurrogate.embed.archive import EXTRA, METADATA_ENTRY, SEAL_ENTRY, check_archive
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.export.certify import run_certify
from hpcsurrogate.export.stage import run_export, verify_artifact


def contender(name: str, role: str, time: float) -> dict:
    """A line of couple.json."""
    return {
        "name": name, "role": role, "kind": "none", "host": {"kind": "finite_volume"}, "grid": [16, 16],
        "constant": None, "decorrelation_time": time, "decorrelation_times": [time, time],
        "decorrelation_interval": [0.5 * time, 2 * time], "stable": True, "blow_up_time": None,
        "endurance": {"duration": 5 * time, "blow_up_time": None},
        "spectrum_log_error": 0.1, "cost_ratio_time": 2.0,
        "fallback_fraction": 0.25 if role == "learned" else None,
    }  # fmt: skip


@pytest.fixture
def coupled(experiment, paths, trained):
    """The run after couple: model.pt and couple.json."""
    run_export(experiment, paths)
    content = {
        "verdict": "The learned closure helped.", "helped": True, "correlation_threshold": 0.95, "num_starts": 2,
        "reference": {"starts_overlap": False}, "equivalent": {"grid": 34.0}, "learned": "net",
        "best_classical": "fourth order",
        "contenders": [
            contender("none", "bare", 1.0),
            contender("fourth order", "classical", 2.0),
            contender("net", "learned", 3.0),
        ],
        "artifact": hashlib.sha256(paths.model.read_bytes()).hexdigest(),
    }  # fmt: skip
    write_json_atomic(paths.coupling, content)
    return paths


def change_coupling(paths, **changes) -> None:
    write_json_atomic(paths.coupling, read_json(paths.coupling) | changes)


def test_the_verdict_with_its_spread_enters_the_certificate(experiment, coupled):
    run_certify(experiment, coupled)
    before, after = load_artifact(coupled.model), load_artifact(coupled.certified)
    said = after.metadata.certificate.a_posteriori
    assert said["verdict"] == "The learned closure helped." and said["num_starts"] == 2
    assert said["learned"]["decorrelation_interval"] == [1.5, 6.0] and said["bare"]["name"] == "none"
    assert said["best_classical"]["decorrelation_times"] == [2.0, 2.0]
    assert after.metadata.certificate.residuals == before.metadata.certificate.residuals
    assert verify_artifact(coupled.certified)["a_posteriori"] == said
    text = coupled.certified_card.read_text()
    assert "The learned closure helped." in text and "1.5 to 6" in text and "Unverified" not in text


def test_all_but_the_metadata_are_the_bytes_that_ran(experiment, coupled):
    run_certify(experiment, coupled)
    before, after = (check_archive(path.read_bytes(), path) for path in (coupled.model, coupled.certified))
    differing = {name for name in before | after if before.get(name) != after.get(name)}
    assert differing == {EXTRA + METADATA_ENTRY, EXTRA + SEAL_ENTRY}
    velocity = load_artifact(coupled.model).golden_inputs[0]
    assert torch.equal(load_artifact(coupled.model)(velocity), load_artifact(coupled.certified)(velocity))


@pytest.mark.parametrize("artifact", ["0" * 64, None])
def test_another_file_than_the_one_that_ran_is_not_certified(experiment, coupled, artifact):
    change_coupling(coupled, artifact=artifact)
    with pytest.raises(ModelRefusedError, match="run `hpcsurrogate couple` again"):
        run_certify(experiment, coupled)
    assert not coupled.certified.exists()


def test_an_artifact_exported_after_the_runs_is_not_certified(experiment, coupled, trained):
    with torch.no_grad():
        trained.viscosity *= 1.01
    run_export(experiment, coupled)
    with pytest.raises(ModelRefusedError, match="run `hpcsurrogate couple` again"):
        run_certify(experiment, coupled)


def test_without_a_learned_contender_it_stays_unverified(experiment, coupled):
    change_coupling(coupled, learned=None, equivalent=None, artifact=None)
    run_certify(experiment, coupled)
    assert load_artifact(coupled.certified).metadata.certificate.a_posteriori == "unverified"


def test_no_classical_contender_is_no_fault(experiment, coupled):
    change_coupling(coupled, best_classical=None)
    run_certify(experiment, coupled)
    assert load_artifact(coupled.certified).metadata.certificate.a_posteriori["best_classical"] is None


@pytest.mark.parametrize("changes", [{"contenders": []}, {"learned": "other"}, {"reference": None}])
def test_a_table_of_another_form_is_refused(experiment, coupled, changes):
    change_coupling(coupled, **changes)
    with pytest.raises(DataError, match="couple.json: is not what couple writes now"):
        run_certify(experiment, coupled)


def test_before_couple_there_is_nothing_to_certify(experiment, coupled):
    coupled.coupling.unlink()
    with pytest.raises(DataError, match="couple.json"):
        run_certify(experiment, coupled)
