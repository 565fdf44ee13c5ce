"""From the experiment file to a network and back from its weights, and every way in which that is refused."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from hpcsurrogate.core.config import (
    CnnModel,
    Experiment,
    FiniteVolumeHost,
    Flow,
    QuadraticStencilModel,
    SpectralHost,
    TensorBasisModel,
)
from hpcsurrogate.core.errors import ConfigError, DataError, ModelRefusedError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.models.build import build_model, load_weights
from hpcsurrogate.models.cnn import PeriodicCnn
from hpcsurrogate.models.quadratic_stencil import QuadraticStencilNet
from hpcsurrogate.models.tensor_basis import TensorBasisNet

FLOW = Flow(viscosity=0.01)
STENCIL = QuadraticStencilModel(kind="quadratic_stencil", channels=2)
CNN = CnnModel(kind="cnn", channels=4, hidden_layers=1, kernel_size=3)
TENSORS = TensorBasisModel(kind="tensor_basis", channels=4, hidden_layers=1)
STAGGERED = FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01)
SPECTRAL = SpectralHost(kind="spectral", grid=(16, 16), time_step=0.01)
SCALES = SimpleNamespace(velocity_rms=2.0, commutator_rms=0.25)
VELOCITY = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(0))


def experiment_with(model):
    return Experiment.model_validate_json(
        json.dumps(
            {
                "name": "tiny",
                "run_dir": "unused",
                "flow": {"viscosity": 0.01},
                "host": {"kind": "finite_volume", "grid": [16, 16], "time_step": 0.01},
                "simulate": {"kind": "dns", "grid": [32, 32], "duration": 1.0, "snapshot_interval": 0.1},
                "prepare": {"split": {"train": [0], "validation": [1], "test": [2]}},
                "train": {"engine": "none", "model": model.model_dump()},
                "couple": {"duration": 1.0, "contenders": [{"name": "none", "closure": {"kind": "none"}}]},
            }
        )
    )


@pytest.mark.parametrize(
    "model, host, kind",
    [
        (STENCIL, STAGGERED, QuadraticStencilNet),
        (CNN, SPECTRAL, PeriodicCnn),
        (TENSORS, STAGGERED, TensorBasisNet),
        (TENSORS, SPECTRAL, TensorBasisNet),
    ],
)
def test_the_network_of_the_file_is_built(model, host, kind):
    module = build_model(model, host, FLOW, SCALES)
    assert isinstance(module, kind)
    output = module(VELOCITY)
    assert output.shape == VELOCITY.shape and output.dtype == torch.float32


def test_sizes_and_spacing_come_from_the_file():
    model = STENCIL.model_copy(update={"channels": 3, "output_channels": 5})
    flow = Flow(viscosity=0.01, domain=(2.0, 4.0))
    module = build_model(model, STAGGERED.model_copy(update={"grid": (16, 32)}), flow, None)
    assert module.inverse_spacing == pytest.approx(8.0)
    assert module.stencils.shape[0] == 6 and module.output.shape[0] == 5
    cnn = build_model(
        CNN.model_copy(update={"channels": 7, "hidden_layers": 2, "kernel_size": 5}), STAGGERED, FLOW, None
    )
    assert [tuple(layer.weight.shape) for layer in cnn.layers] == [(7, 2, 5, 5), (7, 7, 5, 5), (2, 7, 5, 5)]


def test_the_tensor_basis_takes_layout_and_spacing_of_the_host():
    flow = Flow(viscosity=0.01, domain=(2.0, 4.0))
    for host, staggered in ((STAGGERED, True), (SPECTRAL, False)):
        module = build_model(TENSORS.model_copy(update={"hidden_layers": 3}), host, flow, None)
        assert (module.spacing, module.staggered) == ([0.125, 0.25], staggered)
        assert [tuple(layer.weight.shape) for layer in module.stress.layers] == [(4, 2), (4, 4), (4, 4), (2, 4)]


BOX = Flow(viscosity=0.01, domain=(2.0, 4.0, 1.0))
IN_3D = {"grid": (8, 16, 8)}


@pytest.mark.parametrize("host", [STAGGERED, SPECTRAL])
@pytest.mark.parametrize("model", [TENSORS, CNN, CNN.model_copy(update={"scalars": ("reynolds_number",)})])
def test_networks_of_a_host_in_three_dimensions(model, host):
    module = build_model(model, host.model_copy(update=IN_3D), BOX, SCALES)
    velocity = torch.randn(2, 3, 8, 16, 8, generator=torch.Generator().manual_seed(0))
    output = module(velocity)
    assert output.shape == velocity.shape and output.abs().max() > 0
    # Momentum: in float32 a sum over 1024 values leaves some 1e-6 of the largest.
    assert output.mean((2, 3, 4)).abs().max() < 1e-5 * output.abs().max()


def test_networks_of_two_dimensions_are_refused_on_a_host_of_three():
    host = STAGGERED.model_copy(update=IN_3D)
    with pytest.raises(ConfigError, match="quadratic_stencil is of two dimensions.*take tensor_basis"):
        build_model(STENCIL, host, BOX, SCALES)
    patches = CnnModel(kind="cnn", principal_components={"patch": 3, "components": 4})
    with pytest.raises(ConfigError, match="train.model.principal_components: patches are of two dimensions"):
        build_model(patches, host, BOX, SCALES)


def test_scales_of_the_training_data_enter_the_cnn():
    module = build_model(CNN, STAGGERED, FLOW, SCALES)
    assert (module.velocity_scale.item(), module.force_scale.item()) == (2.0, 0.25)


def test_stencils_on_a_host_they_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="needs a finite_volume host.*take cnn"):
        build_model(STENCIL, SPECTRAL, FLOW, SCALES)
    with pytest.raises(ConfigError, match="square cells, not 0.392699 m by 0.589049 m"):
        build_model(STENCIL, STAGGERED, Flow(viscosity=0.01, domain=(2 * math.pi, 3 * math.pi)), SCALES)


@pytest.fixture
def paths(tmp_path):
    return RunPaths(tmp_path)


@pytest.mark.parametrize("model", [STENCIL, CNN, TENSORS])
def test_weights_come_back_ready_to_use(model, paths):
    torch.manual_seed(1)
    trained = build_model(model, STAGGERED, FLOW, SCALES)
    save_file(trained.state_dict(), paths.weights)
    loaded = load_weights(experiment_with(model), paths)
    assert torch.equal(loaded(VELOCITY), trained(VELOCITY))
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


def test_missing_weights_say_what_to_run(paths):
    with pytest.raises(DataError, match="weights.safetensors: no trained weights; run `hpcsurrogate train` first"):
        load_weights(experiment_with(CNN), paths)


@pytest.mark.parametrize("other", [CNN.model_copy(update={"channels": 5}), STENCIL])
def test_weights_of_another_network_are_refused_in_one_line(other, paths):
    save_file(build_model(CNN, STAGGERED, FLOW, SCALES).state_dict(), paths.weights)
    with pytest.raises(ModelRefusedError, match="not the weights of train.model") as refusal:
        load_weights(experiment_with(other), paths)
    assert "\n" not in str(refusal.value)


def test_a_damaged_file_is_refused(paths):
    save_file(build_model(CNN, STAGGERED, FLOW, SCALES).state_dict(), paths.weights)
    content = paths.weights.read_bytes()
    for damaged in (b"", b"not weights at all", content[: len(content) // 2]):
        paths.weights.write_bytes(damaged)
        with pytest.raises(ModelRefusedError, match="weights.safetensors: not the weights"):
            load_weights(experiment_with(CNN), paths)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(value, paths):
    state = build_model(CNN, STAGGERED, FLOW, SCALES).state_dict()
    state["layers.0.weight"][0, 0, 0, 0] = value
    save_file(state, paths.weights)
    with pytest.raises(ModelRefusedError, match="not finite"):
        load_weights(experiment_with(CNN), paths)
