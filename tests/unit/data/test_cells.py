"""Files of cells come back as they were written, and nothing else does."""

import shutil

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.cells import COLUMNS, CellCatalogue, CellSamples, recorded, write_cells

NUM_CELLS = 40


def samples(seed):
    random = np.random.default_rng(seed)
    return CellSamples(
        random.standard_normal((NUM_CELLS, 9)),
        random.uniform(1, 2, NUM_CELLS),
        random.standard_normal((NUM_CELLS, 6)),
        random.uniform(1, 2, NUM_CELLS),
    )


@pytest.fixture
def catalogue(tmp_path):
    files = tuple(write_cells(tmp_path / f"cells-{i}.hdf5", samples(i), float(i), f"digest {i}") for i in range(3))
    found = CellCatalogue(tmp_path, 0.25, files)
    found.write()
    return found


def test_samples_come_back_in_the_order_of_the_files(catalogue):
    found = CellCatalogue.read(catalogue.directory)
    assert found == catalogue
    both = found.samples(found.files[1:])
    for name in COLUMNS:
        expected = np.concatenate([getattr(samples(seed), name) for seed in (1, 2)])
        assert np.array_equal(getattr(both, name), expected), name


def test_a_finished_file_is_known_by_its_configuration(catalogue):
    path = catalogue.directory / "cells-1.hdf5"
    assert recorded(path, "digest 1") == catalogue.files[1]
    assert recorded(path, "digest 2") is None
    assert recorded(catalogue.directory / "cells-7.hdf5", "digest 7") is None
    path.write_bytes(path.read_bytes()[:-500])
    assert recorded(path, "digest 1") is None


def test_exchanged_and_changed_files_are_refused(catalogue):
    first, second = (catalogue.directory / file.name for file in catalogue.files[:2])
    shutil.copy(second, first)
    with pytest.raises(DataError, match=r"cells-0\.hdf5: is not the file that cells\.json names"):
        catalogue.samples(catalogue.files)
    random = np.random.default_rng(0)
    content = second.read_bytes()
    for place in random.integers(len(content), size=100):
        changed = bytearray(content)
        changed[place] ^= 1 << random.integers(8)
        second.write_bytes(changed)
        with pytest.raises(DataError, match=r"cells-1\.hdf5"):
            catalogue.samples(catalogue.files[1:2])


def test_a_changed_catalogue_is_refused(catalogue):
    path = catalogue.directory / "cells.json"
    path.write_text(path.read_text().replace("0.25", "0.26"))
    with pytest.raises(DataError, match=r"cells\.json: is damaged .*run `hpcsurrogate ingest` again"):
        CellCatalogue.read(catalogue.directory)
