"""The example of docs/examples: an artifact inside fluidsim, a solver of others, gives what it gives in our own."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from random_artifacts import random_velocity, write_random_artifact
from torch import Tensor

from hpcsurrogate.core.config import Flow, SpectralHost
from hpcsurrogate.embed.artifact import Artifact, load_artifact
from hpcsurrogate.physics.hosts import CollocatedHost, make_host

EXAMPLE = Path(__file__).parents[2] / "docs/examples/fluidsim_closure.py"
POINTS, TIME_STEP, NUM_STEPS = 32, 0.01, 20
FLOW = Flow(viscosity=1e-3, domain=(2 * math.pi, 2 * math.pi), forcing={"kind": "none"})
HOST = SpectralHost(kind="spectral", grid=(POINTS, POINTS), time_step=TIME_STEP)
NETWORK = {"kind": "cnn", "channels": 4, "hidden_layers": 1, "kernel_size": 3}


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location(EXAMPLE.stem, EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def closure(tmp_path_factory) -> Artifact:
    """A collocated artifact in float64 whose trained range holds the flow of the example."""
    path = tmp_path_factory.mktemp("collocated") / "model.pt"
    write_random_artifact(path, NETWORK, HOST, FLOW, random_velocity(HOST, torch.float64))
    return load_artifact(path)


@pytest.fixture
def host() -> CollocatedHost:
    return make_host(HOST, FLOW, torch.float64)


def velocity_of(simulation) -> Tensor:
    """Velocity (1, 2, nx, ny) [m/s] of a simulation of fluidsim, whose arrays are (y, x)."""
    components = [simulation.state.state_phys.get_var(name).T for name in ("ux", "uy")]
    return torch.from_numpy(np.stack(components)[None].copy())


def advance(host: CollocatedHost, velocity: Tensor, closure=None) -> Tensor:
    state = host.encode(velocity)
    for _ in range(NUM_STEPS):
        state = host.step(state, closure)
    return host.decode(state)


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def test_fluidsim_with_the_artifact_does_what_our_spectral_host_does_with_it(example, closure, host):
    """Same equation, same modes, same Runge-Kutta scheme, other code: equal to round-off after 20 steps."""
    simulation = example.decaying_turbulence(example.with_closure(closure), POINTS, TIME_STEP, NUM_STEPS)
    start = velocity_of(simulation)
    assert closure.guarded(start)[1] == (0, 0, 0)
    simulation.time_stepping.start()
    bare = advance(host, start)
    ours = advance(host, start, lambda velocity: closure.guarded(velocity)[0])
    assert difference(ours, bare) > 1e-3, "the closure must matter, or the comparison shows nothing"
    assert difference(velocity_of(simulation), ours) < 1e-11
    assert simulation.counts.tolist() == [0, 0, 0]


def test_cells_outside_the_trained_range_are_counted_and_take_the_classical_closure(example, closure, host):
    """The example's flow, twenty times as fast: the network is not asked for the steepest cells."""
    simulation = example.decaying_turbulence(example.with_closure(closure), POINTS, TIME_STEP / 20, 1)
    start = 20 * velocity_of(simulation)
    output, counts = closure.guarded(start)
    assert 0 < counts.outside < POINTS**2
    simulation.state.state_spect.set_var("rot_fft", 20 * simulation.state.state_spect.get_var("rot_fft"))
    simulation.state.statephys_from_statespect()
    tendency = simulation.tendencies_nonlin().get_var("rot_fft")
    without = super(type(simulation), simulation).tendencies_nonlin().get_var("rot_fft")
    force_curl = torch.from_numpy(simulation.oper.ifft(tendency - without).T.copy())[None]
    assert simulation.counts.tolist() == list(counts)
    assert difference(force_curl, host.solver.vorticity(host.encode(output))) < 1e-11
