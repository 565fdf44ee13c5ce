"""The Runge-Kutta steps: order, exactness of the linear part, linearity in the stages; the order of both solvers."""

import math

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, Hyperviscosity, KolmogorovForcing, SpectralHost
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.physics.time_stepping import integrating_factor_rk4, runge_kutta_4

ONE = torch.ones(1, dtype=torch.float64)


def integrate(step, duration, num_steps):
    y = ONE
    for _ in range(num_steps):
        y = step(y, duration / num_steps)
    return y


def observed_order(errors):
    """Order of convergence from the errors at a time step and at half of it."""
    return math.log2(errors[0] / errors[1])


def test_plain_step_is_of_order_4():
    # dy/dt = -y^2, y = 1 / (1 + t).
    errors = [
        abs(integrate(lambda y, dt: runge_kutta_4(lambda y, stage: -(y**2), y, dt), 1.0, n).item() - 0.5)
        for n in (16, 32)
    ]
    assert observed_order(errors) == pytest.approx(4, abs=0.1)


def test_integrating_factor_step_is_of_order_4():
    # dy/dt = L y - y^2 with L = -2: y = L / (1 + (L - 1) exp(-L t)) from y = 1.
    linear, duration = -2.0, 1.0
    exact = linear / (1 + (linear - 1) * math.exp(-linear * duration))

    def step(y, dt):
        return integrating_factor_rk4(lambda y, stage: -(y**2), torch.exp(linear * dt / 2 * ONE), y, dt)

    errors = [abs(integrate(step, duration, n).item() - exact) for n in (64, 128)]
    assert observed_order(errors) == pytest.approx(4, abs=0.1)


def test_integrating_factor_step_is_exact_without_slow_terms():
    # Rates times dt from 0 to 700, where an explicit method would have blown up.
    linear = torch.linspace(-1000, 0, 11, dtype=torch.float64)
    y = integrating_factor_rk4(lambda y, stage: torch.zeros_like(y), torch.exp(linear * 0.35), ONE.expand(11), 0.7)
    torch.testing.assert_close(y, torch.exp(0.7 * linear), rtol=1e-14, atol=0)


def test_integrating_factor_step_without_a_linear_term_is_the_plain_one():
    y = torch.linspace(0.1, 1, 7, dtype=torch.float64)
    plain = runge_kutta_4(lambda y, stage: torch.sin(y), y, 0.3)
    factored = integrating_factor_rk4(lambda y, stage: torch.sin(y), torch.ones_like(y), y, 0.3)
    torch.testing.assert_close(factored, plain, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("factored", [False, True])
def test_stages_come_in_order_and_enter_linearly(factored):
    # A fixed linear map of all stage derivatives must be the step of the mapped ones: the exact commutator rests on it.
    stages, decay = [], torch.tensor(0.8, dtype=torch.float64)
    fixed = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.linspace(-1, 1, 5, dtype=torch.float64)

    def advance(y, derivatives):
        def rhs(y, stage):
            stages.append(stage)
            return derivatives[stage]

        return integrating_factor_rk4(rhs, decay, y, 0.1) if factored else runge_kutta_4(rhs, y, 0.1)

    mapping = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mapped, expected = advance(y @ mapping, fixed @ mapping), advance(y, fixed) @ mapping
    torch.testing.assert_close(mapped, expected, rtol=1e-13, atol=1e-13)
    assert stages == [0, 1, 2, 3] * 2


FLOW = Flow(
    domain=(2 * math.pi, 3 * math.pi),
    viscosity=0.02,
    drag=0.1,
    forcing=KolmogorovForcing(kind="kolmogorov", wavenumber=2, amplitude=1.0),
)
HOSTS = {
    "finite volume 2": FiniteVolumeHost(kind="finite_volume", grid=(24, 20), order=2, time_step=0.08),
    "finite volume 6": FiniteVolumeHost(kind="finite_volume", grid=(24, 20), order=6, time_step=0.08),
    "spectral": SpectralHost(kind="spectral", grid=(24, 20), time_step=0.08),
    "hyperviscous": SpectralHost(kind="spectral", grid=(24, 20), time_step=0.08, hyperviscosity=Hyperviscosity()),
}


@pytest.mark.parametrize("name", HOSTS)
def test_solvers_are_of_order_4_with_forcing_and_advection(name, random_velocity):
    """Richardson: solutions at dt, dt / 2 and dt / 4 differ by amounts in the ratio 2^4."""
    solutions = []
    for refinement in (1, 2, 4):
        config = HOSTS[name].model_copy(update={"time_step": HOSTS[name].time_step / refinement})
        host = make_host(config, FLOW, torch.float64)
        state = host.encode(host.project(random_velocity(host.grid, wavenumber=2)))
        for _ in range(5 * refinement):
            state = host.step(state)
        solutions.append(host.decode(state))
    coarse, middle, fine = solutions
    errors = [(coarse - middle).norm().item(), (middle - fine).norm().item()]
    assert errors[1] > 1e-11  # far above round-off, so that the ratio means something
    assert observed_order(errors) == pytest.approx(4, abs=0.25)  # the next term of the error shows at this dt
