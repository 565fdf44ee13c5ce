"""Guard and classical closure of single cells: always finite, counted by reason, out of the way of sound input."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hpcsurrogate.core.metadata import FallbackDescription, ValidityRange
from hpcsurrogate.export.pointwise_closure import PointwiseClosure, SmagorinskyStress
from hpcsurrogate.export.script import script_module
from hpcsurrogate.models.tensor_basis import TensorBasisStress

STEEPEST = 10.0  # [1/s]
CONSTANT = 0.2
VALIDITY = ValidityRange(velocity_magnitude=None, gradient_magnitude=(0.0, STEEPEST))
FALLBACK = FallbackDescription(kind="smagorinsky", constant=CONSTANT, width=None)
both = pytest.mark.parametrize("num_dims", [2, 3])
nan, inf = math.nan, math.inf


class Brittle(nn.Module):
    """A core that fails in cells narrower than 0.01 m, and everywhere if it is shown what the guard must keep off."""

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        poisoned = 0.0 * (velocity_gradient.sum() + filter_width.sum())
        return velocity_gradient[:, [0, 1, 3]] / (filter_width > 0.01).unsqueeze(1) + poisoned


def network(num_dims, dtype=torch.float32):
    torch.manual_seed(0)
    core = TensorBasisStress(num_dims, channels=4, hidden_layers=1)
    return PointwiseClosure(core, num_dims, FALLBACK, VALIDITY).to(dtype).eval().requires_grad_(False)


def cells(num_dims, count=30, dtype=torch.float32):
    """Gradients within the range and widths."""
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(count, num_dims**2, generator=generator, dtype=dtype)
    gradient *= 0.9 * STEEPEST / gradient.norm(dim=1).max()
    return gradient, 0.1 + torch.rand(count, generator=generator, dtype=dtype)


# --- the classical closure ------------------------------------------------------------------------------------------


@both
def test_classical_is_smagorinsky(num_dims):
    gradient, width = cells(num_dims, dtype=torch.float64)
    full = gradient.reshape(-1, num_dims, num_dims)
    strain = 0.5 * (full + full.mT)
    magnitude = (2 * strain.square().sum((1, 2))).sqrt()
    mean = strain.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] / num_dims
    deviator = strain - mean * torch.eye(num_dims, dtype=torch.float64)
    expected = -2 * ((CONSTANT * width) ** 2 * magnitude)[:, None, None] * deviator
    rows, columns = torch.triu_indices(num_dims, num_dims)
    found = SmagorinskyStress(num_dims, CONSTANT).double()(gradient, width)
    torch.testing.assert_close(found, expected[:, rows, columns], rtol=1e-12, atol=1e-14)


def test_classical_in_simple_shear_by_hand():
    # du/dy = 3 /s, Delta = 0.5 m: S_xy = 1.5, |S| = 3, nu_t = (0.2 0.5)^2 3 = 0.03 m^2/s, tau_xy = -2 0.03 1.5.
    gradient = torch.zeros(1, 9, dtype=torch.float64)
    gradient[0, 1] = 3.0
    stress = SmagorinskyStress(3, CONSTANT).double()(gradient, torch.tensor([0.5], dtype=torch.float64))
    torch.testing.assert_close(stress, torch.tensor([[0, -0.09, 0, 0, 0, 0]], dtype=torch.float64))


# --- the guard ------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_within_the_range_the_guard_changes_no_bit(num_dims, dtype):
    closure, (gradient, width) = network(num_dims, dtype), cells(num_dims, dtype=dtype)
    for module in (closure, script_module(closure)):
        stress, counts = module.guarded(gradient, width)
        assert torch.equal(stress, module(gradient, width)) and counts.tolist() == [0, 0, 0]
        stress, counts = module.guarded(gradient[:0], width[:0])
        assert stress.shape == (0, num_dims * (num_dims + 1) // 2) and counts.tolist() == [0, 0, 0]


@both
def test_fallen_cells_are_counted_once_by_reason_and_get_the_classical_stress(num_dims):
    closure, (gradient, width) = network(num_dims), cells(num_dims)
    gradient[0] *= 2 * STEEPEST / gradient[0].norm()
    gradient[1] = 1e38
    gradient[2, 1], gradient[3, 0], width[3], width[4] = nan, inf, nan, -inf
    gradient[5] *= 0  # a cell at rest is none of them
    fallen = torch.arange(len(width)) < 5
    for module in (closure, script_module(closure)):
        stress, counts = module.guarded(gradient, width)
        assert counts.tolist() == [2, 3, 0] and counts.dtype == torch.int64
        assert torch.equal(stress[fallen], module.classical(gradient, width)[fallen])
        torch.testing.assert_close(stress[~fallen], module(gradient, width)[~fallen], rtol=1e-6, atol=0)
        assert stress[0].any() and not stress[4].any()  # without a width there is no stress


def test_a_core_that_fails_is_replaced_and_never_sees_what_is_not_finite():
    closure = PointwiseClosure(Brittle(), 2, FALLBACK, VALIDITY).eval()
    gradient, width = cells(2)
    width[:4], gradient[4, 0], width[5] = 0.001, nan, inf
    stress, counts = closure.guarded(gradient, width)
    assert counts.tolist() == [0, 2, 4] and stress.isfinite().all()
    assert torch.equal(stress[:4], closure.classical(gradient, width)[:4])
    assert torch.equal(stress[6:], gradient[6:, [0, 1, 3]])


@both
def test_a_gradient_at_the_edge_of_the_range_is_inside(num_dims):
    gradient, width = cells(num_dims, count=1)
    at_edge = gradient * (STEEPEST / gradient.norm())
    assert network(num_dims).guarded(at_edge, width)[1].tolist() == [0, 0, 0]
    assert network(num_dims).guarded(1.001 * at_edge, width)[1].tolist() == [1, 0, 0]


any_float32 = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
ordinary = st.floats(-5, 5, width=32)
SCRIPTED = {num_dims: script_module(network(num_dims)) for num_dims in (2, 3)}


@both
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_comes_in_the_stress_is_finite_and_all_cells_are_accounted_for(num_dims, data):
    size = num_dims**2 + 1
    rows = data.draw(st.lists(st.lists(any_float32 | ordinary, min_size=size, max_size=size), max_size=4))
    gradient, width = torch.tensor(rows, dtype=torch.float32).reshape(-1, size).split([size - 1, 1], 1)
    stress, counts = SCRIPTED[num_dims].guarded(gradient, width[:, 0])
    assert stress.isfinite().all()
    not_finite = ~(gradient.isfinite().all(1) & width[:, 0].isfinite())
    outside = ~not_finite & (gradient.double().norm(dim=1) > 1.0001 * STEEPEST)
    assert counts[1] == not_finite.sum() and outside.sum() <= counts[0] and counts.sum() <= len(rows)
