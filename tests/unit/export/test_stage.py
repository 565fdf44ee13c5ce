"""Export writes a file that is the network, says what it is, and is the same for the same weights."""

import zipfile

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.config import Experiment, Filter, Smagorinsky
from hpcsurrogate.core.errors import DataError, ModelRefusedError
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.embed.artifact import load_artifact, manifest_path
from hpcsurrogate.export.script import parity, script_module
from hpcsurrogate.export.stage import run_export
from hpcsurrogate.physics.closures import make_classical
from hpcsurrogate.physics.hosts import make_host


def set_export(experiment, **settings):
    return Experiment.model_validate(experiment.model_dump() | {"export": settings})


def weights_in(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.split("/")[1] == "constants"}


def prepared_velocity(paths, realisation) -> Tensor:
    with Catalogue.read(paths.prepared).open(realisation) as shard:
        return torch.from_numpy(shard.read("velocity"))


def validation_snapshot(paths) -> Tensor:
    with Catalogue.read(paths.prepared).open(2) as shard:
        return torch.from_numpy(shard.snapshot("velocity", -1))[None]


def test_exported_file_is_the_network(experiment, paths, trained):
    run_export(experiment, paths)
    artifact = load_artifact(paths.model)
    velocity = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        # Frozen without changes to the arithmetic: equal to the last bit.
        assert torch.equal(artifact(velocity), trained(velocity))
        assert torch.equal(artifact.golden_output, trained(artifact.golden_inputs[0]))
    assert torch.equal(artifact.golden_inputs[0], validation_snapshot(paths))


def test_exported_file_holds_the_weights_by_name(experiment, paths, trained):
    run_export(experiment, paths)
    weights = load_artifact(paths.model).weights
    assert weights.keys() == trained.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in trained.state_dict().items())


def test_metadata_say_what_it_is(experiment, paths, trained):
    run_export(experiment, paths)
    metadata = load_artifact(paths.model).metadata
    spacing = experiment.flow.domain[0] / 16
    assert metadata.name == "synthetic" and metadata.kind == "grid" and metadata.dtype == "float32"
    assert [port.field for port in metadata.inputs + metadata.outputs] == ["velocity", "commutator"]
    assert metadata.inputs[0].layout == "staggered" and metadata.inputs[0].unit == "m/s"
    assert metadata.outputs[0].unit == "m/s^2" and metadata.outputs[0].components == ("x", "y")
    assert metadata.filter.kind == "face_average" and metadata.filter.width == pytest.approx(spacing)
    assert metadata.host.order == 2 and metadata.host.grid_spacing == pytest.approx((spacing, spacing))
    assert metadata.certificate.a_posteriori == "unverified"
    assert metadata.certificate.a_priori["closures"][0]["correlation_force"] == 0.8
    assert metadata.certificate.residuals["momentum"] < 1e-5  # a sum of differences has no mean but round-off


def test_validity_is_that_of_the_training_split(experiment, paths, trained):
    run_export(experiment, paths)
    validity = load_artifact(paths.model).metadata.validity
    catalogue, speeds = Catalogue.read(paths.prepared), []
    for realisation in experiment.prepare.split.train:
        with catalogue.open(realisation) as shard:
            velocity = shard.read("velocity")
        centred = (
            (velocity[:, 0] + np.roll(velocity[:, 0], 1, -2)) / 2,
            (velocity[:, 1] + np.roll(velocity[:, 1], 1, -1)) / 2,
        )
        speeds.append(np.hypot(*centred))
    # Means of neighbouring faces in float32: a few units in the last place.
    assert validity.velocity_magnitude == pytest.approx((np.min(speeds), np.max(speeds)), rel=1e-5)
    assert 0 < validity.gradient_magnitude[0] < validity.gradient_magnitude[1]


def test_no_training_data_are_outside_the_range(experiment, paths, trained):
    """Not even the cells that set it: what was trained on must never fall back."""
    run_export(experiment, paths)
    artifact = load_artifact(paths.model)
    for realisation in experiment.prepare.split.train:
        velocity = prepared_velocity(paths, realisation)
        output, counts = artifact.guarded(velocity)
        assert counts == (0, 0, 0) and torch.equal(output, artifact(velocity))
    assert artifact.guarded(2 * velocity)[1].outside > 0


def test_float64_is_the_network_in_float64_and_its_weights_stay_as_trained(experiment, paths, trained):
    wanted = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    run_export(set_export(experiment, dtype="float64"), paths)
    artifact = load_artifact(paths.model)
    velocity = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    assert artifact.metadata.dtype == "float64"
    assert artifact.golden_output.dtype == artifact(velocity).dtype == torch.float64
    assert artifact.golden_inputs[0].dtype == torch.float64 and artifact.guarded(velocity)[0].dtype == torch.float64
    reference = type(trained)().double()
    reference.load_state_dict(wanted)
    assert torch.equal(artifact(velocity), reference(velocity))
    assert all(torch.equal(artifact.weights[name], tensor) for name, tensor in wanted.items())
    assert all(artifact.weights[name].dtype == torch.float32 for name in wanted)


def test_metadata_name_the_fallback_and_the_halo(experiment, paths, trained):
    run_export(set_export(experiment, fallback={"kind": "smagorinsky", "constant": 0.3}), paths)
    artifact = load_artifact(paths.model)
    spacing = experiment.flow.domain[0] / 16
    assert artifact.metadata.fallback.constant == 0.3
    assert artifact.metadata.fallback.width == pytest.approx(spacing)
    assert artifact.metadata.halo == 2  # of a network that reaches one cell
    host = make_host(experiment.host, experiment.flow)
    closure = make_classical(Smagorinsky(kind="smagorinsky", constant=0.3), host)
    velocity = prepared_velocity(paths, 0)
    torch.testing.assert_close(artifact.classical(velocity), closure(velocity))


def test_certificate_holds_the_learned_score_and_the_best_classical_one(experiment, paths, trained):
    closures = [
        {"name": name, "relative_error_force": error}
        for name, error in (("learned", 0.4), ("none", 0.1), ("leith", 0.9), ("smagorinsky", 0.7), ("gradient 2", 0.8))
    ]
    write_json_atomic(paths.evaluation, {"target": "commutator", "closures": closures})
    run_export(experiment, paths)
    scores = load_artifact(paths.model).metadata.certificate.a_priori
    assert scores["learned"] == closures[0] and scores["best_classical"] == closures[3]
    assert scores["closures"] == closures


def test_the_best_classical_closure_is_so_at_what_the_network_was_trained_for(experiment, paths, trained):
    closures = [
        {"name": "learned", "relative_error_force": 0.4, "relative_error_sgs_force": 0.4},
        {"name": "leith", "relative_error_force": 0.7, "relative_error_sgs_force": 0.9},
        {"name": "gradient 2", "relative_error_force": 0.8, "relative_error_sgs_force": 0.6},
    ]
    for target, best in (("commutator", closures[1]), ("sgs_force", closures[2])):
        write_json_atomic(paths.evaluation, {"target": target, "closures": closures})
        run_export(experiment, paths)
        assert load_artifact(paths.model).metadata.certificate.a_priori["best_classical"] == best


@pytest.mark.parametrize("value", [0.0, 1.5, float("nan")])
def test_training_data_without_a_range_are_refused(experiment, paths, trained, write_prepared, value):
    """Everything that moves would be outside, so that every host would run the classical closure alone."""
    for realisation in experiment.prepare.split.train:
        write_prepared(paths, realisation, np.full((3, 2, 16, 16), value, np.float32))
    with pytest.raises(DataError, match="training data of realisations 0, 1 are uniform or not finite"):
        run_export(experiment, paths)
    assert not paths.model.exists()


def test_the_classical_closure_is_as_wide_as_the_filter(experiment, paths, trained):
    prepare = experiment.prepare.model_copy(update={"filter": Filter(kind="box", width_over_spacing=2.0)})
    run_export(experiment.model_copy(update={"prepare": prepare}), paths)
    metadata = load_artifact(paths.model).metadata
    assert metadata.fallback.width == metadata.filter.width == pytest.approx(2 * metadata.host.grid_spacing[0])


def test_same_weights_give_the_same_network(experiment, paths, trained):
    run_export(experiment, paths)
    first = weights_in(paths.model)
    run_export(experiment, paths)
    assert weights_in(paths.model) == first and first
    with torch.no_grad():
        trained.viscosity += 0.1
    run_export(experiment, paths)
    assert weights_in(paths.model) != first


def test_failure_leaves_the_old_artifact(experiment, paths, trained):
    run_export(experiment, paths)
    before = paths.model.read_bytes(), manifest_path(paths.model).read_bytes()
    with torch.no_grad():
        trained.viscosity.fill_(float("nan"))
    with pytest.raises(ModelRefusedError):
        run_export(experiment, paths)
    assert (paths.model.read_bytes(), manifest_path(paths.model).read_bytes()) == before
    assert sorted(path.name for path in paths.run_dir.iterdir()) == [
        "evaluate.json",
        "model.md",
        "model.pt",
        "model.pt.sha256",
        "parity.json",
        "prepared",
    ]


def test_closure_that_returns_nothing_is_refused(experiment, paths, trained):
    with torch.no_grad():
        trained.viscosity.zero_()
        trained.constant.zero_()
    with pytest.raises(ModelRefusedError, match="zeros"):
        run_export(experiment, paths)


def test_missing_evaluation_is_named(experiment, paths, trained):
    paths.evaluation.unlink()
    with pytest.raises(DataError, match="evaluate.json"):
        run_export(experiment, paths)


class NotScriptable(nn.Module):
    def forward(self, velocity: Tensor) -> Tensor:
        return torch.from_numpy(np.sin(velocity.numpy()))


def test_python_that_torchscript_cannot_express_is_refused():
    with pytest.raises(ModelRefusedError, match="NotScriptable"):
        script_module(NotScriptable())


def test_parity_tells_close_networks_apart(trained):
    velocity = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(5))
    other = type(trained)(constant=0.2001)
    assert parity(trained, script_module(trained), velocity) == 0
    with pytest.raises(ModelRefusedError, match="differ"):
        parity(trained, script_module(other), velocity)
