"""Speed of the three-dimensional solver whose field is shared by ranks in slabs: strong scaling, one thread a rank.

A right-hand side of forced turbulence in float32 on the first rank alone, by the transforms of whole fields and by
those of slabs, and shared by 2, 4, ... ranks; all in turns within one launch. The part of a right-hand side that its
eight exchanges take counts from when the first rank is ready to when it has its blocks: copies and waiting.

    python scripts/bench_slabs.py --ranks 1 2 --json slabs.json
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bench_loader import run_ranks_script

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.core.provenance import provenance

TIME_LIMIT = 1800  # [s]


def measure(points: list[int], ranks: list[int], rounds: int, directory: Path) -> dict:
    """Points -> "local" or number of ranks -> "minimum", "median" [s] of a right-hand side, part of "exchange" [1]."""
    settings_file, result_file = directory / "settings.json", directory / "result.json"
    write_json_atomic(settings_file, {"points": points, "ranks": ranks, "rounds": rounds})
    run_ranks_script("bench_slabs_ranks.py", max(ranks), [settings_file, result_file], TIME_LIMIT)
    return read_json(result_file)


def figures_of(result: dict) -> list[dict]:
    """Figures for the JSON file; prints the table. Speed-up is over the fastest that one rank does."""
    figures = []
    for points, times in result.items():
        alone = min(row["minimum"] for name, row in times.items() if name in ("local", "1"))
        print(f"\n  {points + '^3':<18} {'ms, minimum':>12} {'median':>10} {'speed-up':>10} {'in exchanges':>14}")
        for name, row in times.items():
            label = "whole, 1 rank" if name == "local" else f"slabs, {name} rank{'s' * (name != '1')}"
            speed_up = alone / row["minimum"]
            minimum, median = 1e3 * row["minimum"], 1e3 * row["median"]
            print(f"  {label:<18} {minimum:>12.2f} {median:>10.2f} {speed_up:>10.2f} {row['exchange']:>14.0%}")
            for quantity, value, unit in (
                ("time per right-hand side", minimum, "ms"),
                ("speed-up", speed_up, "1"),
                ("part in exchanges", row["exchange"], "1"),
            ):
                figures.append({"name": f"{points}^3, {label}: {quantity}", "value": value, "unit": unit})
    return figures


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[64, 128], help="of the cubes, along an axis")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--ranks", type=int, nargs="+", default=sorted({1, min(2, cores), cores}))
    parser.add_argument("--rounds", type=int, default=15, help="turns of each")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        with tempfile.TemporaryDirectory() as directory:
            result = measure(arguments.points, arguments.ranks, arguments.rounds, Path(directory))
    except HpcsurrogateError as error:
        print(f"bench_slabs: {error}", file=sys.stderr)
        return error.exit_code
    figures = figures_of(result)
    if arguments.json:
        write_json_atomic(arguments.json, {"figures": figures, "machine": provenance()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
