"""Every network that an experiment can name survives export: scripted, frozen, and equal to the eager one."""

from types import SimpleNamespace

import pytest
import torch

from hpcsurrogate.core.config import CnnModel, FiniteVolumeHost, Flow, QuadraticStencilModel
from hpcsurrogate.export.certificate import measure_residuals
from hpcsurrogate.export.parity import TOLERANCES
from hpcsurrogate.export.script import parity, script_module
from hpcsurrogate.models.build import build_model

FLOW = Flow(viscosity=1e-3)
HOST = FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01)
SCALES = SimpleNamespace(velocity_rms=1.5, commutator_rms=0.3)


def make_network(model):
    torch.manual_seed(0)
    return build_model(model, HOST, FLOW, SCALES).eval()


@pytest.mark.parametrize(
    "model",
    [
        QuadraticStencilModel(kind="quadratic_stencil", channels=2),
        QuadraticStencilModel(kind="quadratic_stencil", channels=2, output_channels=3),
        CnnModel(kind="cnn", channels=4, hidden_layers=2),
        CnnModel(kind="cnn", channels=4, hidden_layers=2, dropout=0.5),
    ],
)
def test_scripted_network_is_the_eager_one(model):
    network = make_network(model)
    velocity = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    assert parity(network, script_module(network), velocity) <= TOLERANCES[velocity.dtype]


def test_exported_network_has_no_dropout():
    network = make_network(CnnModel(kind="cnn", channels=4, hidden_layers=2, dropout=0.5)).train()
    assert "dropout" not in str(script_module(network).inlined_graph)


def test_certificate_of_the_equivariant_network():
    network = make_network(QuadraticStencilModel(kind="quadratic_stencil", channels=2))
    velocity = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    spacing = FLOW.domain[0] / 16
    residuals = measure_residuals(network, velocity, "staggered", (spacing, spacing))
    # Exact in the mathematics; in float32 sums over a few hundred products leave some 1e-6.
    for name in ("reflection_x", "reflection_y", "transposition", "rotation_90", "momentum"):
        assert residuals[name] < 1e-5, name
