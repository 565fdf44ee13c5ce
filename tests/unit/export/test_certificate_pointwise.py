"""Residuals of pointwise closures: round-off for one that keeps the properties, of order one for one that does not."""

import pytest
import torch

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.export.certificate_pointwise import full_tensor, measure_pointwise_residuals, random_turns
from hpcsurrogate.export.pointwise_closure import SmagorinskyStress
from hpcsurrogate.models.tensor_basis import TensorBasisStress

NAMES = {"galilean_invariance", "rotation", "reflection", "trace", "uniform_flow", "change_of_units"}
both = pytest.mark.parametrize("num_dims", [2, 3])


def cells(num_dims, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    gradient = 3 * torch.randn(200, num_dims**2, generator=generator, dtype=torch.float64)
    return gradient.to(dtype), (0.1 + torch.rand(200, generator=generator, dtype=torch.float64)).to(dtype)


@both
@pytest.mark.parametrize("sign", [1, -1])
def test_turns_are_orthogonal_of_the_right_sign_and_in_all_directions(num_dims, sign):
    turns = random_turns(4000, num_dims, sign)
    one = torch.eye(num_dims, dtype=torch.float64).expand_as(turns)
    torch.testing.assert_close(turns @ turns.mT, one, rtol=0, atol=1e-13)
    torch.testing.assert_close(torch.linalg.det(turns), torch.full((4000,), float(sign), dtype=torch.float64))
    # The mean of evenly distributed matrices is zero; 4000 of them leave 1/sqrt(4000 d) = 0.01 to 0.02.
    assert turns.mean(0).abs().max() < 0.05
    assert torch.equal(turns, random_turns(4000, num_dims, sign))


def test_components_fill_a_symmetric_matrix():
    expected = torch.tensor([[[1, 2, 3], [2, 4, 5], [3, 5, 6]]])
    assert torch.equal(full_tensor(torch.tensor([[1, 2, 3, 4, 5, 6]]), 3), expected)


@both
@pytest.mark.parametrize("dtype, most", [(torch.float32, 2e-6), (torch.float64, 1e-14)])
def test_closures_of_tensors_leave_round_off(num_dims, dtype, most):
    torch.manual_seed(0)
    for core in (SmagorinskyStress(num_dims, 0.1), TensorBasisStress(num_dims, 8, 2)):
        residuals = measure_pointwise_residuals(core.to(dtype), *cells(num_dims, dtype))
        assert residuals.keys() == NAMES and max(residuals.values()) < most


def upper(gradient, num_dims):
    """Components of the symmetric part."""
    full = gradient.reshape(-1, num_dims, num_dims)
    rows, columns = torch.triu_indices(num_dims, num_dims)
    return (0.5 * (full + full.mT))[:, rows, columns]


def only_xy(gradient, width):
    """One direction of space is another than the others."""
    stress = torch.zeros(len(width), upper(gradient, 3).shape[1], dtype=gradient.dtype)
    stress[:, 1] = width**2 * gradient.norm(dim=1) * gradient[:, 1]
    return stress


def left_handed(gradient, width):
    """Depends on the sense of rotation: in a plane, the strain turned by 45 degrees."""
    xx, xy, yy = upper(gradient, 2).unbind(1)
    normal = 0.5 * (xx - yy)
    return (width**2 * gradient.norm(dim=1))[:, None] * torch.stack((-xy, normal, xy), 1)


def test_a_direction_that_is_preferred_shows():
    residuals = measure_pointwise_residuals(only_xy, *cells(3))
    assert residuals["rotation"] > 0.5 and residuals["reflection"] > 0.5
    assert residuals["trace"] == 0 and residuals["change_of_units"] < 1e-14


def test_a_sense_of_rotation_shows_in_reflections_alone():
    residuals = measure_pointwise_residuals(left_handed, *cells(2))
    assert residuals["rotation"] < 1e-14 and residuals["reflection"] > 0.5


def test_an_offset_shows():
    def offset(gradient, width):
        return upper(gradient, 2) + 5.0

    residuals = measure_pointwise_residuals(offset, *cells(2))
    for name in ("change_of_units", "trace", "uniform_flow"):
        assert residuals[name] > 0.15, name


def test_a_closure_that_dwells_on_round_off_is_not_galilean_invariant():
    def chaotic(gradient, width):
        return torch.sin(1e16 * upper(gradient, 2))

    assert measure_pointwise_residuals(chaotic, *cells(2))["galilean_invariance"] > 0.5


@pytest.mark.parametrize("factor", [0.0, float("nan")])
def test_a_dead_closure_is_refused(factor):
    with pytest.raises(ModelRefusedError, match="zeros or non-finite"):
        measure_pointwise_residuals(lambda gradient, width: factor * upper(gradient, 2), *cells(2))
