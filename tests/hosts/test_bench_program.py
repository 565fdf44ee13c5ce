"""The C++ half of scripts/bench_embed.py, built and run as the benchmark does it."""

import math
from pathlib import Path

import bench_embed
import pytest

from hpcsurrogate.core.errors import HpcsurrogateError


@pytest.mark.parametrize("network", ["quadratic_stencil", "tensor_basis"])
def test_every_call_is_timed_both_ways(tmp_path, network):
    """The program also compares both results to the bit, and makes sure that no cell fell back."""
    pairs = bench_embed.measure_overhead(bench_embed.Case(network, 8), tmp_path / "model.pt", calls=20)
    assert {name: len(taken) for name, taken in pairs.items()} == {
        "forward": 20, "guarded": 20, bench_embed.BY_DEFAULT: 20
    }  # fmt: skip
    assert all(nanoseconds > 0 for taken in pairs.values() for pair in taken for nanoseconds in pair)
    assert all(math.isfinite(entry["value"]) for entry in bench_embed.overhead_figures(bench_embed.OVERHEAD[0], pairs))


def test_a_file_that_is_refused_ends_the_benchmark_with_its_reason(tmp_path, monkeypatch):
    write_case = bench_embed.write_case

    def damaged(case: bench_embed.Case, path: Path) -> None:
        write_case(case, path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(bench_embed, "write_case", damaged)
    with pytest.raises(HpcsurrogateError, match="bench_embed_host: .*SHA-256"):
        bench_embed.measure_overhead(bench_embed.OVERHEAD[0], tmp_path / "model.pt", calls=1)
