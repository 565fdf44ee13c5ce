"""The part of bench_solver.py in three dimensions: time per right-hand side and grid point of decaying turbulence.

Beside exponax, and beside the least that a pseudo-spectral right-hand side can take: the eight FFTs it needs, by torch
alone, of whole fields. Float32, the same threads, contestants in turns.
"""

import statistics
import time

import numpy as np
import torch
from bench_contestants import FLOW, OURS, Own, Peer, PeerProcess

from hpcsurrogate.core.config import Flow
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectral_3d import SpectralSolver3D

FLOW_3D = Flow(domain=(FLOW.domain[0],) * 3, viscosity=5e-3, drag=FLOW.drag)
PEER_AIM, FFT_AIM = 0.85, 1.25  # our time over the fastest peer's, which needs nine FFTs; over that of eight
SAME_FLOW = 1e-3  # relative difference of two solvers after a few steps of CFL number 1/2
NUM_FFTS = (3, 5)  # back and forth


class Own3D(Own):
    """This package's solver, started from a velocity."""

    def prepare(self, time_step: float, velocity: np.ndarray) -> None:
        """Take a start, shape (3, points, points, points) [m/s], and a time step [s]."""
        self._solver = SpectralSolver3D(Grid(velocity.shape[1:], FLOW_3D.domain, torch.float32), FLOW_3D)
        self._start = self._solver.encode(torch.from_numpy(velocity).to(torch.float32))
        self._time_step = time_step
        self.run(1)

    def result(self) -> np.ndarray:
        """Velocity after the last run, shape (3, points, points, points) [m/s]."""
        return self._solver.velocity(self._end).double().numpy()


class Peer3D(Peer):
    """A solver of the peer process, started from a velocity."""

    def prepare(self, time_step: float, velocity: np.ndarray) -> None:
        """Take a start and a time step, and compile."""
        np.save(self._file, velocity)
        flow = {"viscosity": FLOW_3D.viscosity, "drag": FLOW_3D.drag}
        self.stages = self._process.ask(
            command="prepare",
            key=self.name,
            solver=self.name,
            points=velocity.shape[-1],
            time_step=time_step,
            flow=flow,
            field=str(self._file),
        )["stages"]

    result = Peer.field


class Ffts:
    """Eight FFTs of whole fields in place of a right-hand side."""

    name, stages = "8 FFTs by torch", 1

    def prepare(self, time_step: float, velocity: np.ndarray) -> None:
        """Take the field to transform."""
        self._field = torch.from_numpy(velocity[0]).to(torch.float32)
        self._field_hat = torch.fft.rfftn(self._field)

    def run(self, num_steps: int) -> float:
        """Seconds for `num_steps` times eight FFTs."""
        begin = time.perf_counter()
        for _ in range(num_steps):
            for _ in range(NUM_FFTS[0]):
                torch.fft.irfftn(self._field_hat, s=self._field.shape)
            for _ in range(NUM_FFTS[1]):
                torch.fft.rfftn(self._field)
        return time.perf_counter() - begin


def start_velocity(points: int) -> tuple[np.ndarray, float]:
    """Random velocity, the same field on every grid, and the time step of CFL number 1.

    Returns
    -------
    ndarray, shape (3, points, points, points), float64 [m/s], and float [s]
    """
    solver = SpectralSolver3D(Grid((points,) * 3, FLOW_3D.domain), FLOW_3D)
    velocity = solver.velocity(solver.random_velocity_hat(3, 1.0, torch.Generator().manual_seed(1)))
    courant_rate = (velocity.abs().sum(0) / solver.grid.spacing[0]).max().item()
    return velocity.numpy(), 1 / courant_rate


def bench_box(peers: PeerProcess | None, points: int, rounds: int) -> list[dict]:
    """All figures of one grid of points^3; prints its lines of the table.

    Raises
    ------
    ConfigError    if a peer's flow is not ours
    """
    contestants = [Own3D(), *([Peer3D(peers, name) for name in peers.solvers_3d] if peers else []), Ffts()]
    velocity, unit_step = start_velocity(points)
    for contestant in contestants:
        contestant.prepare(unit_step / 2, velocity)
    samples: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for _ in range(rounds):
        for contestant in contestants:
            num_steps = 4 // contestant.stages if points > 64 else 8 // contestant.stages
            seconds = contestant.run(num_steps)
            samples[contestant.name].append(1e9 * seconds / (num_steps * contestant.stages * points**3))
    _require_same_flow(contestants[:-1])
    header = f"{points}^3 points"
    print(f"\n  {header:<18} ns per point and stage\n  {'':<18} {'minimum':>10} {'median':>11}")
    for name, times in samples.items():
        print(f"  {name:<18} {min(times):>10.2f} {statistics.median(times):>11.2f}", flush=True)
    return _figures(f"{points}^3 time per point and stage", {name: min(times) for name, times in samples.items()})


def _require_same_flow(contestants: list[Own3D | Peer3D]) -> None:
    """A fast solver of something else would be no peer."""
    ours, *others = contestants
    ours.run(4)
    exact = ours.result()
    for peer in others:
        peer.run(4)
        difference = float(np.linalg.norm(peer.result() - exact) / np.linalg.norm(exact))
        if difference > SAME_FLOW:
            raise ConfigError(
                f"{peer.name}: differs from our flow by {difference:.1e} after 4 steps; look at its set-up"
            )


def _figures(label: str, values: dict[str, float]) -> list[dict]:
    figures = [{"name": f"{label}, {name}", "value": value, "unit": "ns"} for name, value in values.items()]
    peers = [value for name, value in values.items() if name not in (OURS, Ffts.name)]
    ratios = [(Ffts.name, values[Ffts.name], FFT_AIM), *([("fastest peer", min(peers), PEER_AIM)] if peers else [])]
    for name, value, aim in ratios:
        ratio = values[OURS] / value
        figures.append(
            {"name": f"{label}, {OURS} / {name}", "value": ratio, "unit": "1", "at_most": aim, "met": ratio <= aim}
        )
    return figures
