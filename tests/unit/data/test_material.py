"""Samples of a material come back as they were written, or not at all."""

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.material import (
    COLUMNS,
    MaterialFile,
    MaterialSamples,
    about_material,
    read_material,
    write_material,
)


@pytest.fixture
def written(tmp_path):
    random = np.random.default_rng(0)
    shapes = {name: (5, width)[: 1 + (width > 1)] for name, (width, _) in COLUMNS.items()}
    columns = {name: random.random(shape) for name, shape in shapes.items()}
    columns |= {"state": np.arange(5), "held_out": np.array([True, False, False, True, False])}
    about = MaterialFile("metal", ("a", "b", "c", "d", "e"), "of a test")
    write_material(tmp_path / "material.hdf5", MaterialSamples(**columns), about)
    return tmp_path / "material.hdf5", columns, about


def test_what_is_written_is_read(written):
    path, columns, about = written
    samples = read_material(path)
    assert all(np.array_equal(getattr(samples, name), columns[name]) for name in columns)
    assert samples.held_out.dtype == bool and about_material(path) == about


def test_a_damaged_file_is_one_line(written, tmp_path):
    """Every 97th byte, one at a time: noticed, or of no consequence."""
    path, columns, _ = written
    content = path.read_bytes()
    noticed = 0
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            samples = read_material(path)
        except DataError as error:
            noticed += str(path) in str(error) and "\n" not in str(error)
        else:
            assert all(np.array_equal(getattr(samples, name), columns[name]) for name in columns), place
    assert noticed > 20
    with pytest.raises(DataError):
        read_material(tmp_path / "nowhere.hdf5")
