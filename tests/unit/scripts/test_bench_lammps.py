"""The benchmark of dumps on a small one: contestants read the same, or it says so, and the figures agree."""

import importlib.util
import sys
from pathlib import Path

import pytest

from hpcsurrogate.core.errors import ConfigError, DataError
from tests.lammps_program import require_lammps

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture
def bench(monkeypatch):
    require_lammps()
    monkeypatch.syspath_prepend(SCRIPTS)
    spec = importlib.util.spec_from_file_location("bench_lammps", SCRIPTS / "bench_lammps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("bench_loader", "bench_lammps_readers"):
        sys.modules.pop(name, None)


def test_contestants_take_turns_over_the_same_dump(bench, tmp_path, monkeypatch):
    path = bench.write_dump(tmp_path, 3)
    readers = [bench.Reader(name, sys.executable, path) for name in (bench.OURS, bench.POSITIONS)]
    bench.take_turns(readers, 2)
    assert [answer["frames"] for reader in readers for answer in reader.answers] == [3] * 4
    monkeypatch.setattr(bench, "PEERS", [bench.POSITIONS])
    speed, ratio, other_speed, _ = bench.figures_of(readers, path.stat().st_size)
    assert speed["at_least"] == 100 and speed["met"] == (speed["value"] >= 100)
    assert ratio["at_least"] == 3 and ratio["met"] == (ratio["value"] >= 3)
    assert "met" not in other_speed
    path.write_text("".join(path.read_text().partition("ITEM: TIMESTEP\n2\n")[:1]))
    with pytest.raises(DataError, match="has read .*2"):
        bench.take_turns(readers[1:] + readers[:1], 1)
    for reader in readers:
        reader.close()


def test_a_peer_that_is_not_there_is_named(bench, tmp_path):
    with pytest.raises(ConfigError, match=r"ASE ended.*\[bench\]"):
        bench.Reader("ASE", "/bin/false", tmp_path)
