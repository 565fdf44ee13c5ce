"""Classical closures: formulas on known fields, order of the gradient model, conservation, sign, invariance."""

import math

import numpy as np
import pytest
import torch

from hpcsurrogate.core.config import (
    DynamicSmagorinsky,
    Filter,
    FiniteVolumeHost,
    Flow,
    Gradient,
    HyperviscousClosure,
    Learned,
    Leith,
    Mixed,
    NoClosure,
    Smagorinsky,
    SpectralHost,
)
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics import closures
from hpcsurrogate.physics.closures.dynamic import filter_test
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.physics.spectral import SpectralSolver
from hpcsurrogate.physics.stress_operators import SpectralOperators, StaggeredOperators

TWO_PI = 2 * math.pi
DELTA = 0.3
ROUND_OFF = 1e-12  # float64, on values of order 1 to 10
KINDS = {
    "none": NoClosure(kind="none"),
    "smagorinsky": Smagorinsky(kind="smagorinsky", constant=0.2),
    "dynamic_smagorinsky": DynamicSmagorinsky(kind="dynamic_smagorinsky"),
    "leith": Leith(kind="leith", constant=0.3),
    "gradient2": Gradient(kind="gradient", order=2),
    "gradient4": Gradient(kind="gradient", order=4),
    "regularised4": Gradient(kind="gradient", order=4, regularised=True),
    "mixed": Mixed(kind="mixed", constant=0.2),
    "hyperviscosity": HyperviscousClosure(kind="hyperviscosity", rate=4.0),
}
DISSIPATIVE = ["smagorinsky", "dynamic_smagorinsky", "leith", "regularised4", "hyperviscosity"]


def host_of(layout, grid=(16, 24), dtype=torch.float64):
    flow = Flow(viscosity=1e-3, domain=(TWO_PI, 2 * TWO_PI))
    if layout == "staggered":
        return make_host(FiniteVolumeHost(kind="finite_volume", grid=grid, time_step=0.01), flow, dtype)
    return make_host(SpectralHost(kind="spectral", grid=grid, dealias="shift", time_step=0.01), flow, dtype)


def noise(host, batch=3, seed=0):
    """Divergence-free white noise: the roughest field the grid can hold."""
    generator = torch.Generator().manual_seed(seed)
    return host.project(torch.randn(batch, 2, *host.grid.shape, dtype=host.grid.dtype, generator=generator))


@pytest.fixture(params=["staggered", "collocated"])
def host(request):
    return host_of(request.param)


# --- formulas ---------------------------------------------------------------------------------------------------
# Two fields with closed-form stresses. Shear: u = A sin(ky). Cells: u = sin x cos y, v = -cos x sin y, whose strain is
# S_xx = cos x cos y, S_xy = 0 and whose vorticity is 2 sin x sin y.

AMPLITUDE, WAVENUMBER = 1.3, 2


def shear(x, y):
    return AMPLITUDE * torch.sin(WAVENUMBER * y) + 0 * x, 0 * x * y


def cells(x, y):
    return torch.sin(x) * torch.cos(y), -torch.cos(x) * torch.sin(y)


def shear_smagorinsky(x, y):
    uy = AMPLITUDE * WAVENUMBER * torch.cos(WAVENUMBER * y) + 0 * x
    return 0 * uy, -((0.2 * DELTA) ** 2) * uy.abs() * uy, 0 * uy


def shear_leith(x, y):
    uy = AMPLITUDE * WAVENUMBER * torch.cos(WAVENUMBER * y) + 0 * x
    vorticity_gradient = AMPLITUDE * WAVENUMBER**2 * torch.sin(WAVENUMBER * y).abs()
    return 0 * uy, -((0.3 * DELTA) ** 3) * vorticity_gradient * uy, 0 * uy


def shear_gradient2(x, y):
    uy = AMPLITUDE * WAVENUMBER * torch.cos(WAVENUMBER * y) + 0 * x
    return DELTA**2 / 12 * uy**2, 0 * uy, 0 * uy


def shear_gradient4(x, y):
    xx, xy, yy = shear_gradient2(x, y)
    uyy = AMPLITUDE * WAVENUMBER**2 * torch.sin(WAVENUMBER * y)
    return xx + DELTA**4 / 288 * uyy**2, xy, yy


def cells_smagorinsky(x, y):
    cc = torch.cos(x) * torch.cos(y)
    xx = -((0.2 * DELTA) ** 2) * 4 * cc.abs() * cc
    return xx, 0 * xx, -xx


def cells_leith(x, y):
    slope = 2 * torch.sqrt((torch.cos(x) * torch.sin(y)) ** 2 + (torch.sin(x) * torch.cos(y)) ** 2)
    xx = -2 * (0.3 * DELTA) ** 3 * slope * torch.cos(x) * torch.cos(y)
    return xx, 0 * xx, -xx


def cells_gradient2(x, y):
    diagonal = DELTA**2 / 12 * ((torch.cos(x) * torch.cos(y)) ** 2 + (torch.sin(x) * torch.sin(y)) ** 2)
    return diagonal, DELTA**2 / 12 * torch.sin(2 * x) * torch.sin(2 * y) / 2, diagonal


def cells_gradient4(x, y):
    # Second derivatives of u: u_xx = u_yy = -u, u_xy = v; of v: v_xx = v_yy = -v, v_xy = u.
    u, v = cells(x, y)
    xx, xy, yy = cells_gradient2(x, y)
    factor = 2 * DELTA**4 / 288
    return xx + factor * (u * u + v * v), xy + 2 * factor * u * v, yy + factor * (u * u + v * v)


CASES = [
    (shear, "smagorinsky", shear_smagorinsky),
    (shear, "leith", shear_leith),
    (shear, "gradient2", shear_gradient2),
    (shear, "gradient4", shear_gradient4),
    (cells, "smagorinsky", cells_smagorinsky),
    (cells, "leith", cells_leith),
    (cells, "gradient2", cells_gradient2),
    (cells, "gradient4", cells_gradient4),
]


def build(kind, operators):
    if kind == "smagorinsky":
        return closures.Smagorinsky(operators, DELTA, 0.2)
    if kind == "leith":
        return closures.Leith(operators, DELTA, 0.3)
    return closures.Gradient(operators, DELTA, int(kind[-1]))


@pytest.mark.parametrize("flow_field, kind, expected", CASES)
def test_stress_is_the_formula_on_the_collocated_layout(flow_field, kind, expected):
    # Derivatives are exact and products are taken point by point: only round-off is left.
    grid = Grid((12, 16), (TWO_PI, 2 * TWO_PI))
    velocity = torch.stack(flow_field(*grid.coordinates()))[None]
    stress = build(kind, SpectralOperators(grid)).stress(velocity)
    for part, truth in zip(stress, expected(*grid.coordinates()), strict=True):
        torch.testing.assert_close(part[0], truth, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("flow_field, kind, expected", CASES)
def test_stress_is_the_formula_to_second_order_on_the_staggered_layout(flow_field, kind, expected):
    def errors(n):
        grid = Grid((n, n), (TWO_PI, 2 * TWO_PI))
        velocity = torch.stack((flow_field(*grid.coordinates((1, 0.5)))[0], flow_field(*grid.coordinates((0.5, 1)))[1]))
        stress = build(kind, StaggeredOperators(grid)).stress(velocity[None])
        centre, corner = expected(*grid.coordinates((0.5, 0.5))), expected(*grid.coordinates((1, 1)))
        truth = (centre[0], corner[1], centre[2])
        return [(part[0] - exact).square().mean().sqrt().item() for part, exact in zip(stress, truth, strict=True)]

    # Half the spacing divides the error by 4, to 3 %. In Leith's shear |grad omega| has a kink just where the strain is
    # largest: an error of order h on a part h of the points makes 3/2 in the root mean square.
    order = 1.5 if (flow_field, kind) == (shear, "leith") else 2
    for coarse, fine in zip(errors(96), errors(192), strict=True):
        assert (coarse < ROUND_OFF and fine < ROUND_OFF) or coarse / fine == pytest.approx(2**order, rel=0.03)


@pytest.mark.parametrize("layout", ["staggered", "collocated"])
def test_smagorinsky_force_on_shear(layout):
    # a_x = d/dy (nu_t du/dy) = -2 (C Delta)^2 A^2 k^3 |cos ky| sin ky. It has kinks, at which any scheme errs by
    # order h; 128 points a wave leave 0.5 % of the peak in the root mean square.
    host = host_of(layout, (8, 512))
    places = ((1, 0.5), (0.5, 1)) if layout == "staggered" else ((0, 0), (0, 0))
    (x, y), (x_v, y_v) = (host.grid.coordinates(place) for place in places)
    velocity = torch.stack((shear(x, y)[0], shear(x_v, y_v)[1]))[None]
    ky = WAVENUMBER * y + 0 * x
    scale = (0.2 * DELTA) ** 2 * AMPLITUDE**2 * WAVENUMBER**3
    force = closures.Smagorinsky(host.operators, DELTA, 0.2)(velocity)[0]
    error = force[0] + 2 * scale * torch.cos(ky).abs() * torch.sin(ky)
    assert error.square().mean().sqrt() < 0.005 * scale
    assert force[1].abs().max() < ROUND_OFF


@pytest.mark.parametrize("layout", ["staggered", "collocated"])
def test_hyperviscosity_damps_one_mode_at_its_rate(layout):
    # Mode (3, 4) of a box 2 pi x 4 pi has k^2 = 9 + 4; the coarser spacing is 4 pi / 24, so kmax = 6.
    host = host_of(layout)
    x, y = host.grid.coordinates()
    u = torch.sin(3 * x + 2 * y)
    velocity = torch.stack((u, 0.5 * u))[None]
    closure = closures.make_classical(HyperviscousClosure(kind="hyperviscosity", rate=5.0, power=3), host)
    torch.testing.assert_close(closure(velocity), -5 * (13 / 36) ** 3 * velocity, rtol=0, atol=ROUND_OFF)


# --- the gradient model is a series in the filter width ------------------------------------------------------------


@pytest.mark.parametrize("kernel, order, exponent", [("gaussian", 2, 4), ("box", 2, 4), ("gaussian", 4, 6)])
def test_gradient_model_approaches_the_exact_filtered_stress(kernel, order, exponent):
    grid = Grid((32, 32), (TWO_PI, TWO_PI))
    coefficients = torch.fft.rfft2(noise(host_of("collocated", (32, 32)), 1, seed=4))
    velocity = torch.fft.irfft2(coefficients * (grid.k2 <= 16), s=grid.shape)  # smooth; its products fit on the grid

    def error(delta):
        if kernel == "gaussian":
            transfer = torch.exp(-grid.k2 * delta**2 / 24)
        else:
            transfer = torch.sinc(grid.kx * delta / TWO_PI) * torch.sinc(grid.ky * delta / TWO_PI)

        def filtered(field):
            return torch.fft.irfft2(transfer * torch.fft.rfft2(field), s=grid.shape)

        u, v = velocity.unbind(1)
        exact = [filtered(a * b) - filtered(a) * filtered(b) for a, b in ((u, u), (u, v), (v, v))]
        model = closures.Gradient(SpectralOperators(grid), delta, order).stress(filtered(velocity))
        return sum((a - b).square().mean().item() for a, b in zip(exact, model, strict=True)) ** 0.5

    # k Delta <= 0.4: the next term of the series, smaller by (k Delta)^2 / 12, moves the exponent by about a percent.
    assert math.log2(error(0.1) / error(0.05)) == pytest.approx(exponent, abs=0.1)


# --- properties of all closures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_momentum_is_conserved_and_uniform_flow_untouched(host, kind):
    closure = closures.make_classical(KINDS[kind], host)
    velocity = noise(host)
    assert closure(velocity).shape == velocity.shape
    assert closure(velocity).sum((-2, -1)).abs().max() < 1e-10  # sum of 384 values of order 10
    uniform = torch.ones_like(velocity) * torch.tensor([1.5, -0.7], dtype=velocity.dtype)[:, None, None]
    # The highest hyperviscosity rate of a corner mode, 100 per second, multiplies the round-off of the transform.
    assert closure(uniform).abs().max() < 100 * ROUND_OFF


@pytest.mark.parametrize("kind", KINDS)
def test_galilean_invariance(host, kind):
    closure = closures.make_classical(KINDS[kind], host)
    velocity = noise(host)
    drift = torch.tensor([3.0, -2.0], dtype=velocity.dtype)[:, None, None]
    torch.testing.assert_close(closure(velocity + drift), closure(velocity), rtol=0, atol=1e-10)  # values of order 100


@pytest.mark.parametrize("kind", DISSIPATIVE)
def test_eddy_viscosities_take_energy_out(host, kind):
    velocity = noise(host, batch=4)
    velocity = torch.cat((velocity, -velocity))  # what is clipped at one sign of a field acts at the other
    work = (velocity * closures.make_classical(KINDS[kind], host)(velocity)).sum((1, 2, 3))
    assert (work <= ROUND_OFF).all()
    assert work.min() < -1  # some sample does lose energy


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_a_batch_do_not_see_each_other(host, kind):
    closure = closures.make_classical(KINDS[kind], host)
    velocity = noise(host) * torch.tensor([1.0, 5.0, 0.1], dtype=torch.float64)[:, None, None, None]
    alone = torch.cat([closure(sample[None]) for sample in velocity])
    torch.testing.assert_close(closure(velocity), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_finite_in_a_flow_at_rest_and_float32_stays_float32(host, kind):
    host = host_of(host.layout, (8, 8), torch.float32)
    velocity = torch.zeros(1, 2, 8, 8, requires_grad=True)
    acceleration = closures.make_classical(KINDS[kind], host)(velocity)
    assert acceleration.dtype == torch.float32
    (acceleration.sum() + velocity.sum()).backward()
    assert torch.isfinite(velocity.grad).all()


# --- dynamic coefficient -------------------------------------------------------------------------------------------


def test_test_filter_has_the_second_moment_of_a_box_of_two_cells():
    impulse = torch.zeros(1, 12, 12, dtype=torch.float64)
    impulse[0, 6, 6] = 1
    weights = filter_test(impulse, 2)[0]
    position = torch.arange(12, dtype=torch.float64) - 6
    assert weights.sum().item() == pytest.approx(1, rel=ROUND_OFF)
    assert (weights.sum(1) * position**2).sum().item() == pytest.approx(2**2 / 12, rel=ROUND_OFF)
    assert (weights.sum(0) * position**2).sum().item() == pytest.approx(2**2 / 12, rel=ROUND_OFF)


def test_dynamic_coefficient_is_the_least_squares_solution_of_the_germano_identity():
    # The same thing the long way: full tensors, dense averaging matrices and a numerical least-squares solver.
    host = host_of("collocated", (12, 16))
    delta = math.sqrt(TWO_PI / 12 * 2 * TWO_PI / 16)
    average = [np.eye(n) * 2 / 3 + (np.roll(np.eye(n), 1, 0) + np.roll(np.eye(n), -1, 0)) / 6 for n in (12, 16)]

    def hat(field):
        return np.einsum("xa,yb,...ab->...xy", *average, field)

    def norm(strain_ijxy):
        return np.sqrt(2 * np.einsum("ijxy,ijxy->xy", strain_ijxy, strain_ijxy))

    raw = []
    for sample in noise(host, batch=6):
        gradient = np.stack([part.numpy() for part in host.operators.velocity_gradient(sample)]).reshape(2, 2, 12, 16)
        strain = (gradient + gradient.swapaxes(0, 1)) / 2
        omega = gradient[1, 0] - gradient[0, 1]
        slope = np.stack([part.numpy() for part in host.operators.gradient_of_centre(torch.from_numpy(omega))])
        resolved = hat(sample.numpy() * omega) - hat(sample.numpy()) * hat(omega)
        model = delta**2 * (hat(norm(strain) * slope) - 4 * norm(hat(strain)) * hat(slope))
        raw.append(np.linalg.lstsq(model.reshape(-1, 1), resolved.reshape(-1), rcond=None)[0][0])
    assert min(raw) < 0 < max(raw)  # both branches of the clipping are seen
    coefficient = closures.DynamicSmagorinsky(host.operators, delta).coefficient(noise(host, batch=6))
    np.testing.assert_allclose(coefficient.flatten().numpy(), np.maximum(raw, 0), rtol=1e-10)


def test_dynamic_coefficient_is_that_of_smagorinsky_in_a_turbulent_flow():
    # A short run of freely evolving turbulence: clipping must not switch the model off, C must be of its usual size.
    flow = Flow(viscosity=1e-3)
    fine = SpectralSolver(Grid((96, 96), flow.domain), flow)
    state = fine.random_vorticity_hat(4, 1.0, torch.Generator().manual_seed(0))
    for _ in range(300):
        state = fine.step(state, 0.01)
    host = make_host(FiniteVolumeHost(kind="finite_volume", grid=(32, 32), time_step=0.01), flow, torch.float64)
    velocity = CoarseGraining(flow, fine.grid, host, Filter()).velocity(fine.velocity(state)[None])
    coefficient = closures.make_classical(KINDS["dynamic_smagorinsky"], host).coefficient(velocity)
    assert 0.05 < math.sqrt(coefficient.item()) < 0.2


def test_dynamic_coefficient_vanishes_in_pure_shear_and_ignores_amplitude_and_drift(host):
    closure = closures.DynamicSmagorinsky(host.operators, DELTA)
    x, y = host.grid.coordinates((1, 0.5) if host.layout == "staggered" else (0, 0))
    # In a shear the resolved flux is along the stream and the modelled one across it: they have nothing in common.
    assert closure.coefficient(torch.stack(shear(x, y))[None]).item() == pytest.approx(0, abs=ROUND_OFF)
    velocity = noise(host, batch=6)
    reference = closure.coefficient(velocity)
    assert reference.max() > 1e-4
    torch.testing.assert_close(closure.coefficient(7 * velocity + 2), reference, rtol=1e-9, atol=1e-12)
    # L is even in the velocity and M odd: with the opposite sign every positive coefficient is clipped and vice versa.
    opposite = closure.coefficient(-velocity)
    assert ((reference > 0) ^ (opposite > 0)).all()


# --- building --------------------------------------------------------------------------------------------------------


def test_constant_and_width_come_from_the_section_or_the_arguments(host):
    velocity = noise(host)
    delta = math.sqrt(host.grid.spacing[0] * host.grid.spacing[1])
    tuned = closures.make_classical(Smagorinsky(kind="smagorinsky"), host, constant=0.17)
    direct = closures.Smagorinsky(host.operators, delta, 0.17)
    assert torch.equal(tuned(velocity), direct(velocity))
    wide = closures.make_classical(Smagorinsky(kind="smagorinsky"), host, constant=0.17, delta=2 * delta)
    torch.testing.assert_close(wide(velocity), 4 * direct(velocity))
    rate = closures.make_classical(HyperviscousClosure(kind="hyperviscosity"), host, constant=2.0)(velocity)
    torch.testing.assert_close(2 * rate, closures.make_classical(KINDS["hyperviscosity"], host)(velocity))


@pytest.mark.parametrize(
    "section, constant, message",
    [
        (Smagorinsky(kind="smagorinsky"), None, "smagorinsky: constant is `tuned`"),
        (HyperviscousClosure(kind="hyperviscosity"), None, "hyperviscosity: rate is `tuned`"),
        (Leith(kind="leith"), -0.1, "must not be negative"),
        (Leith(kind="leith", constant=0.3), 0.2, "0.3 in the experiment, but 0.2 was given"),
        (Gradient(kind="gradient"), 0.2, "has no constant"),
        (Learned(kind="learned"), None, "load its artifact"),
    ],
)
def test_a_constant_too_few_or_too_many_is_refused(host, section, constant, message):
    with pytest.raises(ConfigError, match=message):
        closures.make_classical(section, host, constant)
