"""The group of the square: its table, and that transformations of stencils follow it."""

import itertools

import pytest
import torch

from hpcsurrogate.models.symmetry import (
    ELEMENTS,
    IDENTITY,
    PAIR_SIZE,
    compose_table,
    orientation_matrix,
    relative_table,
    transform_vector,
)


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_table_is_that_of_a_group():
    table = compose_table()
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
    product = ELEMENTS[compose_table()[a, b]]
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


def test_relative_table_names_the_element_between_two():
    table, relative = compose_table(), relative_table()
    for g, h in itertools.product(range(8), repeat=2):
        assert table[g, relative[g, h]] == h


@pytest.mark.parametrize("half_cell, empty", [(-1, 4), (1, 0)])
def test_orientation_matrix_turns_the_pair_and_leaves_the_odd_row_empty(half_cell, empty):
    """The even direction covers offsets -2..1 for stencils on centres and -1..2 for those on faces."""
    pair = noise(PAIR_SIZE).float()
    windows = (pair @ orientation_matrix(half_cell)).reshape(8, 2, 5, 5)
    u, v = pair.reshape(2, 4, 5)[0], pair.reshape(2, 4, 5)[1].T
    rows = slice(0, 4) if half_cell < 0 else slice(1, 5)
    for window, element in zip(windows, ELEMENTS, strict=True):
        turned_u, turned_v = transform_vector(u, v, element)
        assert torch.equal(window[0, rows], turned_u) and not window[0, empty].any()
        assert torch.equal(window[1, :, rows], turned_v) and not window[1, :, empty].any()
