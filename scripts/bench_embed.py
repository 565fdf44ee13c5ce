"""What a closure in a file costs its host: against the network in Python, bare LibTorch and the host's own arithmetic.

For each network and grid, one right-hand side of the finite-volume host without closure, the network as a plain module
(eager), its artifact (exported, guarded) and the same as .pt2 (compiled) take turns in one process, on one thread. Then
a C++ program, built through find_package(hpcsurrogate) as a user would, calls the artifact by the C ABI and by
bare LibTorch, in turn. Last, steps of the host with a deconvolution added to its fluxes and in their place. What counts
is the median over neighbouring turns. The weights are random: they cost the same.

    python scripts/bench_embed.py --json bench.json
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from bench_loader import CORES, figure, report
from bench_training import median_ratio
from host_builds import build_host
from random_artifacts import random_velocity, write_random_artifact

from hpcsurrogate.core.config import FiniteVolumeHost, Flow
from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.core.memory import keep_freed_memory
from hpcsurrogate.couple.contenders import LearnedClosure
from hpcsurrogate.embed.artifact import Artifact, load_artifact
from hpcsurrogate.export.compiled import compiled_bytes
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.script import write_artifact
from hpcsurrogate.physics.hosts import AnyHost, fold_closure, make_host

HOST_PROGRAM = Path(__file__).with_name("bench_embed_host")
FLOW = Flow(viscosity=1e-3, domain=(2 * math.pi, 2 * math.pi))
NETWORKS = ("quadratic_stencil", "tensor_basis", "cnn")
TURN_SECONDS = 0.02
COLUMNS = ("right-hand side", "eager", "exported", "guarded", "compiled")
BY_DEFAULT = "guarded, glibc's defaults"
# What core/memory.py does in Python: the call itself is timed, not the kernel that hands out pages.
KEEP_FREED_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_TOP_PAD_": str(2**26)}


@dataclass(frozen=True)
class Case:
    """A network on a grid of points^2."""

    network: str
    points: int

    @property
    def label(self) -> str:
        return f"{self.network} {self.points}^2"


ALL = tuple(Case(network, points) for points in (64, 256) for network in NETWORKS)
QUICK = tuple(Case(network, 64) for network in NETWORKS[:2])
# A call of milliseconds varies by more than what the C ABI adds to it.
OVERHEAD = (Case("quadratic_stencil", 8), Case("tensor_basis", 8), Case("quadratic_stencil", 64))
DECONVOLUTION = {"kind": "deconvolution", "knots": 16}
STEP_GRIDS = ((64, 64), (32, 32, 32))


# --- arithmetic -------------------------------------------------------------------------------------------------------


def overhead_microseconds(pairs: Sequence[tuple[int, int]]) -> float:
    """Median of what a call through the C ABI takes longer than the bare one beside it; pairs in nanoseconds."""
    return statistics.median(through_abi - bare for bare, through_abi in pairs) / 1e3


def figures_of(case: Case, seconds: dict[str, list[float]]) -> list[dict]:
    """Ratios of the turns in Python."""
    figures = [
        figure(f"{case.label}: exported / eager", median_ratio(seconds["exported"], seconds["eager"]), at_most=1.0),
        figure(f"{case.label}: guarded / exported", median_ratio(seconds["guarded"], seconds["exported"])),
        figure(
            f"{case.label}: guarded / right-hand side", median_ratio(seconds["guarded"], seconds["right-hand side"])
        ),
    ]
    if "compiled" in seconds:
        figures.append(figure(f"{case.label}: .pt2 / exported", median_ratio(seconds["compiled"], seconds["exported"])))
    return figures


def overhead_figures(case: Case, pairs: dict[str, list[tuple[int, int]]]) -> list[dict]:
    """What the C ABI adds to a call [us], with the guard and without; and what glibc's defaults cost the whole call."""
    figures = [
        figure(
            f"{case.label}: C ABI - bare LibTorch, {method}", overhead_microseconds(pairs[method]), "us", at_most=10.0
        )
        for method in ("forward", "guarded")
    ]
    by_default, kept = (statistics.median(ours for _, ours in pairs[name]) for name in (BY_DEFAULT, "guarded"))
    return [*figures, figure(f"{case.label}: C ABI, guarded, glibc's defaults / freed memory kept", by_default / kept)]


def step_figures(grid: tuple[int, ...], seconds: dict[str, list[float]]) -> list[dict]:
    """What a step takes with a deconvolution, over one of the bare host."""
    label = f"deconvolution {grid[0]}^{len(grid)}: step"
    ways = ("added to the fluxes", "in their place")
    return [figure(f"{label}, {way} / bare", median_ratio(seconds[way], seconds["bare"])) for way in ways]


def heading() -> str:
    """The first line of the table."""
    return f"  {'ms a call':<24}" + "".join(f"{name:>17}" for name in COLUMNS)


def line(case: Case, seconds: dict[str, list[float]]) -> str:
    """The line of a case: medians in ms."""
    medians = [f"{1e3 * statistics.median(seconds[name]):.3f}" if name in seconds else "-" for name in COLUMNS]
    return f"  {case.label:<24}" + "".join(f"{median:>17}" for median in medians)


# --- measurements -----------------------------------------------------------------------------------------------------


def take_turns(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of a call of each contestant in each round; a turn has as many calls as fit in TURN_SECONDS."""
    calls = {}
    for name, call in contestants.items():
        for _ in range(10):  # TorchScript compiles during the first calls
            call()
        calls[name] = max(1, math.ceil(TURN_SECONDS / _seconds(call, 3)))
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in list(contestants)[:: 1 if number % 2 else -1]:  # back and forth: nobody always follows the same one
            seconds[name].append(_seconds(contestants[name], calls[name]))
    return seconds


def _seconds(call: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def write_case(case: Case, path: Path) -> tuple[AnyHost, GridClosure]:
    """Write the artifact of a case; return its host and the network with its guard as a plain module."""
    config = FiniteVolumeHost(kind="finite_volume", grid=(case.points, case.points), time_step=0.01)
    closure = write_random_artifact(path, {"kind": case.network}, config, FLOW, random_velocity(config))
    return make_host(config, FLOW), closure


def measure(case: Case, path: Path, rounds: int, compiled: bool = False) -> dict[str, list[float]]:
    """Take the turns in Python, with .pt2 among them if it is to be `compiled`, which takes half a minute."""
    host, closure = write_case(case, path)
    artifact = load_artifact(path)
    (velocity,) = artifact.golden_inputs
    state = host.encode(velocity)
    contestants = {
        "right-hand side": lambda: host.solver.rhs(state, 0),
        "eager": lambda: closure(velocity),
        "exported": lambda: artifact(velocity),
        "guarded": lambda: artifact.guarded(velocity),
    }
    if compiled:
        native = compile_ahead(closure, artifact)
        contestants["compiled"] = lambda: native(velocity)
    with torch.inference_mode():
        return take_turns(contestants, rounds)


def compile_ahead(closure: GridClosure, artifact: Artifact) -> Artifact:
    """Write the same closure as .pt2 beside the artifact, and load it."""
    content = compiled_bytes(closure, artifact.metadata, artifact.golden_inputs, artifact.golden_output)
    path = artifact.path.with_suffix(".pt2")
    write_artifact(path, content)
    return load_artifact(path, allow_compiled=True)


def measure_overhead(case: Case, path: Path, calls: int) -> dict[str, list[tuple[int, int]]]:
    """Nanoseconds of (bare, through the C ABI) for each call of the C++ program.

    Forward and guarded with `KEEP_FREED_MEMORY`; guarded once more by glibc's defaults.
    """
    write_case(case, path)
    program = build_host(HOST_PROGRAM, HOST_PROGRAM.name)
    runs = {"forward": KEEP_FREED_MEMORY, "guarded": KEEP_FREED_MEMORY, BY_DEFAULT: {}}
    pairs = {}
    for name, settings in runs.items():
        command = [str(program), str(path), name.split(",")[0], "50", str(calls)]
        environment = os.environ | settings
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise HpcsurrogateError(f"{HOST_PROGRAM.name}: {done.stderr.strip()}")
        pairs[name] = [_pair(text) for text in done.stdout.splitlines()]
    return pairs


def measure_steps(grid: tuple[int, ...], path: Path, rounds: int) -> dict[str, list[float]]:
    """Take turns with steps of the host: bare, with a deconvolution added, and with it in place of the fluxes."""
    flow = FLOW.model_copy(update={"domain": (2 * math.pi,) * len(grid)})
    config = FiniteVolumeHost(kind="finite_volume", grid=grid, time_step=1e-4)
    host, velocity = make_host(config, flow), random_velocity(config)
    write_random_artifact(path, DECONVOLUTION, config, flow, velocity)
    closure = LearnedClosure(load_artifact(path))
    replaced, _ = fold_closure(host, closure)
    state = host.encode(host.project(velocity))
    contestants = {
        "bare": lambda: host.step(state),
        "added to the fluxes": lambda: host.step(state, closure),
        "in their place": lambda: replaced.step(state),
    }
    with torch.no_grad():
        return take_turns(contestants, rounds)


def _pair(text: str) -> tuple[int, int]:
    bare, through_abi = map(int, text.split())
    return bare, through_abi


def run_bench(options: argparse.Namespace) -> int:
    """Measure, print, write; 0 if every aim is met."""
    load = os.getloadavg()[0]
    if load > CORES / 2:
        print(f"note: the load average is {load:.1f} on {CORES} cores; ratios of this run will be uncertain")
    torch.set_num_threads(1)
    keep_freed_memory()
    cases, rounds, calls = (QUICK, 25, 500) if options.quick else (ALL, 51, 1000)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        print(heading(), flush=True)
        for case in cases:
            seconds = measure(case, path, rounds, compiled=not options.quick)
            print(line(case, seconds), flush=True)
            figures += figures_of(case, seconds)
        for case in OVERHEAD:
            figures += overhead_figures(case, measure_overhead(case, path, calls))
        for grid in STEP_GRIDS:
            figures += step_figures(grid, measure_steps(grid, path, rounds))
    print()
    for entry in figures:
        if "met" not in entry:
            print(f"{entry['name']}: {entry['value']:.2f}")
    return report(figures, options.json)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Cost of an exported closure in its host.")
    parser.add_argument("--quick", action="store_true", help="two networks at 64^2, no .pt2, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    # One thread for all; and no spinning of those that a library starts all the same.
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    try:
        sys.exit(run_bench(parse()))
    except HpcsurrogateError as error:
        print(f"bench_embed: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
