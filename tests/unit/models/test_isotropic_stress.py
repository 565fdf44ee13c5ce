"""The sum over Pope's tensors without the tensors, held against the tensors one by one and against matrices."""

import pytest
import torch

from hpcsurrogate.models.isotropic_stress import (
    commutator,
    invariants_3d,
    isotropic_stress,
    sandwich,
    spin_of,
    squared,
    still_vector,
    strain_and_spin,
    symmetric_outer,
    times_vector,
    trace_of_product,
)
from hpcsurrogate.models.tensor_basis import tensor_basis_3d

CELLS = 50
ROUND_OFF = 1e-13  # float64, values of order one


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit_gradient(seed=0):
    gradient = noise(9, CELLS, seed=seed)
    return gradient / gradient.square().sum(0).sqrt()


def matrices(components):
    """Symmetric (6, n) to (n, 3, 3)."""
    rows, columns = torch.triu_indices(3, 3)
    full = components.new_zeros(CELLS, 3, 3)
    full[:, rows, columns] = full[:, columns, rows] = components.T
    return full


def antisymmetric(spin):
    """w (3, n) to (n, 3, 3)."""
    full = spin.new_zeros(CELLS, 3, 3)
    full[:, (0, 0, 1), (1, 2, 2)] = spin.T
    return full - full.mT


def assert_same(computed, expected):
    torch.testing.assert_close(computed, expected, rtol=0, atol=ROUND_OFF)


def test_strain_and_spin_are_the_parts_of_the_gradient():
    gradient = unit_gradient()
    strain, spin = strain_and_spin(gradient)
    trace = gradient[0] + gradient[4] + gradient[8]
    sum_of_parts = matrices(strain) + antisymmetric(spin) + trace[:, None, None] / 3 * torch.eye(3)
    assert_same(sum_of_parts, gradient.T.reshape(CELLS, 3, 3))


def test_the_algebra_is_that_of_matrices():
    a, b = noise(6, CELLS, seed=1), noise(6, CELLS, seed=2)
    spin, x, y = (noise(3, CELLS, seed=seed) for seed in (3, 4, 5))
    full_a, full_b, w, columns = matrices(a), matrices(b), antisymmetric(spin), x.T[:, :, None]
    v, identity = still_vector(spin), torch.eye(3, dtype=torch.float64)
    tolerance = {"rtol": 1e-12, "atol": 1e-12}
    for computed, expected in (
        (matrices(squared(a)), full_a @ full_a),
        (matrices(sandwich(a, b)), full_a @ full_b @ full_a),
        (matrices(commutator(a, spin)), full_a @ w - w @ full_a),
        (times_vector(a, x).T[:, :, None], full_a @ columns),
        (spin_of(spin, x).T[:, :, None], w @ columns),
        (matrices(symmetric_outer(x, y)), columns @ y.T[:, None, :] + y.T[:, :, None] @ columns.mT),
        (trace_of_product(a, b), (full_a @ full_b).diagonal(dim1=1, dim2=2).sum(1)),
        (0.5 * matrices(symmetric_outer(v, v)) - v.square().sum(0)[:, None, None] * identity, w @ w),
    ):
        torch.testing.assert_close(computed, expected, **tolerance)


def test_the_invariants_are_popes():
    strain, spin = strain_and_spin(unit_gradient())
    v = still_vector(spin)
    computed = invariants_3d(strain, squared(strain), v, times_vector(strain, v))
    assert_same(computed, tensor_basis_3d(unit_gradient())[0])


@pytest.mark.parametrize("number", range(10))
def test_each_coefficient_brings_its_tensor(number):
    strain, spin = strain_and_spin(unit_gradient())
    coefficients = torch.zeros(10, CELLS, dtype=torch.float64)
    coefficients[number] = 1
    expected = tensor_basis_3d(unit_gradient())[1][number]
    assert expected.abs().max() > 0.01
    assert_same(isotropic_stress(coefficients, strain, squared(strain), spin), expected)


def test_of_any_coefficients_it_is_the_sum():
    strain, spin = strain_and_spin(unit_gradient(seed=6))
    coefficients = noise(10, CELLS, seed=7)
    expected = (coefficients.unsqueeze(1) * tensor_basis_3d(unit_gradient(seed=6))[1]).sum(0)
    assert_same(isotropic_stress(coefficients, strain, squared(strain), spin), expected)
