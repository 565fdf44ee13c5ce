"""The peers of bench_solver.py in a process of their own: exponax and jax-cfd, driven over a pipe.

Started by bench_solver.py with any interpreter that has the `bench` extra; imports nothing of hpcsurrogate. One JSON
object a line on standard input, one answer a line on standard output:

    {"command": "prepare", "key", "solver", "points", "time_step", "flow": {...}, "field": FILE.npy} -> {"stages"}
    {"command": "run", "key", "num_steps"} -> {"seconds"}        from the same start every time, compiled before
    {"command": "save", "key", "file": FILE.npy} -> {}           the field after the last run

Each peer in its strongest honest form: float32, state kept in Fourier space, the whole time loop inside one compiled
function, the stepper its authors recommend. The field is a vorticity (points, points), or a velocity
(3, points, points, points) for the solvers in three dimensions.
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
    """A compiled time loop; `field = sign * irfftn(state)` over its two or three dimensions of space."""

    def __init__(self, step: Callable, stages: int, sign: int, field: np.ndarray):
        def advance(step: Callable, state: jax.Array, num_steps: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, num_steps, lambda _, state: step(state), state)

        self.stages, self._sign, self._step = stages, sign, step
        self._axes = (0, 1) if field.ndim == 2 else (1, 2, 3)
        self._start = jnp.fft.rfftn(jnp.asarray(sign * field, dtype=jnp.float32), axes=self._axes)
        # filter_jit passes the arrays of an exponax stepper as arguments; what a closure holds becomes a constant.
        self._advance = equinox.filter_jit(advance)
        self.run(1)

    def run(self, num_steps: int) -> float:
        """Seconds for `num_steps` steps from the start."""
        count = jnp.asarray(num_steps)
        begin = time.perf_counter()
        self._end = self._advance(self._step, self._start, count).block_until_ready()
        return time.perf_counter() - begin

    def field(self) -> np.ndarray:
        return self._sign * np.asarray(jnp.fft.irfftn(self._end, axes=self._axes))


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
    return Peer(SingleChannel(stepper), stages=order, sign=-1, field=vorticity)


def jax_cfd_rk4(points: int, time_step: float, flow: dict, vorticity: np.ndarray) -> Peer:
    """Crank-Nicolson with the five-stage fourth-order Runge-Kutta scheme of Carpenter and Kennedy."""

    def forcing(grid: Grid) -> Callable:
        return kolmogorov_forcing(grid, scale=flow["amplitude"], k=flow["wavenumber"], offsets=((0, 0), (0, 0)))

    grid = Grid((points, points), domain=((0, LENGTH), (0, LENGTH)))
    equation = NavierStokes2D(flow["viscosity"], grid, drag=flow["drag"], smooth=True, forcing_fn=forcing)
    return Peer(crank_nicolson_rk4(equation, time_step), stages=5, sign=1, field=vorticity)


def exponax_etdrk_3d(order: int, points: int, time_step: float, flow: dict, velocity: np.ndarray) -> Peer:
    """ETDRK of order 2 (the default) or 4 for the velocity, in the rotational form."""
    stepper = exponax.stepper.NavierStokesVelocity(
        3, LENGTH, points, time_step, diffusivity=flow["viscosity"], drag=-flow["drag"], order=order
    )
    return Peer(stepper.step_fourier, stages=order, sign=1, field=velocity)


SOLVERS = {
    "exponax ETDRK2": lambda *args: exponax_etdrk(2, *args),
    "exponax ETDRK4": lambda *args: exponax_etdrk(4, *args),
    "jax-cfd CN-RK4": jax_cfd_rk4,
}
SOLVERS_3D = {
    "exponax 3-D ETDRK2": lambda *args: exponax_etdrk_3d(2, *args),
    "exponax 3-D ETDRK4": lambda *args: exponax_etdrk_3d(4, *args),
}


def answer(request: dict, peers: dict[str, Peer]) -> dict:
    """Do what one line asks."""
    key = request["key"]
    if request["command"] == "prepare":
        build = (SOLVERS | SOLVERS_3D)[request["solver"]]
        peers[key] = build(request["points"], request["time_step"], request["flow"], np.load(request["field"]))
        return {"stages": peers[key].stages}
    if request["command"] == "run":
        return {"seconds": peers[key].run(request["num_steps"])}
    np.save(request["file"], peers[key].field())
    return {}


def main() -> None:
    """Say hello with the versions and the names of the solvers, then answer until the pipe closes."""
    modules = {"jax": jax, "exponax": exponax, "jax-cfd": jax_cfd}
    versions = {name: module.__version__ for name, module in modules.items()}
    greeting = {"solvers": list(SOLVERS), "solvers_3d": list(SOLVERS_3D), "versions": versions}
    print(json.dumps(greeting), flush=True)
    peers: dict[str, Peer] = {}
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), peers)), flush=True)


if __name__ == "__main__":
    main()
