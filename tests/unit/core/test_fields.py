"""The registry of fields."""

import pytest

from hpcsurrogate.core.fields import FIELDS

VECTOR = {2: ("x", "y"), 3: ("x", "y", "z")}
SYMMETRIC = {2: ("xx", "xy", "yy"), 3: ("xx", "xy", "xz", "yy", "yz", "zz")}
TENSOR = {2: ("xx", "xy", "yx", "yy"), 3: ("xx", "xy", "xz", "yx", "yy", "yz", "zx", "zy", "zz")}


def test_the_registry_is_named_by_its_keys():
    assert all(field.name == name for name, field in FIELDS.items())


@pytest.mark.parametrize("num_dims", [2, 3])
def test_components_fit_the_rank_and_the_dimensions(num_dims):
    expected = {0: (), 1: VECTOR[num_dims], 2: SYMMETRIC[num_dims]}
    for field in FIELDS.values():
        components = expected[field.rank] if field.symmetric else TENSOR[num_dims]
        assert field.components_in(num_dims) == components
        assert field.num_components_in(num_dims) == max(1, len(components))
