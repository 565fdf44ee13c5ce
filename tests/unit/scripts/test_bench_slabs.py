"""The benchmark of shared fields, on a small one: every contestant is timed, and the figures agree with each other."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture
def bench_slabs(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    spec = importlib.util.spec_from_file_location("bench_slabs", SCRIPTS / "bench_slabs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("bench_loader", None)


def test_one_rank_and_two_are_timed_on_the_same_flow(bench_slabs, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_slabs, "TIME_LIMIT", 60)
    file = tmp_path / "slabs.json"
    options = ["--points", "16", "--ranks", "1", "2", "--rounds", "2", "--json", str(file)]
    assert bench_slabs.main(options) == 0
    values = {figure["name"]: figure["value"] for figure in json.loads(file.read_text())["figures"]}
    labels = ("whole, 1 rank", "slabs, 1 rank", "slabs, 2 ranks")
    times = {label: values[f"16^3, {label}: time per right-hand side"] for label in labels}
    fastest = min(times["whole, 1 rank"], times["slabs, 1 rank"])
    assert all(values[f"16^3, {label}: speed-up"] == pytest.approx(fastest / times[label]) for label in labels)
    assert values["16^3, whole, 1 rank: part in exchanges"] == 0
    assert 0 < values["16^3, slabs, 2 ranks: part in exchanges"] < 1
