"""Inputs that are missing, damaged or incomplete are named with the stage that writes them."""

import json

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.report.results import read_results


def test_roles_and_orders(paths):
    results = read_results(paths)
    names = [contender["name"] for contender in results.contenders]
    assert names[results.learned] == "learned"
    assert names[results.best_classical] == "order 6 + hyperviscosity"
    assert [names[index] for index in results.drawing_order()[:3]] == [
        "learned",
        "order 6 + hyperviscosity",
        "no closure",
    ]
    assert sorted(results.drawing_order()) == [i for i, c in enumerate(results.contenders) if c["grid"] == [32, 32]]
    assert [results.contenders[index]["grid"][0] for index in results.ladder()] == [32, 96, 128, 256]
    best = results.ladder(results.best_classical)
    assert [names[index] for index in best] == ["order 6 + hyperviscosity", "order 6 + hyperviscosity, 96 x 96"]


@pytest.mark.parametrize("name", ["coupling", "coupling_fields", "evaluation", "metrics"])
def test_missing_file_is_named(paths, name):
    path = getattr(paths, name)
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        read_results(paths)


@pytest.mark.parametrize("name", ["coupling", "coupling_fields", "evaluation", "metrics"])
def test_cut_file_is_named(paths, name):
    path = getattr(paths, name)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 - 3])
    with pytest.raises(DataError, match=path.name):
        read_results(paths)


def test_missing_key_is_named(paths):
    coupling = json.loads(paths.coupling.read_text())
    del coupling["contenders"][2]["cost_ms_per_step"]
    paths.coupling.write_text(json.dumps(coupling))
    with pytest.raises(DataError, match=r"contenders\[2\]\.cost_ms_per_step"):
        read_results(paths)


def test_missing_array_is_named(paths):
    with np.load(paths.coupling_fields) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "spectrum/4"}
    np.savez(paths.coupling_fields, **arrays)
    with pytest.raises(DataError, match="spectrum/4"):
        read_results(paths)


def test_arrays_with_pickles_are_refused(paths):
    np.savez(paths.coupling_fields, times=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="damaged"):
        read_results(paths)


def test_bad_line_of_metrics_is_named(paths):
    lines = paths.metrics.read_text().splitlines()
    lines[6] = '{"phase": "apriori", "step": 7}'
    paths.metrics.write_text("\n".join(lines))
    with pytest.raises(DataError, match="line 7: loss"):
        read_results(paths)
