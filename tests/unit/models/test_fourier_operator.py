"""The Fourier neural operator: what holds for any weights, and that it can learn an operator that is not local."""

from types import SimpleNamespace

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, FourierOperatorModel
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.export.script import script_module
from hpcsurrogate.models.build import build_model
from hpcsurrogate.models.fourier_operator import FourierOperator

DOUBLE = torch.float64
SHAPES = [(16, 12), (8, 10, 12)]


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def network(num_dims, modes=3):
    torch.manual_seed(0)
    return FourierOperator(num_dims, 4, 2, modes, velocity_scale=2.0, force_scale=5.0).double()


@pytest.mark.parametrize("shape", SHAPES, ids=["2-D", "3-D"])
def test_moves_with_the_flow_and_keeps_momentum(shape):
    dims = len(shape)
    net, velocity = network(dims), noise(2, dims, *shape)
    axes, steps = tuple(range(2, dims + 2)), (3, 5, 2)[:dims]
    force = net(velocity)
    assert force.abs().max() > 0.1
    # Round-off of a few FFTs and sums over channels.
    assert torch.allclose(net(velocity.roll(steps, axes)), force.roll(steps, axes), rtol=0, atol=1e-13)
    assert force.mean(axes).abs().max() < 1e-14


@pytest.mark.parametrize("shape", SHAPES, ids=["2-D", "3-D"])
def test_a_layer_is_the_same_operator_on_a_finer_grid(shape):
    """A field without modes above `modes` keeps its values at common points, whatever the grid."""
    dims = len(shape)
    net = network(dims)
    matrix = torch.view_as_complex(net.matrices.detach())[0]
    convolve = net.convolve_2d if dims == 2 else net.convolve_3d
    fine = [2 * n for n in shape]
    axes = tuple(range(2, dims + 2))
    # The operator's own output is such a field.
    field = convolve(noise(1, 4, *fine), matrix)
    every_second = (slice(None), slice(None), *[slice(None, None, 2)] * dims)
    assert field.abs().max() > 0.01
    found = convolve(field[every_second], matrix)
    expected = convolve(field, matrix)[every_second]
    assert torch.allclose(found, expected, rtol=0, atol=1e-14)
    assert found.shape[2:] == shape and torch.fft.fftn(field, dim=axes).isfinite().all()


@pytest.mark.parametrize("shape", SHAPES, ids=["2-D", "3-D"])
def test_exported_form_gives_the_same(shape):
    net, velocity = network(len(shape)), noise(1, len(shape), *shape)
    torch.testing.assert_close(script_module(net)(velocity), net(velocity), rtol=0, atol=1e-13)


def test_learns_an_operator_of_the_whole_field():
    """Twenty steps bring a shift by a third of the box, out of reach of stencils, well below the error of zero."""
    net = FourierOperator(2, 8, 1, 5).double()
    velocity = torch.fft.irfft2(torch.fft.rfft2(noise(16, 2, 12, 12))[..., :4], s=(12, 12))
    target = velocity.roll((4, 4), (2, 3))
    target = target - target.mean((2, 3), keepdim=True)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = (net(velocity) - target).square().mean() / target.square().mean()
        value.backward()
        return value

    optimizer.step(loss)
    assert loss().item() < 0.3


def test_is_built_with_no_more_modes_than_the_grid_has():
    model = FourierOperatorModel(kind="fourier_operator", channels=4, hidden_layers=1, modes=7)
    flow, host = Flow(viscosity=0.01), FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01)
    net = build_model(model, host, flow, SimpleNamespace(velocity_rms=2.0, commutator_rms=0.25))
    assert (net.velocity_scale.item(), net.force_scale.item()) == (2.0, 0.25)
    assert net.matrices.shape == (1, 4, 4, 15, 8, 2)
    with pytest.raises(ConfigError, match="train.model.modes: 8 modes need more than 16 points"):
        build_model(model.model_copy(update={"modes": 8}), host, flow, None)
