"""Speed of the data plane beside raw `pread`, in one run: samples per second, globally shuffled, as training gets them.

Shards of random numbers are written with the program's own writer. Then, on 1, 2 and 4 ranks, the contestants take
turns over the same samples in the same shuffled order: a bare loop of `preadv` that knows every position beforehand
(the limit), `dataset[i]` of h5py, and the loader on each of its stores, which yields torch tensors, as it does for
training on a CPU. One word of every page is summed within the clock; before the turns, every contestant reads a whole
epoch and sums all of it. What counts is the median of the ratio between neighbouring turns. Compressed shards are
compared with the bare decompressor in as many threads as there are cores.

    python scripts/bench_loader.py --json bench.json
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bench_loader_startup
import numpy as np

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.errors import ConfigError, HpcsurrogateError
from hpcsurrogate.core.provenance import provenance
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardWriter
from hpcsurrogate.parallel.launch import launcher_command, launcher_environment, run_launcher

NUM_SHARDS = 100_000
CORES = len(os.sched_getaffinity(0))
GRIDS = {"16 KiB": (64, 32), "80 KiB": (128, 80), "2 MiB": (512, 512)}  # two float32 a point
BATCH_BYTES = 16 * 2**20  # of a rank, and at most 64 samples
LIMIT, NAIVE = "pread", "dataset[i]"


@dataclass(frozen=True)
class Case:
    """One set of turns: which data, on how many ranks, through which stores."""

    size: str
    ranks: int
    stores: tuple[str, ...]
    cold: bool = False
    compression: str = "none"

    @property
    def label(self) -> str:
        cached = "compressed with " + self.compression if self.compression != "none" else "cached"
        return f"{self.size}, {self.ranks} rank{'s' * (self.ranks > 1)}, {'cold' if self.cold else cached}"


# Aims: at least this part of raw pread.
AIMS = {"stream": 0.80, "node": 0.80, "cluster": 0.50}


def write_shards(directory: Path, grid: tuple[int, int], num_bytes: int, compression: str) -> None:
    """Three realisations of unequal length, one in two shards, of random float32 between -1 and 1."""
    num_samples = max(24, num_bytes // (8 * grid[0] * grid[1]))
    first = num_samples // 2
    blocks = [(0, 0, first // 2 + 1), (0, first // 2 + 1, first - first // 2 - 1), (1, 0, num_samples // 3)]
    blocks.append((2, 0, num_samples - sum(length for _, _, length in blocks)))
    generator = np.random.default_rng(0)
    records = []
    for realisation, start, length in blocks:
        path = directory / shard_name(realisation, start)
        header = ShardHeader("bench", realisation, length, 0.1, grid, (1.0, 1.0), first_snapshot=start)
        with ShardWriter(path, header, ("velocity",), compression=compression) as shard:
            for _ in range(length):
                shard.append({"velocity": _sample(generator, grid, compression)})
        records.append(catalogue_shard(path))
    Catalogue.from_shards(directory, records).write()


def _sample(generator: np.random.Generator, grid: tuple[int, int], compression: str) -> np.ndarray:
    values = generator.random((2, *grid), dtype=np.float32) * 2 - 1
    # Noise does not compress; a walk through it is as smooth as a turbulent velocity on its grid.
    return values if compression == "none" else np.cumsum(values, axis=-1, dtype=np.float32) / 8


def run_ranks_script(script: str, ranks: int, arguments: Sequence[Path], limit: float) -> None:
    """Run one of the scripts beside this one under mpirun, for at most `limit` seconds."""
    program = [sys.executable, "-m", "mpi4py", str(Path(__file__).with_name(script)), *map(str, arguments)]
    command = ["timeout", str(limit), *launcher_command(ranks), *program]
    exit_code = run_launcher(command, launcher_environment(ranks, 1))
    if exit_code != 0:
        raise HpcsurrogateError(f"{script}, {ranks} ranks: exit code {exit_code}; the reason stands above")


def startup_figures(directory: Path, ranks: Sequence[int]) -> list[dict]:
    """Start-up on 100,000 shards of 1,000 samples, as many realisations as shards."""
    bench_loader_startup.write_catalogue(directory, NUM_SHARDS, shards_each=1)
    figures = []
    print(f"\n  start-up, {NUM_SHARDS} shards{'':<8} {'seconds':>12} {'MB a rank':>12}")
    for number in ranks:
        run_ranks_script("bench_loader_startup.py", number, [directory, directory / "result.json"], limit=120)
        result = read_json(directory / "result.json")
        megabytes = result["bytes"] / 1e6
        label = f"start-up, {number} rank{'s' * (number > 1)}"
        print(f"  {label:<34} {result['seconds']:>8.2f} {megabytes:>12.0f}", flush=True)
        for unit, value, most in (("s", result["seconds"], 5.0), ("MB", megabytes, 200.0)):
            figures.append({"name": label, "value": value, "unit": unit, "at_most": most, "met": value <= most})
    return figures


def run_case(case: Case, directory: Path, rounds: int, turn_bytes: int, limit: float) -> dict:
    """Start the ranks and return what they measured."""
    grid = GRIDS[case.size]
    sample_bytes = 8 * grid[0] * grid[1]
    settings = {
        "directory": str(directory),
        "sample_bytes": sample_bytes,
        "batch": min(64, BATCH_BYTES // sample_bytes),
        "turn_samples": turn_bytes // sample_bytes,
        "rounds": rounds,
        "stores": case.stores,
        "cold": case.cold,
        "compression": case.compression,
        "threads": max(1, CORES // case.ranks),
    }
    settings_file, result_file = directory / "settings.json", directory / "result.json"
    write_json_atomic(settings_file, settings)
    run_ranks_script("bench_loader_ranks.py", case.ranks, [settings_file, result_file], limit)
    return read_json(result_file)


def ratio(result: dict, name: str, peer: str) -> float:
    """Median over the rounds of peer's time over this contestant's: how much of the peer's speed it has."""
    pairs = zip(result["seconds"][peer], result["seconds"][name], strict=True)
    return statistics.median(theirs / own for theirs, own in pairs)


def figures_of(case: Case, result: dict) -> list[dict]:
    """The figures of a case; prints its lines of the table."""
    limit = LIMIT if case.compression == "none" else "decompressor"
    figures = []
    print(f"\n  {case.label:<34} {'samples/s':>12} {'GB/s':>7} {'of ' + limit:>16} {'of dataset[i]':>14}")
    grid = GRIDS[case.size]
    for name, seconds in result["seconds"].items():
        rate = result["samples"] / statistics.median(seconds)
        of_limit, of_naive = ratio(result, name, limit), ratio(result, name, NAIVE)
        speed = rate * 8 * grid[0] * grid[1] / 1e9
        print(f"  {name:<34} {rate:>12.0f} {speed:>7.2f} {of_limit:>16.2f} {of_naive:>14.1f}", flush=True)
        figures.append({"name": f"{case.label}, {name}", "value": rate, "unit": "samples/s"})
        if name in case.stores:
            aim = None if case.cold else (0.85 if case.compression != "none" else AIMS[name])
            figures.append(figure(f"{case.label}, {name} / {limit}", of_limit, at_least=aim))
            naive_aim = 2.0 if name == "stream" and case.compression == "none" and not case.cold else None
            figures.append(figure(f"{case.label}, {name} / {NAIVE}", of_naive, at_least=naive_aim))
    return figures + memory_figures(case, result)


def memory_figures(case: Case, result: dict) -> list[dict]:
    """Bytes that a store added to all ranks together, over the bytes of the data: once a node, not once a rank."""
    data = result["num_samples"] * 8 * np.prod(GRIDS[case.size])
    figures = []
    for name, added in result["memory"].items():
        aim = {"at_most": 1.1, "met": bool(added <= 1.1 * data)} if name == "node" and case.ranks > 1 else {}
        entry = {"name": f"{case.label}, {name}: memory of all ranks / data", "value": added / data, "unit": "1"}
        figures.append(entry | aim)
    return figures


def figure(
    name: str, value: float, unit: str = "1", at_least: float | None = None, at_most: float | None = None
) -> dict:
    """One figure, with its aim if it has one."""
    entry = {"name": name, "value": value, "unit": unit}
    if at_least is not None:
        return entry | {"at_least": at_least, "met": value >= at_least}
    return entry if at_most is None else entry | {"at_most": at_most, "met": value <= at_most}


def cases(options: argparse.Namespace) -> list[Case]:
    """What is measured: the whole table, or with --quick its corner."""
    sizes = options.sizes or (["16 KiB"] if options.quick else list(GRIDS))
    ranks = options.ranks or ([2] if options.quick else [1, 2, 4])
    chosen = [Case(size, n, ("stream", "node", "cluster")) for size in sizes for n in ranks]
    if not options.quick:
        chosen += [Case(size, n, ("stream",), cold=True) for size in sizes for n in ranks if n < 4]
    codecs = ["gzip"] if options.quick else ["gzip", "zstd", "blosc"]
    return chosen + [Case("80 KiB", n, ("stream",), compression=c) for c in codecs for n in (1, 2) if n in ranks]


def run_bench(options: argparse.Namespace) -> int:
    """Measure, print, write; 0 if every aim is met."""
    load = os.getloadavg()[0]
    if load > CORES / 2:
        print(f"note: the load average is {load:.1f} on {CORES} cores; ratios of this run will be uncertain")
    rounds, data_bytes, turn_bytes = (9, 2**27, 2**28) if options.quick else (15, 2**29, 2**29)
    figures = []
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        written: dict[tuple, Path] = {}
        for case in cases(options):
            key = (case.size, case.compression)
            if key not in written:
                written[key] = Path(folder) / f"{case.size}-{case.compression}".replace(" ", "")
                compressed = case.compression != "none"
                write_shards(written[key], GRIDS[case.size], data_bytes // (2 if compressed else 1), case.compression)
            turn = turn_bytes // (8 if case.cold or case.compression != "none" else 1)
            figures += figures_of(case, run_case(case, written[key], rounds, turn, limit=300))
        figures += startup_figures(Path(folder), options.ranks or (1, 2, 4))
    return report(figures, options.json)


def report(figures: list[dict], json_file: Path | None) -> int:
    """Print every aim with what became of it, write the file; 0 if all are met."""
    print()
    for entry in figures:
        for bound in ("at_least", "at_most"):
            if bound in entry:
                aim = f"aim: {bound.replace('_', ' ')} {entry[bound]}, {'met' if entry['met'] else 'MISSED'}"
                print(f"{entry['name']}: {entry['value']:.2f} ({aim})")
    if json_file:
        write_json_atomic(json_file, {"figures": figures, "machine": provenance() | {"cores": CORES}})
    return 0 if all(entry.get("met", True) for entry in figures) else 1


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed of the loader and its stores beside raw pread.")
    parser.add_argument("--sizes", nargs="+", choices=list(GRIDS), help="bytes of a sample (default: all)")
    parser.add_argument("--ranks", type=int, nargs="+", help="MPI ranks (default: 1 2 4)")
    parser.add_argument("--quick", action="store_true", help="16 KiB on 2 ranks and gzip alone, under a minute")
    parser.add_argument("--directory", type=Path, help="where the shards are written, about 2 GB (default: TMPDIR)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    options = parser.parse_args(arguments)
    if options.ranks and min(options.ranks) < 1:
        raise ConfigError(f"--ranks {min(options.ranks)}: give at least 1")
    return options


if __name__ == "__main__":
    try:
        sys.exit(run_bench(parse()))
    except HpcsurrogateError as error:
        print(f"bench_loader: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
