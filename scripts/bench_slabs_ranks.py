"""The ranks of bench_slabs.py: the same flow on the first rank alone and shared by the first 1, 2, ..., in turns."""

import functools
import math
import statistics
import sys
import time
from collections.abc import Callable

import torch

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.config import ConstantPowerForcing, Flow
from hpcsurrogate.core.memory import keep_freed_memory
from hpcsurrogate.parallel.exchange import Exchange
from hpcsurrogate.parallel.world import World, get_world
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.slab_transform import SlabTransform
from hpcsurrogate.physics.spectral_3d import SpectralSolver3D

NUM_STEPS = 4  # of a turn; four right-hand sides each
PAUSE = 1e-3  # [s] between two looks of a rank that has nothing to do: it leaves its core to others


class Stopwatch:
    """Seconds spent in methods, waiting for other ranks included."""

    def __init__(self):
        self.seconds = 0.0

    def on(self, method: Callable) -> Callable:
        """The same method, watched."""

        @functools.wraps(method)
        def watched(*arguments):
            begin = time.perf_counter()
            method(*arguments)
            self.seconds += time.perf_counter() - begin

        return watched


def run_turns(points: int, ranks: list[int], rounds: int, everyone: World, exchange: Stopwatch) -> dict[str, list]:
    """Seconds of a right-hand side and of the exchanges within it; one pair a round for each number of ranks.

    Returns
    -------
    dict    "local" and the numbers of `ranks` as texts -> list of [seconds, seconds in exchanges], on every rank
    """
    grid = Grid((points,) * 3, (2 * math.pi,) * 3, torch.float32)
    forcing = ConstantPowerForcing(kind="constant_power", power=0.1)
    flow = Flow(domain=grid.lengths, viscosity=1e-3, forcing=forcing)
    contestants = {}
    for size in ranks:
        part = everyone.comm.Split(everyone.rank < size, everyone.rank)
        if everyone.rank < size:
            world = World(part.rank, part.size, comm=part)
            contestants[str(size)] = SpectralSolver3D(grid, flow, transform=SlabTransform(grid, world))
    if everyone.rank == 0:
        contestants["local"] = SpectralSolver3D(grid, flow)
    states = {
        name: solver.random_state(3, 1.0, torch.Generator().manual_seed(1))
        for name, solver in sorted(contestants.items())
    }
    turns: dict[str, list] = {name: [] for name in ["local", *map(str, ranks)]}
    for number in range(-1, rounds):  # the first to warm up
        for name, seconds in turns.items():
            exchange.seconds, begin = 0.0, time.perf_counter()
            if name in contestants:
                with torch.no_grad():
                    for _ in range(NUM_STEPS):
                        states[name] = contestants[name].step(states[name], 1e-3)
            if number >= 0:
                rhs = 4 * NUM_STEPS
                seconds.append([(time.perf_counter() - begin) / rhs, exchange.seconds / rhs])
            _meet(everyone)
    return turns


def _meet(everyone: World) -> None:
    request = everyone.comm.Ibarrier()
    while not request.Test():
        time.sleep(PAUSE)


def main(settings_file: str, result_file: str) -> None:
    """Medians and minima of the first rank, which takes part in all turns."""
    keep_freed_memory()
    torch.set_num_threads(1)
    settings = read_json(settings_file)
    exchange = Stopwatch()
    for swap in ("swap_to_far", "swap_to_near"):
        setattr(Exchange, swap, exchange.on(getattr(Exchange, swap)))
    everyone, result = get_world(), {}
    for points in settings["points"]:
        turns = run_turns(points, settings["ranks"], settings["rounds"], everyone, exchange)
        result[str(points)] = {
            name: {
                "minimum": min(total for total, _ in of_name),
                "median": statistics.median(total for total, _ in of_name),
                "exchange": statistics.median(part / total for total, part in of_name),
            }
            for name, of_name in turns.items()
        }
    if everyone.rank == 0:
        write_json_atomic(result_file, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
