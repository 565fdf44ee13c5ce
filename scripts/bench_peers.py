"""The peers of bench_solver.py in a process of their own: exponax and jax-cfd, driven over a pipe.

Started by bench_solver.py with any interpreter that has the `bench` extra; imports nothing of hpcsurrogate. One JSON
object a line on standard input, one answer a line on standard output:

    {"command": "prepare", "key", "solver", "points", "time_step", "flow": {...}, "vorticity": FILE.npy} -> {"stages"}
    {"command": "run", "key", "num_steps"} -> {"seconds"}        from the same start every time, compiled before
    {"command": "save", "key", "file": FILE.npy} -> {}           vorticity after the last run

Each peer in its strongest honest form: float32, state kept in Fourier space, the whole time loop inside one compiled
function, the stepper its authors recommend.
"""

import json
import math
import sys
import time
from collections.abc import Callable

import equinox
import exponax
import jax
import jax.numpy as jnp
import jax_cfd
import numpy as np
from jax_cfd.base.forcings import kolmogorov_forcing
from jax_cfd.base.grids import Grid
from jax_cfd.spectral.equations import NavierStokes2D
from jax_cfd.spectral.time_stepping import crank_nicolson_rk4

LENGTH = 2 * math.pi


class Peer:
    """A compiled time loop; `vorticity = sign * irfft2(state)`."""

    def __init__(self, step: Callable, stages: int, sign: int, vorticity: np.ndarray):
        def advance(step: Callable, state: jax.Array, num_steps: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, num_steps, lambda _, state: step(state), state)

        self.stages, self._sign, self._step = stages, sign, step
        self._start = jnp.fft.rfft2(jnp.asarray(sign * vorticity, dtype=jnp.float32))
        # filter_jit passes the arrays of an exponax stepper as arguments; what a closure holds becomes a constant.
        self._advance = equinox.filter_jit(advance)
        self.run(1)

    def run(self, num_steps: int) -> float:
        """Seconds for `num_steps` steps from the start."""
        count = jnp.asarray(num_steps)
        begin = time.perf_counter()
        self._end = self._advance(self._step, self._start, count).block_until_ready()
        return time.perf_counter() - begin

    def vorticity(self) -> np.ndarray:
        return self._sign * np.asarray(jnp.fft.irfft2(self._end))


class SingleChannel(equinox.Module):
    """An exponax stepper in Fourier space without its channel axis."""

    stepper: exponax.stepper.KolmogorovFlowVorticity

    def __call__(self, state: jax.Array) -> jax.Array:
        return self.stepper.step_fourier(state[None])[0]


def exponax_etdrk(order: int, points: int, time_step: float, flow: dict, vorticity: np.ndarray) -> Peer:
    """ETDRK of order 2 (the default) or 4: as many stages. Its vorticity has the opposite sign, so the force too."""
    stepper = exponax.stepper.KolmogorovFlowVorticity(
        2,
        LENGTH,
        points,
        time_step,
        diffusivity=flow["viscosity"],
        drag=-flow["drag"],
        injection_mode=flow["wavenumber"],
        injection_scale=-flow["amplitude"],
        order=order,
    )
    return Peer(SingleChannel(stepper), stages=order, sign=-1, vorticity=vorticity)


def jax_cfd_rk4(points: int, time_step: float, flow: dict, vorticity: np.ndarray) -> Peer:
    """Crank-Nicolson with the five-stage fourth-order Runge-Kutta scheme of Carpenter and Kennedy."""

    def forcing(grid: Grid) -> Callable:
        return kolmogorov_forcing(grid, scale=flow["amplitude"], k=flow["wavenumber"], offsets=((0, 0), (0, 0)))

    grid = Grid((points, points), domain=((0, LENGTH), (0, LENGTH)))
    equation = NavierStokes2D(flow["viscosity"], grid, drag=flow["drag"], smooth=True, forcing_fn=forcing)
    return Peer(crank_nicolson_rk4(equation, time_step), stages=5, sign=1, vorticity=vorticity)


SOLVERS = {
    "exponax ETDRK2": lambda *args: exponax_etdrk(2, *args),
    "exponax ETDRK4": lambda *args: exponax_etdrk(4, *args),
    "jax-cfd CN-RK4": jax_cfd_rk4,
}


def answer(request: dict, peers: dict[str, Peer]) -> dict:
    """Do what one line asks."""
    key = request["key"]
    if request["command"] == "prepare":
        vorticity = np.load(request["vorticity"])
        build = SOLVERS[request["solver"]]
        peers[key] = build(request["points"], request["time_step"], request["flow"], vorticity)
        return {"stages": peers[key].stages}
    if request["command"] == "run":
        return {"seconds": peers[key].run(request["num_steps"])}
    np.save(request["file"], peers[key].vorticity())
    return {}


def main() -> None:
    """Say hello with the versions and the names of the solvers, then answer until the pipe closes."""
    modules = {"jax": jax, "exponax": exponax, "jax-cfd": jax_cfd}
    versions = {name: module.__version__ for name, module in modules.items()}
    print(json.dumps({"solvers": list(SOLVERS), "versions": versions}), flush=True)
    peers: dict[str, Peer] = {}
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), peers)), flush=True)


if __name__ == "__main__":
    main()
