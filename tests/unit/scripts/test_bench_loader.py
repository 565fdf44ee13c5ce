"""The loader benchmark on small shards: every contestant is timed on the same samples, and aims are held or missed."""

import importlib.util
import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from hpcsurrogate.core.errors import ConfigError, HpcsurrogateError
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.parallel.world import World

SCRIPTS = Path(__file__).parents[3] / "scripts"
STORES = ("stream", "node", "cluster")
SAMPLE_BYTES = 16 * 1024
NUM_SAMPLES = 192
LIMIT_SECONDS = 60


def script(name):
    """A script as a module, its neighbours within reach."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench_loader():
    return script("bench_loader")


@pytest.fixture(scope="module")
def ranks():
    return script("bench_loader_ranks")


@pytest.fixture(scope="module")
def shards(bench_loader, tmp_path_factory):
    directory = tmp_path_factory.mktemp("shards")
    bench_loader.write_shards(directory, bench_loader.GRIDS["16 KiB"], NUM_SAMPLES * SAMPLE_BYTES, "none")
    return directory


# --- measured ---------------------------------------------------------------------------------------------------------


def test_two_ranks_time_every_store_beside_pread_and_h5py(bench_loader, shards):
    case = bench_loader.Case("16 KiB", 2, STORES)
    result = bench_loader.run_case(case, shards, rounds=3, turn_bytes=2**22, limit=LIMIT_SECONDS)
    assert list(result["seconds"]) == ["pread", "dataset[i]", *STORES]
    assert all(len(seconds) == 3 and min(seconds) > 0 for seconds in result["seconds"].values())
    assert result["samples"] == 2**22 // SAMPLE_BYTES and result["num_samples"] == NUM_SAMPLES
    assert list(result["memory"]) == list(result["first_pass"]) == list(STORES)
    assert min(result["first_pass"].values()) > 0
    for name in ("node", "cluster"):  # all samples lie in memory once, less what was freed meanwhile
        assert result["memory"][name] > 0.8 * NUM_SAMPLES * SAMPLE_BYTES
    figures = {figure["name"]: figure for figure in bench_loader.figures_of(case, result)}
    assert figures["16 KiB, 2 ranks, cached, cluster / pread"]["value"] > 0


def test_compressed_shards_are_compared_with_the_bare_decompressor(bench_loader, tmp_path):
    bench_loader.write_shards(tmp_path, bench_loader.GRIDS["80 KiB"], 2**21, "gzip")
    samples = list(tmp_path.glob("*.hdf5"))
    assert sum(path.stat().st_size for path in samples) < 0.95 * 2**21
    case = bench_loader.Case("80 KiB", 1, ("stream",), compression="gzip")
    result = bench_loader.run_case(case, tmp_path, rounds=2, turn_bytes=2**22, limit=LIMIT_SECONDS)
    assert list(result["seconds"]) == ["decompressor", "dataset[i]", "stream"]
    assert all(min(seconds) > 0 for seconds in result["seconds"].values())
    aims = {figure["name"]: figure.get("at_least") for figure in bench_loader.figures_of(case, result)}
    assert aims["80 KiB, 1 rank, compressed with gzip, stream / decompressor"] == 0.85
    assert aims["80 KiB, 1 rank, compressed with gzip, stream / dataset[i]"] is None


def test_start_up_is_measured_in_seconds_and_bytes(bench_loader, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_loader, "NUM_SHARDS", 100)
    figures = bench_loader.startup_figures(tmp_path, [2])
    assert [(figure["unit"], figure["at_most"], figure["met"]) for figure in figures] == [
        ("s", 5.0, True),
        ("MB", 200.0, True),
    ]
    assert all(figure["value"] > 0 for figure in figures)
    assert json.loads((tmp_path / "result.json").read_text())["samples"] == 100 * 1000


def test_ranks_that_fail_end_the_benchmark(bench_loader, tmp_path):
    with pytest.raises(HpcsurrogateError, match=r"bench_loader_startup\.py, 1 ranks: exit code"):
        bench_loader.run_ranks_script("bench_loader_startup.py", 1, [tmp_path, tmp_path / "result.json"], LIMIT_SECONDS)


# --- the same samples ------------------------------------------------------------------------------------------------


def contestants(ranks, shards, stack, seed_of_the_second):
    """pread and h5py in orders of their own, batches of 8 samples."""
    catalogue = Catalogue.read(shards)
    first, second = ranks.Shuffled(catalogue, World(), 8), ranks.Shuffled(catalogue, World(), 8)
    second.order = ranks.SampleOrder(len(second.places), seed_of_the_second)
    return {"pread": ranks.RawPread(first, SAMPLE_BYTES), "dataset[i]": ranks.PlainH5py(second, stack)}


@pytest.mark.parametrize("step", [1, 1024])  # every word, one word of every page
def test_contestants_that_read_different_samples_are_found_out(ranks, shards, step):
    with ExitStack() as stack:
        same = contestants(ranks, shards, stack, ranks.SEED)
        seconds = ranks.run_round(World(), same, range(3), step)
        assert min(seconds.values()) > 0
        other = contestants(ranks, shards, stack, ranks.SEED + 1)
        with pytest.raises(RuntimeError, match="the contestants read different samples"):
            ranks.run_round(World(), other, range(3), step)


def test_the_shards_hold_as_many_samples_as_bytes_were_asked_for(ranks, shards):
    catalogue = Catalogue.read(shards)
    assert sum(catalogue.entry(number).num_snapshots for number in catalogue.realisations) == NUM_SAMPLES
    places = ranks.Shuffled(catalogue, World(), 8).places
    assert len(np.unique(places[:, [0, 2]], axis=0)) == NUM_SAMPLES
    assert set(places[:, 3]) == {SAMPLE_BYTES + ranks.CHECKSUM_BYTES}


# --- the aims --------------------------------------------------------------------------------------------------------


@pytest.fixture
def result():
    """What two ranks might have measured: the median of ratios of neighbours, not the ratio of medians, counts."""
    seconds = {
        "pread": [1.0, 2.0, 4.0],
        "dataset[i]": [2.4, 4.8, 9.6],
        "stream": [1.1, 2.2, 4.4],  # 0.91 of pread, 2.18 of dataset[i]
        "node": [2.0, 4.0, 4.0],  # 0.5, 0.5, 1
        "cluster": [1.6, 3.2, 6.4],  # 0.625
    }
    data = NUM_SAMPLES * SAMPLE_BYTES
    memory = {"stream": 1000, "node": 1.05 * data, "cluster": 1.2 * data}
    return {"seconds": seconds, "samples": 128, "num_samples": NUM_SAMPLES, "memory": memory}


def aims_of(bench_loader, case, result):
    """{name without the case: (kind of aim, aim, met)} of all figures that have one."""
    return {
        figure["name"].removeprefix(f"{case.label}, "): (bound, figure[bound], figure["met"])
        for figure in bench_loader.figures_of(case, result)
        for bound in ("at_least", "at_most")
        if bound in figure
    }


def test_aims_of_plain_data(bench_loader, result):
    case = bench_loader.Case("16 KiB", 2, STORES)
    expected = {
        "stream / pread": ("at_least", 0.8, True),
        "stream / dataset[i]": ("at_least", 2.0, True),
        "node / pread": ("at_least", 0.8, False),
        "cluster / pread": ("at_least", 0.5, True),
        "node: memory of all ranks / data": ("at_most", 1.1, True),
    }
    assert aims_of(bench_loader, case, result) == expected
    figures = {figure["name"]: figure["value"] for figure in bench_loader.figures_of(case, result)}
    assert figures[f"{case.label}, node / pread"] == 0.5
    assert figures[f"{case.label}, pread"] == 64  # samples per second: 128 in the median of 2 s


def test_what_has_no_aim(bench_loader, result):
    alone = aims_of(bench_loader, bench_loader.Case("16 KiB", 1, STORES), result)
    assert "node: memory of all ranks / data" not in alone and len(alone) == 4
    cold = bench_loader.Case("16 KiB", 2, ("stream",), cold=True)
    del result["memory"]["node"]
    assert aims_of(bench_loader, cold, result) == {}


def test_memory_once_a_rank_is_missed(bench_loader, result):
    result["memory"]["node"] *= 2
    aims = aims_of(bench_loader, bench_loader.Case("16 KiB", 2, STORES), result)
    assert aims["node: memory of all ranks / data"] == ("at_most", 1.1, False)


def test_one_aim_that_is_missed_is_exit_code_1(bench_loader, result, tmp_path, capsys):
    figures = bench_loader.figures_of(bench_loader.Case("16 KiB", 2, STORES), result)
    assert bench_loader.report(figures, tmp_path / "bench.json") == 1
    output = capsys.readouterr().out
    assert "node / pread: 0.50 (aim: at least 0.8, MISSED)" in output
    assert "stream / pread: 0.91 (aim: at least 0.8, met)" in output
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["figures"] == figures and written["machine"]["cores"] >= 1
    assert bench_loader.report([figure for figure in figures if figure.get("met", True)], None) == 0


def test_no_ranks_are_refused(bench_loader):
    with pytest.raises(ConfigError, match="--ranks 0"):
        bench_loader.parse(["--ranks", "2", "0"])
