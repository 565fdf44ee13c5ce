"""Transfer: every source gives the same function, units stay the new data's, what does not fit is refused by name."""

import json
from hashlib import sha256
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from hpcsurrogate.core.config import CnnModel, FiniteVolumeHost, Flow, QuadraticStencilModel, Transfer
from hpcsurrogate.core.errors import ConfigError, ModelRefusedError
from hpcsurrogate.core.metadata import ArtifactMetadata, FilterDescription, HostDescription
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.pointwise import describe_pointwise, write_pointwise
from hpcsurrogate.export.script import artifact_bytes, script_module, write_artifact
from hpcsurrogate.models.build import build_model
from hpcsurrogate.models.features import patch_covariance
from hpcsurrogate.models.tensor_basis import TensorBasisStress
from hpcsurrogate.train.checkpoint_files import publish_folder
from hpcsurrogate.train.transfer import initialise, parameter_groups, transfer_digest

HOST = FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01)
CNN = {"kind": "cnn", "channels": 4, "hidden_layers": 2, "kernel_size": 3}
FIELD = {"unit": "m/s", "components": ["x", "y"], "layout": "staggered", "axes": "bcxy"}
METADATA = {
    "schema_version": 2, "name": "source", "kind": "grid", "dtype": "float32",
    "inputs": [FIELD | {"field": "velocity"}], "outputs": [FIELD | {"field": "commutator", "unit": "m/s^2"}],
    "filter": {"kind": "face_average", "width": 0.1},
    "host": {"kind": "finite_volume", "order": 2, "grid_spacing": [0.1, 0.1], "time_step": 0.01},
    "validity": {"velocity_magnitude": [0.0, 1.0], "gradient_magnitude": [0.0, 1.0]},
    "halo": None, "fallback": {"kind": "smagorinsky", "constant": 0.17, "width": 0.1},
    "training_data_digest": "0" * 64, "config_digest": "0" * 64, "provenance": {},
    "certificate": {"residuals": {}, "a_priori": {}, "a_posteriori": "unverified"},
}  # fmt: skip


def velocity(scale=1.0):
    return scale * torch.randn(3, 2, 16, 16, generator=torch.Generator().manual_seed(5))


def network(seed, speed=1.0, viscosity=0.01, **model):
    """A network for data of this root mean square velocity [m/s], its features fitted to them."""
    torch.manual_seed(seed)
    config = CnnModel.model_validate_json(json.dumps(CNN | model))
    scales = SimpleNamespace(velocity_rms=1.5 * speed, commutator_rms=0.3 * speed**2)
    module = build_model(config, HOST, Flow(viscosity=viscosity), scales)
    if module.patches is not None:
        module.patches.fit(*patch_covariance(velocity(speed), 3))
    if module.scalars is not None:
        factors = torch.tensor([0.5, 1.0, 2.0])
        module.scalars.fit(0.4, viscosity, velocity(speed) * factors.view(3, 1, 1, 1), 0.4 * factors)
    return module


@pytest.fixture(scope="module")
def source():
    return network(seed=1)


def write_weights(module, folder):
    save_file(module.state_dict(), folder / "weights.safetensors")
    return folder / "weights.safetensors"


def write_checkpoint(module, folder):
    step = folder / "step-00000012"
    publish_folder(step, [("best.safetensors", save(module.state_dict()))], step=12, config_digest="of its own")
    return step


def write_model(module, folder, weights=True):
    module.eval()
    golden_input = velocity()[:1]
    metadata = ArtifactMetadata.from_json(json.dumps(METADATA))
    closure = script_module(GridClosure(module, metadata.fallback, metadata.validity, "staggered", (0.1, 0.1)))
    with torch.no_grad():
        golden_output = closure(golden_input)
    content = artifact_bytes(closure, metadata, [golden_input], golden_output, module.state_dict() if weights else None)
    write_artifact(folder / "model.pt", content)
    return folder / "model.pt"


@pytest.mark.parametrize("write", [write_weights, write_checkpoint, write_model])
def test_every_source_gives_the_same_function(write, source, tmp_path):
    module = network(seed=2)
    initialise(module, Transfer(path=str(write(source, tmp_path))))
    assert torch.equal(module(velocity()), source(velocity()))


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"principal_components": {"patch": 3, "components": 6}},
        {"scalars": ["reynolds_number"]},
    ],
)
def test_units_are_those_of_the_new_data(model, tmp_path):
    old, speed = network(seed=1, **model), 20.0
    module = network(seed=2, speed=speed, viscosity=0.01 * speed, **model)
    initialise(module, Transfer(path=str(write_weights(old, tmp_path))))
    # The same flow measured in other units; round-off of float32 through three layers, relative to outputs of order 1.
    expected = speed**2 * old(velocity())
    torch.testing.assert_close(module(velocity(speed)), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_width_and_viscosity_stay_the_experiments_own(tmp_path):
    model = {"scalars": ["filter_width", "reynolds_number"]}
    module, old = network(seed=2, viscosity=0.3, **model), network(seed=1, **model)
    old.scalars.own_width.fill_(9.0)
    initialise(module, Transfer(path=str(write_weights(old, tmp_path))))
    assert module.scalars.viscosity.item() == pytest.approx(0.3)
    assert module.scalars.own_width.item() == pytest.approx(0.4)
    assert torch.equal(module.scalars.mean, old.scalars.mean)


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ({"channels": 5}, "layers.0.weight of shape"),
        ({"hidden_layers": 1}, "layers.1.weight of shape"),
        ({"principal_components": {"patch": 3, "components": 2}}, "has no patches.kernels"),
    ],
)
def test_another_size_is_refused_by_the_first_name_that_does_not_fit(model, what, source, tmp_path):
    with pytest.raises(ConfigError, match=what):
        initialise(network(seed=2, **model), Transfer(path=str(write_weights(source, tmp_path))))


def test_what_the_model_lacks_is_refused(tmp_path):
    old = network(seed=1, principal_components={"patch": 3, "components": 2})  # as wide as the velocity
    with pytest.raises(ConfigError, match=r"has patches\.\w+ of shape .*, train.model no patches\."):
        initialise(network(seed=2), Transfer(path=str(write_weights(old, tmp_path))))


def test_another_kind_is_refused(source, tmp_path):
    stencils = build_model(QuadraticStencilModel(kind="quadratic_stencil"), HOST, Flow(viscosity=0.01), None)
    with pytest.raises(ConfigError, match="no stencils, train.model stencils of shape"):
        initialise(stencils, Transfer(path=str(write_weights(source, tmp_path))))


@pytest.mark.parametrize("place", ["missing.safetensors", "."])
def test_a_path_without_weights_says_what_may_stand_there(place, tmp_path):
    for function in (transfer_digest, lambda transfer: initialise(network(seed=2), transfer)):
        with pytest.raises(ConfigError, match="train.initialise_from.path: .* name an artifact"):
            function(Transfer(path=str(tmp_path / place)))


def flip_last_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_refused(source, tmp_path):
    step = write_checkpoint(source, tmp_path)
    flip_last_bit(step / "best.safetensors")
    model = write_model(source, tmp_path)
    flip_last_bit(model)
    weights = write_weights(source, tmp_path)
    record = {"outputs": {weights.name: {"sha256": sha256(weights.read_bytes()).hexdigest()}}}
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/train.json").write_text(json.dumps(record))
    initialise(network(seed=2), Transfer(path=str(weights)))
    flip_last_bit(weights)
    for path in (step, model, weights):
        with pytest.raises(ModelRefusedError, match="SHA-256"):
            initialise(network(seed=2), Transfer(path=str(path)))


def test_a_checkpoint_without_its_manifest_is_refused(source, tmp_path):
    step = write_checkpoint(source, tmp_path)
    (step / "manifest.json").unlink()
    with pytest.raises(ModelRefusedError, match="manifest.json"):
        initialise(network(seed=2), Transfer(path=str(step)))


def test_weights_that_are_not_finite_or_no_safetensors_are_refused(source, tmp_path):
    state = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    state["layers.1.bias"][2] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    (tmp_path / "text.safetensors").write_text("weights")
    for name, what in (("nan", "layers.1.bias holds values that are not finite"), ("text", "no whole safetensors")):
        with pytest.raises(ModelRefusedError, match=what):
            initialise(network(seed=2), Transfer(path=str(tmp_path / f"{name}.safetensors")))


def test_a_pointwise_artifact_is_refused(tmp_path):
    filtered = FilterDescription(kind="box", width=0.1)
    host = HostDescription(kind="finite_volume", order=2, grid_spacing=(0.1, 0.1), time_step=0.01)
    path = tmp_path / "pointwise.pt"
    write_pointwise(path, TensorBasisStress(2, 4, 1), describe_pointwise("part", 2, filtered, host, 10.0))
    with pytest.raises(ConfigError, match=r"pointwise\.pt holds a part of a network; name the model\.pt"):
        initialise(network(seed=2), Transfer(path=str(path)))


def test_an_artifact_without_names_is_refused(source, tmp_path):
    write_model(source, tmp_path, weights=False)
    with pytest.raises(ModelRefusedError, match="no weights by name"):
        initialise(network(seed=2), Transfer(path=str(tmp_path / "model.pt")))


def test_digest_follows_the_weights(source, tmp_path):
    step, weights = write_checkpoint(source, tmp_path), write_weights(source, tmp_path)
    before = [transfer_digest(Transfer(path=str(path))) for path in (step, weights)]
    assert before[0] == before[1]  # the same bytes under two names
    state = load_file(weights)
    state["layers.0.bias"] += 1
    save_file(state, weights)
    assert transfer_digest(Transfer(path=str(weights))) != before[1]


def groups_by_name(module, groups):
    names = {parameter: name for name, parameter in module.named_parameters()}
    return [([names[parameter] for parameter in group["params"]], group["rate_factor"]) for group in groups]


def test_groups_take_the_first_name_that_fits_and_leave_out_the_frozen():
    module = network(seed=1)
    transfer = Transfer(path="-", frozen=("layers.0.*",), learning_rates={"layers.?.bias": 0.1, "layers.1.*": 0.5})
    groups = groups_by_name(module, parameter_groups(module, transfer))
    assert groups == [
        (["layers.2.weight"], 1.0),
        (["layers.1.bias", "layers.2.bias"], 0.1),
        (["layers.1.weight"], 0.5),
    ]
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    assert frozen == {"layers.0.weight", "layers.0.bias"}


def test_frozen_weights_keep_their_values_and_the_others_learn_at_their_rates():
    module = network(seed=1)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    transfer = Transfer(path="-", frozen=("layers.0.*",), learning_rates={"layers.1.weight": 0.1})
    optimizer = torch.optim.AdamW(parameter_groups(module, transfer), weight_decay=0.0)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 * group["rate_factor"]
    module(velocity()).square().sum().backward()
    optimizer.step()
    moved = {name: (p.detach() - before[name]).abs().max().item() for name, p in module.named_parameters()}
    assert moved["layers.0.weight"] == moved["layers.0.bias"] == 0.0
    # Adam's first step has the size of the learning rate, up to its epsilon and the rounding of the weights (1e-8).
    assert moved["layers.1.weight"] == pytest.approx(1e-4, rel=1e-3)
    assert moved["layers.2.weight"] == pytest.approx(1e-3, rel=1e-3)


def test_without_transfer_all_parameters_are_one_group():
    module = network(seed=1)
    [(names, factor)] = groups_by_name(module, parameter_groups(module, None))
    assert names == [name for name, _ in module.named_parameters()]
    assert factor == 1.0


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"frozen": ["layers.0.wieght"]}, "nearest is 'layers.0.weight'"),
        ({"learning_rates": {"layer.2.*": 0.1}}, "'layer.2..' fits no parameter; the nearest is 'layers.2"),
        ({"learning_rates": {"*": 0.1, "layers.2.bias": 1.0}}, "'layers.2.bias' fits only layers.2.bias"),
        ({"frozen": ["*"]}, "nothing is left to learn"),
    ],
)
def test_names_that_do_nothing_are_refused(keys, what):
    transfer = Transfer.model_validate_json(json.dumps({"path": "-"} | keys))
    with pytest.raises(ConfigError, match=what):
        parameter_groups(network(seed=1), transfer)
