"""A network on top of a base: the base at first, the symmetries and conservation of both parts, what it refuses."""

import json
from types import SimpleNamespace

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, Model, SpectralHost, Transfer
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.couple.contenders import LearnedClosure
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.models.build import build_model
from hpcsurrogate.physics.hosts import fold_closure, make_host
from hpcsurrogate.train.losses import squared_error
from hpcsurrogate.train.transfer import initialise, parameter_groups
from scripts.random_artifacts import random_velocity, write_random_artifact

FLOW = Flow(viscosity=0.01)
HOST = FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.02)
SCALES = SimpleNamespace(velocity_rms=1.5, commutator_rms=0.5)
BASE = {"kind": "deconvolution", "knots": 6}
STENCIL = {"kind": "quadratic_stencil", "channels": 1}
CNN = {"kind": "cnn", "channels": 4, "hidden_layers": 1, "kernel_size": 3}


def build(model, host=HOST, flow=FLOW, seed=0):
    torch.manual_seed(seed)
    return build_model(TypeAdapter(Model).validate_json(json.dumps(model)), host, flow, SCALES)


def residual(correction, **keywords):
    return build({"kind": "residual", "base": BASE, "correction": correction}, **keywords)


def shaken(net, seed=0):
    """In float64, with weights as if trained: none zero, the correction as large as the base."""
    generator = torch.Generator().manual_seed(seed)
    net = net.double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return net


def noise(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("correction", [STENCIL, CNN], ids=["stencil", "cnn"])
def test_untrained_it_is_the_base_and_all_of_the_last_layer_learns(correction):
    net, velocity = residual(correction), noise(2, 2, 16, 16)
    assert torch.equal(net(velocity), build(BASE)(velocity))
    # Against another network's output: at the base itself an error would have no slope.
    squared_error(net(velocity), noise(1, 2, 16, 16)).backward()
    learning = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    # The output's mean is taken out of a cnn, so that of the slope of its last bias round-off alone is left.
    last = {"correction.output"} if correction is STENCIL else {"correction.layers.1.weight"}
    assert learning - {"correction.layers.1.bias"} == {"base.values"} | last


@pytest.mark.parametrize("correction", [STENCIL, CNN], ids=["stencil", "cnn"])
def test_momentum_is_conserved(correction):
    net = shaken(residual(correction))
    force = net(noise(2, 2, 16, 16, dtype=torch.float64))
    # Round-off of float64 in a sum over 256 points.
    assert force.mean((2, 3)).abs().max() < 1e-12 * force.abs().max()


def test_has_the_symmetries_of_the_square_that_both_parts_have():
    net, velocity = shaken(residual(STENCIL)), noise(2, 2, 16, 16, dtype=torch.float64)

    def quarter_turn(field):
        """x -> -x after x <-> y, on the staggered layout, where u's mirror image starts one face later."""
        u, v = field.flip(1).transpose(-2, -1).unbind(1)
        return torch.stack((-torch.roll(u.flip(-2), -1, -2), v.flip(-2)), dim=1)

    expected = quarter_turn(net(velocity))
    assert (net.correction(velocity).abs().max() / net.base(velocity).abs().max()).item() > 0.1
    # Round-off of float64 through FFTs and sums over 50 points.
    torch.testing.assert_close(net(quarter_turn(velocity)), expected, rtol=0, atol=1e-12 * expected.abs().max().item())


@pytest.mark.parametrize("grid", [(16, 16), (8, 6, 10)])
def test_in_place_of_the_fluxes_of_the_host_it_is_the_same_in_the_mean_of_two_stages(grid, tmp_path):
    config, flow = HOST.model_copy(update={"grid": grid}), Flow(viscosity=1e-3, domain=(2.0, 3.0, 4.0)[: len(grid)])
    model = {"kind": "residual", "base": BASE, "correction": CNN}
    velocity = random_velocity(config, torch.float64)
    write_random_artifact(tmp_path / "model.pt", model, config, flow, velocity)
    host, closure = make_host(config, flow, torch.float64), LearnedClosure(load_artifact(tmp_path / "model.pt"))
    folded, left = fold_closure(host, closure)
    assert left is None
    state = host.encode(host.project(velocity))
    expected = host.solver.rhs(state, 0, closure)
    found = 0.5 * (folded.solver.rhs(state, 0) + folded.solver.rhs(state, 1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * expected.abs().max().item())


def test_scripted_is_the_eager_network():
    net, velocity = shaken(residual(STENCIL)), noise(2, 2, 16, 16, dtype=torch.float64)
    expected = net(velocity)
    scripted = torch.jit.script(net)
    for _ in range(3):  # the first calls are profiled, the third runs optimised code
        torch.testing.assert_close(scripted(velocity), expected, rtol=0, atol=1e-12 * expected.abs().max().item())


def test_learns_inside_the_host_what_its_base_lacks():
    """The truth is a run with a correction; another, trained through three steps, removes most of the error."""
    host = make_host(HOST, FLOW, dtype=torch.float64)
    truth, net = residual(STENCIL, seed=1).double(), residual(STENCIL, seed=1).double()
    start = host.project(noise(1, 2, 16, 16, dtype=torch.float64))

    def run(closure):
        state = host.encode(start)
        for _ in range(3):
            state = host.step(state, closure)
        return host.decode(state)

    with torch.no_grad():
        truth.correction.output += 0.05 * noise(*truth.correction.output.shape, dtype=torch.float64)
        target, of_the_base = run(truth), run(net.base)
    optimizer = torch.optim.LBFGS([net.correction.output], max_iter=10)

    def loss():
        optimizer.zero_grad()
        error = squared_error(run(net), target) / squared_error(of_the_base, target)
        error.backward()
        return error

    assert loss().item() == pytest.approx(1.0)
    optimizer.step(loss)
    # The last layer alone is free and the output linear in it: near a quadratic, ten steps take off far more than this.
    assert loss().item() < 0.1


def test_in_three_dimensions():
    host, flow = HOST.model_copy(update={"grid": (8, 8, 8)}), Flow(viscosity=0.01, domain=(2.0, 2.0, 2.0))
    net, velocity = residual(CNN, host=host, flow=flow), noise(1, 3, 8, 8, 8)
    assert torch.equal(net(velocity), build(BASE, host=host, flow=flow)(velocity))


def test_starts_from_the_weights_of_its_base_alone(tmp_path):
    base, net, velocity = shaken(build(BASE)).float(), residual(STENCIL, seed=2), noise(2, 2, 16, 16)
    stencils = net.correction.stencils.detach().clone()
    save_file(base.state_dict(), tmp_path / "weights.safetensors")
    transfer = Transfer(path=str(tmp_path / "weights.safetensors"), frozen=("base.*",))
    initialise(net, transfer)
    assert torch.equal(net(velocity), base(velocity)) and torch.equal(net.correction.stencils, stencils)
    [group] = parameter_groups(net, transfer)
    assert {id(p) for p in group["params"]} == {id(p) for p in net.correction.parameters()}


def test_starts_from_another_of_its_kind_in_the_units_of_its_own_data(tmp_path):
    source, net, velocity = shaken(residual(CNN)).float(), residual(CNN, seed=2), noise(2, 2, 16, 16)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    net.correction.force_scale.mul_(3.0)
    net.base.rate_scale.mul_(2.0)
    initialise(net, Transfer(path=str(tmp_path / "weights.safetensors")))
    assert torch.equal(net.correction(velocity), 3.0 * source.correction(velocity))
    assert net.base.rate_scale == 2.0 * source.base.rate_scale and torch.equal(net.base.values, source.base.values)


def test_weights_of_another_base_are_refused(tmp_path):
    save_file(build(BASE | {"knots": 7}).state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ConfigError, match=r"has values of shape \(7, 3\), train.model values of shape \(6, 3\)"):
        initialise(residual(STENCIL), Transfer(path=str(tmp_path / "weights.safetensors")))


@pytest.mark.parametrize(
    "keys", [{"scalars": ["reynolds_number"]}, {"principal_components": {"patch": 3, "components": 4}}]
)
def test_a_correction_that_sees_more_than_the_velocity_is_refused(keys):
    with pytest.raises(ConfigError, match="train.model.correction: a cnn on top of another network"):
        residual(CNN | keys)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="deconvolution replaces the central fluxes"):
        residual(CNN, host=SpectralHost(kind="spectral", grid=(16, 16), time_step=0.02))
    with pytest.raises(ValidationError, match="deconvolution"):
        build({"kind": "residual", "base": STENCIL, "correction": CNN})
