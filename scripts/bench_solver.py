"""Speed of the spectral solvers beside exponax and jax-cfd, in one run: forced 2-D turbulence, float32, same threads.

Two questions for each grid: time per right-hand side (one Runge-Kutta stage) and grid point; and the time to carry a
field over DURATION with a relative error of TARGET_ERROR, at the largest time step that allows it.

The contestants take turns, so that they meet the same load; what counts is the fastest turn of each, the median is
printed beside it. Seconds to the error are the steps it takes times the fastest turn's time for a step. The peers
live in a process of their own (bench_peers.py) on the same cores. Decaying turbulence in three dimensions follows
(bench_solver_3d.py), the time per right-hand side alone.

    python scripts/bench_solver.py --threads 2 --json bench.json
"""

# ruff: noqa: E402    (OpenMP reads its environment when torch is imported)

import argparse
import math
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))  # read before OpenMP, which torch loads, binds this thread to one of them
if __name__ == "__main__":
    # Threads free to move can end up on one core, where each spins while it waits for the other.
    os.environ.setdefault("OMP_PROC_BIND", "true")

import numpy as np
import torch
from bench_contestants import FLOW, OURS, Contestant, Own, Peer, PeerProcess
from bench_solver_3d import bench_box

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.errors import ConfigError, HpcsurrogateError
from hpcsurrogate.core.memory import keep_freed_memory
from hpcsurrogate.core.provenance import provenance
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectral import SpectralSolver

DURATION = 0.25  # [s] of the run whose error is measured
TARGET_ERROR = 1e-4  # relative, root mean square of the vorticity
AIM = 0.6  # our time over the faster peer's
SMALLEST = 64  # grid that the start field needs


def start_field(points: int) -> tuple[np.ndarray, float]:
    """Random vorticity, the same field on every grid, and the time step of CFL number 1.

    Returns
    -------
    ndarray, shape (points, points), float64 [1/s], and float [s]
    """
    coarse = SpectralSolver(Grid((SMALLEST, SMALLEST), FLOW.domain), FLOW)
    fine = SpectralSolver(Grid((points, points), FLOW.domain), FLOW)
    state = coarse.random_vorticity_hat(4, 1.0, torch.Generator().manual_seed(1))
    state = coarse.refine(state, fine)
    courant_rate = (fine.velocity(state).abs().sum(-3) / fine.grid.spacing[0]).max().item()
    return fine.vorticity(state).numpy(), 1 / courant_rate


def step_times(contestants: list[Contestant], points: int, rounds: int) -> dict[str, list[float]]:
    """Time per stage and grid point [ns], one number a turn; the contestants take turns."""
    vorticity, time_step = start_field(points)
    for contestant in contestants:
        contestant.prepare(time_step / 2, vorticity)
    # Turns of some 30 ms: short enough to fall between other programs' bursts, long beside a call's overhead.
    num_steps = max(2, 16 * 256**2 // points**2)
    samples: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for _ in range(rounds):
        for contestant in contestants:
            seconds = contestant.run(num_steps)
            samples[contestant.name].append(1e9 * seconds / (num_steps * contestant.stages * points**2))
    return samples


def reference(points: int) -> np.ndarray:
    """Vorticity after DURATION: our solver in float64 at CFL number 1/4, shape (points, points) [1/s]."""
    vorticity, time_step = start_field(points)
    num_steps = math.ceil(4 * DURATION / time_step)
    solver = Own()
    solver.prepare(DURATION / num_steps, vorticity, torch.float64)
    solver.run(num_steps)
    return solver.vorticity()


def steps_to_error(contestant: Contestant, points: int, exact: np.ndarray) -> int:
    """Fewest steps over DURATION that keep the error within TARGET_ERROR, to 5 %: doubled until they do, then halved.

    Raises
    ------
    ConfigError    if no time step down to CFL number 1/8 does
    """
    vorticity, unit_step = start_field(points)
    failing, num_steps = 0, math.ceil(DURATION / (2 * unit_step))
    while (error := run_error(contestant, num_steps, vorticity, exact)) > TARGET_ERROR:
        failing, num_steps = num_steps, 2 * num_steps
        if num_steps > 8 * DURATION / unit_step:
            raise ConfigError(
                f"{contestant.name}, {points}^2: error {error:.1e} even at {failing} steps; the grid may be too coarse "
                "for this flow, give more --points"
            )
    passing = num_steps
    while passing > failing + max(1, passing // 20):
        middle = (failing + passing) // 2
        if run_error(contestant, middle, vorticity, exact) > TARGET_ERROR:
            failing = middle
        else:
            passing = middle
    return passing


def run_error(contestant: Contestant, num_steps: int, vorticity: np.ndarray, exact: np.ndarray) -> float:
    """Relative error after DURATION in `num_steps` steps, infinite if the run blew up."""
    contestant.prepare(DURATION / num_steps, vorticity)
    contestant.run(num_steps)
    error = float(np.sqrt(np.mean((contestant.vorticity() - exact) ** 2) / np.mean(exact**2)))
    return error if math.isfinite(error) else math.inf


def compare(label: str, unit: str, values: dict[str, float]) -> list[dict]:
    """Figures of one line of the table: each contestant's value, then ours over the fastest peer's with its aim."""
    figures = [{"name": f"{label}, {name}", "value": value, "unit": unit} for name, value in values.items()]
    peers = [value for name, value in values.items() if name != OURS]
    if peers:
        ratio = values[OURS] / min(peers)
        name = f"{label}, {OURS} / fastest peer"
        figures.append({"name": name, "value": ratio, "unit": "1", "at_most": AIM, "met": ratio <= AIM})
    return figures


def bench(contestants: list[Contestant], points: int, rounds: int) -> list[dict]:
    """All figures of one grid; prints its lines of the table."""
    samples = step_times(contestants, points, rounds)
    stage_times = {name: min(times) for name, times in samples.items()}
    exact = reference(points)
    run_times = {}
    header = f"{points}^2 points"
    print(f"\n  {header:<18} ns per point and stage      to error {TARGET_ERROR:g}")
    print(f"  {'':<18} {'minimum':>10} {'median':>11} {'steps':>12} {'seconds':>10}")
    for contestant in contestants:
        name = contestant.name
        steps = steps_to_error(contestant, points, exact)
        run_times[name] = steps * contestant.stages * points**2 * stage_times[name] * 1e-9
        median = statistics.median(samples[name])
        times = f"{stage_times[name]:>10.2f} {median:>11.2f}"
        print(f"  {name:<18} {times} {steps:>12} {run_times[name]:>10.3f}", flush=True)
    figures = compare(f"{points}^2 time per point and stage", "ns", stage_times)
    return figures + compare(f"{points}^2 time to error {TARGET_ERROR:g}", "s", run_times)


def machine(threads: int, versions: dict[str, str]) -> dict:
    """What the figures depend on."""
    return provenance() | {
        "machine": platform.machine(),
        "cores": len(CORES),
        "threads": threads,
        "load_average": os.getloadavg()[0],
        "peers": versions,
    }


def use_threads(threads: int) -> None:
    """Set the number of threads; say so if other programs hold the cores.

    Raises
    ------
    ConfigError    if there are fewer cores
    """
    if threads > len(CORES):
        raise ConfigError(f"--threads {threads}: this process may use {len(CORES)} cores; ask for at most as many")
    torch.set_num_threads(threads)
    load = os.getloadavg()[0]
    if load > len(CORES) / 2:
        print(f"note: the load average is {load:.1f} on {len(CORES)} cores; times of several threads will be too long")


def start_peers(options: argparse.Namespace, directory: Path) -> PeerProcess:
    """The peers on as many cores as we have threads."""
    return PeerProcess(options.peer_python, CORES[: options.threads], directory)


def run_bench(options: argparse.Namespace) -> int:
    """Measure, print, write; 0 if every aim is met."""
    use_threads(options.threads)
    keep_freed_memory()
    points, boxes = options.points or [], options.boxes or []
    if not points and not boxes:
        points, boxes = ([256], [64]) if options.quick else ([256, 512, 1024], [64, 128])
    for option, sizes in (("--points", points), ("--boxes", boxes)):
        if sizes and min(sizes) < SMALLEST:
            raise ConfigError(f"{option} {min(sizes)}: give at least {SMALLEST}")
    rounds = 10 if options.quick else 40
    with tempfile.TemporaryDirectory() as directory, torch.no_grad():
        peers = None if options.without_peers else start_peers(options, Path(directory))
        contestants = [Own()] + ([Peer(peers, name) for name in peers.solvers] if peers else [])
        figures = [figure for n in points for figure in bench(contestants, n, rounds)]
        figures += [figure for n in boxes for figure in bench_box(peers, n, rounds // 2)]
        if peers:
            peers.close()
    print()
    for figure in figures:
        if "at_most" in figure:
            verdict = "met" if figure["met"] else "MISSED"
            print(f"{figure['name']}: {figure['value']:.2f} (aim: at most {figure['at_most']}, {verdict})")
    if options.json:
        versions = peers.versions if peers else {}
        write_json_atomic(options.json, {"figures": figures, "machine": machine(options.threads, versions)})
    return 0 if all(figure.get("met", True) for figure in figures) else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed of the spectral solvers beside exponax and jax-cfd.")
    parser.add_argument("--points", type=int, nargs="+", help="of 2-D grids along an axis, >= 64 (256 512 1024)")
    parser.add_argument("--boxes", type=int, nargs="+", help="of 3-D grids along an axis, >= 64 (64 128)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="256^2 and 64^3 alone and fewer turns, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has the `bench` extra")
    parser.add_argument("--without-peers", action="store_true", help="our times alone, no ratios")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(run_bench(parse()))
    except HpcsurrogateError as error:
        print(f"bench_solver: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
