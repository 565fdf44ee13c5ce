"""The layout of a shard: components in memory and in the file, and what the header accepts."""

import json
import math

import h5py
import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import AXES, FIELDS
from hpcsurrogate.data.layout import HEADER, ShardHeader, from_file, read_header, snapshot_shape, to_file, write_layout

SHAPES = [(6, 4), (6, 4, 3)]


def header_of(shape, **values):
    return ShardHeader("noise", 1, 5, 0.1, shape, tuple(0.25 * points for points in shape), **values)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["vorticity", "velocity", "sgs_stress"])
def test_every_component_lies_where_its_name_says(name, shape):
    field, num_dims = FIELDS[name], len(shape)
    values = np.random.default_rng(0).standard_normal((field.num_components_in(num_dims), *shape))
    stored = to_file(values, field.rank)
    assert stored.shape == snapshot_shape(name, header_of(shape)) == (*shape, *(num_dims,) * field.rank)
    for component, component_name in zip(values, field.components_in(num_dims), strict=True) if field.rank else ():
        place = tuple(AXES.index(axis) for axis in component_name)
        np.testing.assert_array_equal(stored[..., *place], component)
        np.testing.assert_array_equal(stored[..., *place[::-1]], component)
    np.testing.assert_array_equal(from_file(np.stack([stored, -stored]), field.rank), [values, -values])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_header_is_read_back(tmp_path, shape):
    width = (0.5,) * len(shape)
    header = header_of(
        shape, layout="staggered", filter_kind="box", filter_width=width, parameters={"drag": 0.5}, first_snapshot=20
    )
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        write_layout(file, header)
        assert read_header(tmp_path / "a.hdf5", file) == header
        np.testing.assert_allclose(file["dimensions/time"], [2.0, 2.1, 2.2, 2.3, 2.4], rtol=1e-6)  # float32
    assert header.num_dims == len(shape) and header.times[0] == 2.0


def test_the_width_of_no_filter_is_zero_along_each_axis():
    assert header_of((6, 4, 3)).filter_width == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "values",
    [{"domain": (1.0, 1.0, 1.0)}, {"grid_shape": (4,), "domain": (1.0,)}, {"filter_width": (1.0,)}, {"layout": "skew"},
     {"snapshot_interval": math.nan}, {"snapshot_interval": 0.0}, {"num_snapshots": 0}, {"parameters": {"a": math.inf}},
     {"first_snapshot": -1}],
)  # fmt: skip
def test_a_header_that_contradicts_itself_is_no_header(values):
    sound = {"dataset_name": "a", "realisation": 0, "num_snapshots": 1, "snapshot_interval": 0.1}
    sound |= {"grid_shape": (6, 4), "domain": (1.0, 1.0)}
    ShardHeader(**sound)
    with pytest.raises(ValueError, match=f"{next(iter(values))}|axes"):
        ShardHeader(**(sound | values))


def damaged(tmp_path, change):
    """Read a header whose text was changed."""
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        write_layout(file, header_of((6, 4)))
        file.attrs[HEADER] = np.bytes_(change(file.attrs[HEADER].decode()))
        with pytest.raises(DataError, match=f"{path}: ") as caught:
            read_header(path, file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("key", ["snapshot_interval", "layout", "filter_width", "grid_shape", "first_snapshot"])
def test_a_missing_key_is_named_and_has_no_default(tmp_path, key):
    def without(text):
        content = json.loads(text)
        del content["header"][key]
        return json.dumps(content)

    assert f"no key header.{key}" in damaged(tmp_path, without)


def test_what_is_wrong_with_a_header_is_named(tmp_path):
    assert "header.realisation" in damaged(tmp_path, lambda text: text.replace('"realisation": 1', '"realisation": -1'))
    assert "header.colour" in damaged(tmp_path, lambda text: text.replace('"layout"', '"colour": 1, "layout"'))
    assert "appears twice" in damaged(tmp_path, lambda text: text.replace('"layout"', '"realisation": 1, "layout"'))
    assert "not valid JSON" in damaged(tmp_path, lambda text: text[:-1])
    assert "not a JSON object" in damaged(tmp_path, lambda text: f"[{text}]")
    assert "no key header" in damaged(tmp_path, lambda text: '{"schema_version": 2}')
    assert "schema version 1" in damaged(tmp_path, lambda text: text.replace('_version": 2', '_version": 1'))
    assert "not valid JSON" in damaged(tmp_path, lambda text: "[" * 30_000)


def test_a_header_without_a_checksum_is_not_read(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        write_layout(file, header_of((6, 4)))
        text = file.attrs[HEADER].decode()
        for value in (text, [np.bytes_(text)], 1.0):
            file.attrs[HEADER] = value
            with pytest.raises(DataError, match="hpcsurrogate of / is not one text of fixed length"):
                read_header(tmp_path / "a.hdf5", file)
        del file.attrs[HEADER]
        with pytest.raises(DataError, match="no attribute hpcsurrogate"):
            read_header(tmp_path / "a.hdf5", file)
