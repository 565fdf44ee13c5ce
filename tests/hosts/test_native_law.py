"""The law of a fluid through the C ABI: two outputs in one array, the numbers of Python, hosts that do not fit."""

import numpy as np
import pytest
import torch

from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.export.law import write_law
from tests.hosts.native import BAD_ARGUMENT, MISFIT, OK
from tests.law_artifact import describe, make_cells, make_law


@pytest.fixture(scope="module")
def law_artifact(tmp_path_factory):
    path = tmp_path_factory.mktemp("law") / "law.pt"
    write_law(path, make_law(), describe(), make_cells())
    return path


def test_stress_and_error_are_those_of_python_counts_included(law_artifact, library):
    cells = [part.numpy().copy() for part in make_cells(30)]
    cells[0][3], cells[1][5], cells[2][7, 2] = 3.0, np.nan, -50.0
    output = np.empty((30, 12))
    result = library.open(law_artifact).apply(cells, output)
    expected, counts = load_artifact(law_artifact).guarded(*map(torch.from_numpy, cells))
    assert result.status == OK and result.counts == (1, 30, *counts) and counts == (2, 1, 0)
    # Each by itself: an error of the stress is far smaller than a pressure.
    for part in (slice(0, 6), slice(6, 12)):
        np.testing.assert_allclose(output[:, part], expected[:, part], rtol=0, atol=1e-12 * abs(output[:, part]).max())


def test_a_host_that_declares_a_filter_or_other_units_is_refused(law_artifact, library):
    units = b"m/sigma^3 epsilon/k 1/tau"
    library.open(law_artifact, input_units=units, output_units=b"epsilon/sigma^3 epsilon/sigma^3")
    for option in ({"filter_width": 0.1}, {"grid_spacing": (0.1, 0.1, 0.1)}, {"input_units": b"kg/m^3 K 1/s"}):
        assert library.try_open(law_artifact, **option)[0] == MISFIT
        assert library.error().startswith(str(law_artifact))


def test_room_for_the_stress_alone_is_too_little(law_artifact, library):
    cells = [part.numpy() for part in make_cells(4)]
    result = library.open(law_artifact).apply(cells, np.empty((4, 6)))
    assert result.status == BAD_ARGUMENT and "stress, stress_error" in result.error and "12" in result.error
