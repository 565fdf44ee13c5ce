"""The tensor basis closure keeps what physics demands for any weights, and holds classical models as special cases."""

import pytest
import torch

from hpcsurrogate.export.script import script_module
from hpcsurrogate.models.tensor_basis import (
    NUM_INVARIANTS,
    NUM_TENSORS,
    TensorBasisNet,
    TensorBasisStress,
    tensor_basis_2d,
    tensor_basis_3d,
)

ROUND_OFF = 1e-12  # float64, relative to the largest value of the output
CELLS = 40
both = pytest.mark.parametrize("num_dims", [2, 3])


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def stress_network(num_dims, seed=0):
    """Random weights, the last layer's as large as the others', so that errors show."""
    torch.manual_seed(seed)
    network = TensorBasisStress(num_dims, channels=6, hidden_layers=2).double()
    with torch.no_grad():
        for parameter in network.layers[-1].parameters():
            parameter.mul_(10)
    return network.requires_grad_(False)


def cells(num_dims):
    return noise(CELLS, num_dims**2), 0.1 + noise(CELLS, seed=1).abs()


def full(stress, num_dims):
    """Symmetric components to matrices."""
    rows, columns = torch.triu_indices(num_dims, num_dims)
    matrices = stress.new_zeros(len(stress), num_dims, num_dims)
    matrices[:, rows, columns] = matrices[:, columns, rows] = stress
    return matrices


def turns(num_dims, sign):
    """One random rotation (sign 1) or reflection (sign -1) a cell."""
    matrices = torch.linalg.qr(noise(CELLS, num_dims, num_dims, seed=2))[0]
    matrices[:, :, 0] *= (sign * torch.linalg.det(matrices).sign())[:, None]
    return matrices


def assert_close(computed, expected):
    scale = expected.abs().max().item()
    assert scale > 0.1
    torch.testing.assert_close(computed, expected, rtol=0, atol=ROUND_OFF * scale)


@both
@pytest.mark.parametrize("sign", [1, -1])
def test_equivariant_under_every_rotation_and_reflection(num_dims, sign):
    network, (gradient, width), turn = stress_network(num_dims), cells(num_dims), turns(num_dims, sign)
    torch.testing.assert_close(torch.linalg.det(turn), torch.full((CELLS,), float(sign), dtype=torch.float64))
    turned = (turn @ gradient.reshape(-1, num_dims, num_dims) @ turn.mT).reshape(CELLS, -1)
    assert_close(full(network(turned, width), num_dims), turn @ full(network(gradient, width), num_dims) @ turn.mT)


@both
def test_trace_free_homogeneous_of_degree_2_and_zero_at_rest(num_dims):
    network, (gradient, width) = stress_network(num_dims), cells(num_dims)
    stress = network(gradient, width)
    trace = full(stress, num_dims).diagonal(dim1=1, dim2=2).sum(1)
    assert trace.abs().max() < ROUND_OFF * stress.abs().max()
    assert_close(network(0.3 * gradient, 2 * width), 0.36 * stress)
    assert not network(torch.zeros_like(gradient), width).any()


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivative_is_finite_at_rest_and_for_denormal_gradients(num_dims, dtype):
    network = stress_network(num_dims).to(dtype)
    for size in (0.0, 1e-45, 1e-30, 1e-18):
        gradient = torch.full((3, num_dims**2), size, dtype=dtype, requires_grad=True)
        network(gradient, torch.ones(3, dtype=dtype)).sum().backward()
        assert gradient.grad.isfinite().all() and gradient.grad.abs().max() <= 1e3 * size


def test_the_tensors_are_popes():
    gradient = noise(CELLS, 9)
    full_gradient = gradient.reshape(-1, 3, 3)
    invariants, tensors = tensor_basis_3d(gradient.T)
    one = torch.eye(3, dtype=torch.float64)

    def mean(matrix):
        return matrix.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] / 3 * one

    w = 0.5 * (full_gradient - full_gradient.mT)
    s = 0.5 * (full_gradient + full_gradient.mT) - mean(full_gradient)
    expected = [  # Pope 1975, equation 2.11, in his order
        s, s @ w - w @ s, s @ s - mean(s @ s), w @ w - mean(w @ w), w @ s @ s - s @ s @ w,
        w @ w @ s + s @ w @ w - 2 * mean(s @ w @ w), w @ s @ w @ w - w @ w @ s @ w, s @ w @ s @ s - s @ s @ w @ s,
        w @ w @ s @ s + s @ s @ w @ w - 2 * mean(s @ s @ w @ w), w @ s @ s @ w @ w - w @ w @ s @ s @ w,
    ]  # fmt: skip
    assert tensors.shape[0] == NUM_TENSORS[3] == len(expected)
    for number, tensor in enumerate(expected):
        torch.testing.assert_close(full(tensors[number].T, 3), tensor, rtol=0, atol=1e-12)
    traces = [3 * mean(matrix)[:, 0, 0] for matrix in (s @ s, w @ w, s @ s @ s, w @ w @ s, w @ w @ s @ s)]
    torch.testing.assert_close(invariants, torch.stack(traces), rtol=0, atol=1e-12)
    assert invariants.shape[0] == NUM_INVARIANTS[3]


def test_a_plane_flow_has_the_two_tensors_of_two_dimensions():
    plane = noise(CELLS, 2, 2)
    plane[:, 1, 1] = -plane[:, 0, 0]  # else the third dimension takes a part of the trace
    space = torch.zeros(CELLS, 3, 3, dtype=torch.float64)
    space[:, :2, :2] = plane
    invariants, tensors = tensor_basis_2d(plane.flatten(1).T)
    invariants_3d, tensors_3d = tensor_basis_3d(space.flatten(1).T)
    torch.testing.assert_close(tensors, tensors_3d[:2, [0, 1, 3]], rtol=0, atol=1e-13)
    torch.testing.assert_close(invariants, invariants_3d[:2], rtol=0, atol=1e-13)


def with_coefficients(*coefficients):
    """A network in two dimensions whose coefficients are constants."""
    network = stress_network(2)
    network.layers[-1].weight.zero_()
    network.layers[-1].bias.copy_(torch.tensor(coefficients, dtype=torch.float64))
    return network


def test_the_gradient_model_is_a_special_case():
    gradient, width = cells(2)
    gradient[:, 3] = -gradient[:, 0]
    square = gradient.reshape(-1, 2, 2) @ gradient.reshape(-1, 2, 2).mT
    mean = square.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] / 2 * torch.eye(2)
    expected = width[:, None, None] ** 2 / 12 * (square - mean)
    assert_close(full(with_coefficients(0.0, -1 / 12)(gradient, width), 2), expected)


@both
def test_no_cells_are_no_trouble_and_every_weight_learns(num_dims):
    network, (gradient, width) = stress_network(num_dims).requires_grad_(True), cells(num_dims)
    assert network(gradient[:0], width[:0]).shape == (0, num_dims * (num_dims + 1) // 2)
    network(gradient, width).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scripted_is_the_eager_one(num_dims, dtype):
    network = stress_network(num_dims).to(dtype).eval()
    gradient, width = (tensor.to(dtype) for tensor in cells(num_dims))
    scripted, expected = script_module(network), network(gradient, width)
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-14}[dtype] * expected.abs().max().item()
    for _ in range(3):  # the first calls are profiled, the third runs optimised code
        torch.testing.assert_close(scripted(gradient, width), expected, rtol=0, atol=tolerance)
    assert scripted(gradient[:0], width[:0]).shape[0] == 0


# --- on a grid ------------------------------------------------------------------------------------------------------


def grid_network(staggered=True, spacing=(0.2, 0.2)):
    network = TensorBasisNet(spacing, staggered, channels=6, hidden_layers=2).double()
    network.stress = stress_network(2)
    return network


def transpose(velocity):
    return velocity.flip(1).transpose(-2, -1)


@pytest.mark.parametrize("staggered", [True, False])
def test_on_a_grid_it_keeps_symmetries_momentum_and_scaling(staggered):
    network, velocity = grid_network(staggered), noise(2, 2, 12, 12)
    force = network(velocity)
    assert_close(network(transpose(velocity)), transpose(force))
    assert_close(network(velocity.roll((3, -2), (-2, -1))), force.roll((3, -2), (-2, -1)))
    assert_close(network(3 * velocity), 9 * force)
    assert_close(network(velocity + 0.7), force)
    assert force.sum((-2, -1)).abs().max() < ROUND_OFF * force.abs().sum()


def test_on_a_grid_the_width_is_that_of_the_filter():
    network, velocity = grid_network(spacing=(0.2, 0.3)), noise(1, 2, 8, 10)
    assert network.filter_width.item() == pytest.approx(0.06**0.5)
    force = network(velocity)
    network.filter_width.mul_(2)
    assert_close(network(velocity), 4 * force)
    assert "filter_width" in network.state_dict()


def test_on_a_grid_it_can_be_the_hosts_smagorinsky_without_the_averaging():
    # One wave of pure shear, du/dy alone: the average over corners is the only difference, of second order.
    constant, errors = 0.2, []
    for num_points in (32, 64):
        spacing = 2 * torch.pi / num_points
        y = (torch.arange(num_points, dtype=torch.float64) + 0.5) * spacing
        velocity = torch.zeros(1, 2, 4, num_points, dtype=torch.float64)
        velocity[:, 0] = torch.sin(y)
        network = grid_network(spacing=(spacing, spacing))
        # -2 (C Delta)^2 |S| S with |S| = |du/dy| = |G|: T_1 has the component xy 1/2 du/dy / |G|.
        network.stress = with_coefficients(-2 * constant**2, 0.0)
        # tau_xy = -(C Delta)^2 |cos y| cos y, force = -d(tau_xy)/dy.
        expected = -((constant * spacing) ** 2) * 2 * torch.cos(y).abs() * torch.sin(y)
        error = (network(velocity)[0, 0, 0] - expected) / (constant * spacing) ** 2
        errors.append(error.abs()[torch.cos(y).abs() > 0.3].max().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("staggered", [True, False])
def test_on_a_grid_scripted_is_the_eager_one(staggered):
    network, velocity = grid_network(staggered).eval(), noise(2, 2, 8, 10)
    scripted = script_module(network)
    for _ in range(3):
        assert_close(scripted(velocity), network(velocity))
