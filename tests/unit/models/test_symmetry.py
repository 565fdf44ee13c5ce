"""The group of the square: its table, and that transformations of stencils follow it."""

import itertools

import pytest
import torch

from hpcsurrogate.models.symmetry import ELEMENTS, IDENTITY, compose_index, transform_scalar, transform_vector


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_table_is_that_of_a_group():
    table = compose_index()
    every = list(range(8))
    assert len(set(ELEMENTS)) == 8
    assert table[IDENTITY].tolist() == every and table[:, IDENTITY].tolist() == every
    for g in every:
        assert sorted(table[g].tolist()) == every and sorted(table[:, g].tolist()) == every
    for a, b, c in itertools.product(every, repeat=3):
        assert table[table[a, b], c] == table[a, table[b, c]]
    # The group of the square, not that of eight rotations: some elements do not commute.
    assert not torch.equal(table, table.T)


@pytest.mark.parametrize("a, b", list(itertools.product(range(8), repeat=2)))
def test_transformations_follow_the_table(a, b):
    product = ELEMENTS[compose_index()[a, b]]
    scalar = noise(5, 5)
    assert torch.equal(
        transform_scalar(transform_scalar(scalar, ELEMENTS[b]), ELEMENTS[a]), transform_scalar(scalar, product)
    )
    u, v = noise(3, 4, 5), noise(3, 5, 4, seed=1)
    twice = transform_vector(*transform_vector(u, v, ELEMENTS[b]), ELEMENTS[a])
    for component, expected in zip(twice, transform_vector(u, v, product), strict=True):
        assert torch.equal(component, expected)


def test_components_change_sign_with_their_axis():
    u, v = noise(4, 5), noise(5, 4, seed=1)
    turned_u, turned_v = transform_vector(u, v, (False, True, False))
    assert torch.equal(turned_u, -u.flip(0)) and torch.equal(turned_v, v.flip(0))
    turned_u, turned_v = transform_vector(u, v, (False, False, True))
    assert torch.equal(turned_u, u.flip(1)) and torch.equal(turned_v, -v.flip(1))
    turned_u, turned_v = transform_vector(u, v, (True, False, False))
    assert torch.equal(turned_u, v.T) and torch.equal(turned_v, u.T)
