"""The contestants of bench_solver.py: our spectral solver, and the peers in a process of their own.

Each takes a start and a time step, runs a number of steps from it and says how long that took, and shows its result.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import torch

from hpcsurrogate.core.config import Flow, KolmogorovForcing
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectral import SpectralSolver

FLOW = Flow(viscosity=1e-3, drag=0.1, forcing=KolmogorovForcing(kind="kolmogorov", wavenumber=4, amplitude=1.0))
OURS = "hpcsurrogate"


class Own:
    """This package's solver behind the same three methods as `Peer`."""

    name, stages = OURS, 4

    def prepare(self, time_step: float, vorticity: np.ndarray, dtype: torch.dtype = torch.float32) -> None:
        """Take a start, shape (points, points) [1/s], and a time step [s]."""
        self._solver = SpectralSolver(Grid(vorticity.shape, FLOW.domain, dtype), FLOW)
        self._start = self._solver._to_spectral(torch.from_numpy(vorticity).to(dtype))
        self._time_step = time_step
        self.run(1)

    def run(self, num_steps: int) -> float:
        """Seconds for `num_steps` steps from the start."""
        begin = time.perf_counter()
        state = self._start
        for _ in range(num_steps):
            state = self._solver.step(state, self._time_step)
        self._end = state
        return time.perf_counter() - begin

    def vorticity(self) -> np.ndarray:
        """Vorticity after the last run, shape (points, points) [1/s]."""
        return self._solver.vorticity(self._end).double().numpy()


class PeerProcess:
    """bench_peers.py under another interpreter; one JSON object a line each way."""

    def __init__(self, python: str, cores: list[int], directory: Path):
        # XLA sizes its pool of threads by the cores it may use.
        flags = "--xla_cpu_multi_thread_eigen=false" if len(cores) == 1 else ""
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(len(cores))}
        script = Path(__file__).with_name("bench_peers.py")
        self.python, self.directory = python, directory
        try:
            self._process = subprocess.Popen(
                [python, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )
        except OSError as error:
            raise ConfigError(f"--peer-python {python}: {error.strerror}; name a Python interpreter") from None
        greeting = self._read()
        self.solvers, self.solvers_3d = greeting["solvers"], greeting["solvers_3d"]
        self.versions = greeting["versions"]

    def ask(self, **request: object) -> dict:
        """Send one request and wait for its answer."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise ConfigError(
                f"the peers did not start or stopped under {self.python} (see above): pip install -e .[bench] there, "
                "name an interpreter that has them with --peer-python, or give --without-peers"
            )
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


class Peer:
    """One solver of the peer process."""

    def __init__(self, process: PeerProcess, name: str):
        self.name, self._process = name, process
        self._file = process.directory / f"{name}.npy"

    def prepare(self, time_step: float, vorticity: np.ndarray) -> None:
        """Take a start and a time step, and compile."""
        np.save(self._file, vorticity)
        flow = {
            "viscosity": FLOW.viscosity,
            "drag": FLOW.drag,
            "wavenumber": FLOW.forcing.wavenumber,
            "amplitude": FLOW.forcing.amplitude,
        }
        self.stages = self._process.ask(
            command="prepare",
            key=self.name,
            solver=self.name,
            points=len(vorticity),
            time_step=time_step,
            flow=flow,
            field=str(self._file),
        )["stages"]

    def run(self, num_steps: int) -> float:
        """Seconds for `num_steps` steps from the start, measured in the peer's process."""
        return self._process.ask(command="run", key=self.name, num_steps=num_steps)["seconds"]

    def field(self) -> np.ndarray:
        """What it was given, after the last run."""
        self._process.ask(command="save", key=self.name, file=str(self._file))
        return np.load(self._file).astype(np.float64)

    vorticity = field


Contestant = Own | Peer
