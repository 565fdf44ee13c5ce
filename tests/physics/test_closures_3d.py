"""Classical closures in three dimensions: formulas, known values, order, conservation, sign, symmetries."""

import math

import numpy as np
import pytest
import torch

from hpcsurrogate.core.config import (
    DynamicSmagorinsky,
    FiniteVolumeHost,
    Flow,
    Gradient,
    HyperviscousClosure,
    Leith,
    Mixed,
    NoClosure,
    Smagorinsky,
    SpectralHost,
    Vreman,
    Wale,
)
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics import closures
from hpcsurrogate.physics.closures.wale_vreman import vreman_rate, wale_rate
from hpcsurrogate.physics.grid import Grid, stress_offset, velocity_offset
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.physics.spectral_3d import SpectralSolver3D

TWO_PI = 2 * math.pi
DELTA = 0.3
ROUND_OFF = 1e-12  # float64, on values of order 1 to 10
PAIRS = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
BOX = (-3, -2, -1)
KINDS = {
    "none": NoClosure(kind="none"),
    "smagorinsky": Smagorinsky(kind="smagorinsky", constant=0.2),
    "dynamic_smagorinsky": DynamicSmagorinsky(kind="dynamic_smagorinsky"),
    "wale": Wale(kind="wale", constant=0.5),
    "vreman": Vreman(kind="vreman", constant=0.07),
    "gradient2": Gradient(kind="gradient", order=2),
    "gradient4": Gradient(kind="gradient", order=4),
    "regularised2": Gradient(kind="gradient", order=2, regularised=True),
    "regularised4": Gradient(kind="gradient", order=4, regularised=True),
    "mixed": Mixed(kind="mixed", constant=0.2),
    "hyperviscosity": HyperviscousClosure(kind="hyperviscosity", rate=4.0),
}
DISSIPATIVE = [
    "smagorinsky", "dynamic_smagorinsky", "wale", "vreman", "regularised2", "regularised4", "hyperviscosity"
]  # fmt: skip


def host_of(layout, shape=(8, 12, 6), lengths=(TWO_PI, 2 * TWO_PI, TWO_PI), dtype=torch.float64):
    """A host of second order, or a spectral one that keeps all modes."""
    if layout == "staggered":
        config = FiniteVolumeHost(kind="finite_volume", grid=shape, time_step=0.01)
    else:
        config = SpectralHost(kind="spectral", grid=shape, dealias="shift", time_step=0.01)
    return make_host(config, Flow(domain=lengths, viscosity=0.0), dtype)


def noise(host, batch=2, seed=0):
    """Divergence-free white noise: the roughest field the grid can hold."""
    generator = torch.Generator().manual_seed(seed)
    size = (batch, host.grid.num_dims, *host.grid.shape)
    return host.project(torch.randn(size, dtype=host.grid.dtype, generator=generator))


@pytest.fixture(params=["staggered", "collocated"])
def host(request):
    return host_of(request.param)


# --- formulas ---------------------------------------------------------------------------------------------------------


def full_gradient(operators, velocity):
    """du_i/dx_j of a collocated velocity as (3, 3, batch, nx, ny, nz)."""
    parts = [part.numpy() for part in operators.velocity_gradient(velocity)]
    return np.stack(parts).reshape(3, 3, *parts[0].shape)


def viscous(g, nu):
    return -nu * (g + g.swapaxes(0, 1))


def norm(tensor):
    return np.sqrt(np.einsum("ij...,ij...->...", tensor, tensor))


def long_smagorinsky(g):
    return viscous(g, (0.2 * DELTA) ** 2 * np.sqrt(2) * norm((g + g.swapaxes(0, 1)) / 2))


def long_wale(g):
    square = np.einsum("ik...,kj...->ij...", g, g)
    trace = np.einsum("kk...->...", square)
    deviator = (square + square.swapaxes(0, 1)) / 2 - np.einsum("ij,...->ij...", np.eye(3), trace) / 3
    s, d = norm((g + g.swapaxes(0, 1)) / 2) ** 2, norm(deviator) ** 2
    return viscous(g, (0.5 * DELTA) ** 2 * d**1.5 / (s**2.5 + d**1.25))


def long_vreman(g):
    beta = DELTA**2 * np.einsum("ik...,jk...->ij...", g, g)
    minors = beta[0, 0] * beta[1, 1] + beta[0, 0] * beta[2, 2] + beta[1, 1] * beta[2, 2]
    minors -= beta[0, 1] ** 2 + beta[0, 2] ** 2 + beta[1, 2] ** 2
    return viscous(g, 0.07 * np.sqrt(minors / norm(g) ** 2))


def long_gradient2(g):
    return DELTA**2 / 12 * np.einsum("ik...,jk...->ij...", g, g)


def long_regularised2(g):
    stress, strain = long_gradient2(g), (g + g.swapaxes(0, 1)) / 2
    work = np.einsum("ij...,ij...->...", stress, strain)
    return stress - np.maximum(work, 0) * strain / norm(strain) ** 2


def long_mixed(g):
    return long_gradient2(g) + long_smagorinsky(g)


LONG = {
    "smagorinsky": long_smagorinsky,
    "wale": long_wale,
    "vreman": long_vreman,
    "gradient2": long_gradient2,
    "regularised2": long_regularised2,
    "mixed": long_mixed,
}


@pytest.mark.parametrize("kind", LONG)
def test_stress_is_the_formula_with_full_tensors(kind):
    # On the collocated layout products are taken point by point, so only round-off is between the two.
    host = host_of("collocated")
    velocity = noise(host)
    stress = closures.make_classical(KINDS[kind], host, delta=DELTA).stress(velocity)
    expected = LONG[kind](full_gradient(host.operators, velocity))
    for (i, j), part in zip(PAIRS, stress, strict=True):
        np.testing.assert_allclose(part.numpy(), expected[i, j], rtol=0, atol=1e-11)


def smooth(layout, grid):
    """A swirl with all nine slopes, a field of the longest waves, at the velocity's points."""
    components = []
    for axis in range(3):
        x, y, z = grid.coordinates(velocity_offset(layout, axis, 3))
        components.append(
            (
                torch.sin(z) + 0.8 * torch.cos(y / 2) + 0.3 * torch.sin(x + y / 2 + z),
                0.7 * torch.sin(x) + torch.cos(z + 0.3) + 0.4 * torch.cos(x + y / 2 + z),
                torch.sin(y / 2 + 0.2) + 0.9 * torch.cos(x) + 0.5 * torch.sin(x + z + 1),
            )[axis]
            + 0 * (x + y + z)
        )
    return torch.stack(components)[None]


@pytest.mark.parametrize("kind", ["smagorinsky", "wale", "vreman", "gradient2", "gradient4", "mixed"])
def test_stress_on_the_staggered_layout_approaches_that_of_the_collocated_one(kind):
    # A spectral grid of half the spacing has points at the centres and edges of the staggered one. Its own products are
    # exact at its points.
    def error(n):
        staggered = host_of("staggered", (n, n, n), (TWO_PI, 2 * TWO_PI, TWO_PI))
        collocated = host_of("collocated", (2 * n, 2 * n, 2 * n), (TWO_PI, 2 * TWO_PI, TWO_PI))
        coarse = closures.make_classical(KINDS[kind], staggered, delta=DELTA).stress(
            smooth("staggered", staggered.grid)
        )
        fine = closures.make_classical(KINDS[kind], collocated, delta=DELTA).stress(
            smooth("collocated", collocated.grid)
        )
        errors = []
        for (i, j), part, truth in zip(PAIRS, coarse, fine, strict=True):
            start = [int(2 * shift) for shift in stress_offset("staggered", i, j, 3)]
            for axis, first in enumerate(start):
                truth = torch.roll(truth, -first, axis + 1)
            errors.append((part - truth[:, ::2, ::2, ::2]).square().mean().sqrt().item())
        return errors

    # Half the spacing divides each error by 4; where nu_t comes close to zero the next term still makes 5 %.
    for coarse, fine in zip(error(24), error(48), strict=True):
        assert coarse / fine == pytest.approx(4, rel=0.07)


@pytest.mark.parametrize("row, column", [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)])
def test_pure_shear_in_every_plane(host, row, column):
    # u_i = A sin(k x_j): WALE and Vreman vanish, Smagorinsky is (C Delta)^2 |u'| u', the gradient model has one entry.
    offset = velocity_offset(host.layout, row, 3)
    position = host.grid.coordinates(offset)[column]
    k = TWO_PI / host.grid.lengths[column]
    velocity = torch.zeros(1, 3, *host.grid.shape, dtype=torch.float64)
    velocity[0, row] = 1.3 * torch.sin(k * position)
    slope = host.operators.velocity_gradient(velocity)[3 * row + column]
    stresses = {
        kind: closures.make_classical(KINDS[kind], host, delta=DELTA).stress(velocity)
        for kind in ("wale", "vreman", "smagorinsky", "gradient2")
    }
    for kind in ("wale", "vreman"):
        assert max(part.abs().max() for part in stresses[kind]) < ROUND_OFF
    place = PAIRS.index((min(row, column), max(row, column)))
    if host.layout == "collocated":
        expected = -((0.2 * DELTA) ** 2) * slope.abs() * slope
        torch.testing.assert_close(stresses["smagorinsky"][place], expected, rtol=0, atol=ROUND_OFF)
    normal = DELTA**2 / 12 * host.operators.to_centre(slope**2, row, column)
    diagonal = PAIRS.index((row, row))
    torch.testing.assert_close(stresses["gradient2"][diagonal], normal, rtol=0, atol=ROUND_OFF)
    assert max(part.abs().max() for n, part in enumerate(stresses["gradient2"]) if n != diagonal) < ROUND_OFF
    assert max(part.abs().max() for n, part in enumerate(stresses["smagorinsky"]) if n != place) < ROUND_OFF


ROTATION = ((0, -1, 0), (1, 0, 0), (0, 0, 0))
SHEAR = ((0, 1, 0), (0, 0, 0), (0, 0, 0))
AXISYMMETRIC = ((2, 0, 0), (0, -1, 0), (0, 0, -1))
ISOTROPIC = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
REST = ((0, 0, 0),) * 3
RATES = [
    (wale_rate, ROTATION, (2 / 3) ** 0.25),  # 0.90
    (wale_rate, SHEAR, 0),
    (wale_rate, AXISYMMETRIC, 6**1.5 / (6**2.5 + 6**1.25)),  # 0.15
    (wale_rate, ISOTROPIC, 0),
    (vreman_rate, ROTATION, math.sqrt(1 / 2)),  # 0.71
    (vreman_rate, SHEAR, 0),
    (vreman_rate, AXISYMMETRIC, math.sqrt(9 / 6)),  # 1.22
    (vreman_rate, ISOTROPIC, 1),
    (wale_rate, REST, 0),
    (vreman_rate, REST, 0),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1.0, 1e-6])
@pytest.mark.parametrize("rate, slopes, expected", RATES)
def test_eddy_viscosity_of_elementary_flows(rate, slopes, expected, size, dtype):
    # The two decimals are those of table II of Nicoud et al. 2011 (doi:10.1063/1.3623274). Homogeneous of degree one,
    # in single precision too, where the fifth power of 1e-6 is below the round-off of zero.
    g = [torch.tensor([size * slope], dtype=dtype) for row in slopes for slope in row]
    accuracy = 1e-6 if dtype == torch.float32 else ROUND_OFF
    assert rate(g).item() == pytest.approx(size * expected, rel=10 * accuracy, abs=1e-3 * size if not expected else 0)


# --- the gradient model is a series in the filter width ---------------------------------------------------------------


@pytest.mark.parametrize("order, exponent", [(2, 4), (4, 6)])
def test_gradient_model_approaches_the_exact_gaussian_stress(order, exponent):
    host = host_of("collocated", (16, 16, 16), (TWO_PI, TWO_PI, TWO_PI))
    k2 = host.grid.k2
    velocity = torch.fft.irfftn(
        torch.fft.rfftn(noise(host, 1), dim=BOX) * (k2 <= 9), dim=BOX
    )  # products fit on the grid

    def error(delta):
        def filtered(field):
            return torch.fft.irfftn(torch.exp(-k2 * delta**2 / 24) * torch.fft.rfftn(field, dim=BOX), dim=BOX)

        u = velocity.unbind(1)
        model = closures.Gradient(host.operators, delta, order).stress(filtered(velocity))
        exact = [filtered(u[i] * u[j]) - filtered(u[i]) * filtered(u[j]) for i, j in PAIRS]
        return sum((a - b).square().mean().item() for a, b in zip(exact, model, strict=True)) ** 0.5

    # k Delta <= 0.3: the next term of the series, smaller by (k Delta)^2 / 12, moves the exponent by about a percent.
    assert math.log2(error(0.1) / error(0.05)) == pytest.approx(exponent, abs=0.1)


# --- properties of all closures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_momentum_is_conserved_and_uniform_flow_untouched_and_drift_ignored(host, kind):
    closure = closures.make_classical(KINDS[kind], host)
    velocity = noise(host)
    acceleration = closure(velocity)
    assert acceleration.shape == velocity.shape
    assert acceleration.sum(BOX).abs().max() < 1e-11 * max(1, acceleration.abs().sum())
    wind = torch.tensor([1.5, -0.7, 3.0], dtype=torch.float64)[:, None, None, None].expand_as(velocity)
    # The highest hyperviscosity rate of a corner mode, 500 per second, multiplies the round-off of the transform.
    assert closure(wind).abs().max() < 1000 * ROUND_OFF
    torch.testing.assert_close(closure(velocity + wind), acceleration, rtol=0, atol=1e-9)  # values of order 100


# WALE and Vreman have no form in two dimensions; the first term of the series has no transfer there (below).
IN_SPACE_ALONE = ("wale", "vreman", "regularised2")


@pytest.mark.parametrize(
    ("num_dims", "kind"),
    [(3, kind) for kind in DISSIPATIVE] + [(2, kind) for kind in DISSIPATIVE if kind not in IN_SPACE_ALONE],
)
def test_what_must_not_give_energy_takes_it_out(host, kind, num_dims):
    if num_dims == 2:
        host = host_of(host.layout, (12, 16), (TWO_PI, 2 * TWO_PI))
    velocity = noise(host, batch=4)
    velocity = torch.cat((velocity, -velocity))  # what is clipped at one sign of a field acts at the other
    closure = closures.make_classical(KINDS[kind], host)
    work = (velocity * closure(velocity)).flatten(1).sum(1)
    assert (work <= 1e-9).all()
    assert work.min() < -1  # some sample does lose energy


def test_the_first_term_of_the_series_transfers_no_energy_in_two_dimensions():
    # There g_ik g_jk is symmetric about the axes of strain: tau:S is zero in every cell, and so nothing is taken out.
    host = host_of("collocated", (12, 16), (TWO_PI, 2 * TWO_PI))
    velocity = noise(host)
    bare, regularised = (closures.Gradient(host.operators, DELTA, 2, part) for part in (False, True))
    assert (velocity * bare(velocity)).flatten(1).sum(1).abs().max() < 1e-9
    torch.testing.assert_close(regularised(velocity), bare(velocity), rtol=0, atol=1e-9)


@pytest.mark.parametrize("order", [2, 4])
def test_taking_out_backscatter_leaves_just_the_loss_of_each_cell(host, order):
    # sum u.a = sum over cells of min(tau:S, 0) if the work of an edge is shared by the four cells around it.
    velocity = noise(host)
    bare = closures.Gradient(host.operators, DELTA, order)
    gradient, stress, work = host.operators.velocity_gradient(velocity), bare.stress(velocity), 0
    for (i, j), part in zip(PAIRS, stress, strict=True):
        if i == j:
            work = work + part * gradient[4 * i]
        else:
            work = work + host.operators.to_centre(part * (gradient[3 * i + j] + gradient[3 * j + i]), i, j)
    regularised = closures.Gradient(host.operators, DELTA, order, regularised=True)
    assert (work > 0).any() and (work < 0).any()
    for closure, expected in ((bare, work), (regularised, work.clamp_max(0))):
        done = (velocity * closure(velocity)).flatten(1).sum(1)
        torch.testing.assert_close(done, expected.flatten(1).sum(1), rtol=1e-10, atol=1e-10)


def quarter_turn(vector, axis, layout):
    """The same vector field turned by 90 degrees about an axis: x_a becomes x_b and x_b becomes -x_a."""
    a, b = (other for other in range(3) if other != axis)
    turned = vector.transpose(2 + a, 2 + b).clone()
    turned[:, [a, b]] = turned[:, [b, a]]
    turned = turned.flip(2 + a)
    turned[:, a] = -turned[:, a]
    # Where a reflection of the axis leaves the points: at i h they shift by one, at faces by one the other way.
    if layout == "collocated":
        return turned.roll(1, 2 + a)
    turned[:, a] = turned[:, a].roll(-1, 1 + a)
    return turned


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("layout", ["staggered", "collocated"])
def test_a_quarter_turn_about_any_axis_turns_the_force(layout, axis, kind):
    host = host_of(layout, (6, 6, 6), (TWO_PI, TWO_PI, TWO_PI))
    velocity = noise(host)
    velocity = torch.cat((velocity, -velocity))  # the dynamic coefficient is clipped to 0 for one of the two
    turned = quarter_turn(velocity, axis, layout)
    torch.testing.assert_close(host.project(turned), turned, rtol=0, atol=ROUND_OFF)
    closure = closures.make_classical(KINDS[kind], host)
    expected = quarter_turn(closure(velocity), axis, layout)
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(closure(turned), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_a_batch_do_not_see_each_other(host, kind):
    closure = closures.make_classical(KINDS[kind], host)
    velocity = noise(host) * torch.tensor([1.0, 5.0], dtype=torch.float64)[:, None, None, None, None]
    alone = torch.cat([closure(sample[None]) for sample in velocity])
    torch.testing.assert_close(closure(velocity), alone, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flow", ["rest", "shear"])
def test_derivatives_are_finite_in_a_quiet_flow_and_float32_stays_float32(host, kind, flow):
    host = host_of(host.layout, (4, 4, 4), (1.0, 1.0, 1.0), torch.float32)
    velocity = torch.zeros(1, 3, 4, 4, 4)
    if flow == "shear":
        velocity[:, 0] = torch.tensor([0.0, 1.0, 0.0, -1.0])
    velocity.requires_grad_()
    acceleration = closures.make_classical(KINDS[kind], host)(velocity)
    assert acceleration.dtype == torch.float32
    (acceleration.square().sum() + acceleration.sum() + velocity.sum()).backward()
    assert torch.isfinite(velocity.grad).all()


# --- dynamic coefficient --------------------------------------------------------------------------------------------


def test_dynamic_coefficient_is_the_least_squares_solution_of_the_germano_identity():
    # The same thing the long way: full tensors, dense averaging matrices and a numerical least-squares solver.
    host = host_of("collocated", (6, 8, 4))
    average = [np.eye(n) * 2 / 3 + (np.roll(np.eye(n), 1, 0) + np.roll(np.eye(n), -1, 0)) / 6 for n in (6, 8, 4)]

    def hat(field):
        return np.einsum("xa,yb,zc,...abc->...xyz", *average, field)

    raw = []
    samples = noise(host, batch=8)
    for sample in samples:
        gradient = full_gradient(host.operators, sample[None])[:, :, 0]
        strain, u = (gradient + gradient.swapaxes(0, 1)) / 2, sample.numpy()
        products = np.einsum("ixyz,jxyz->ijxyz", u, u)
        resolved = hat(products) - np.einsum("ixyz,jxyz->ijxyz", hat(u), hat(u))
        resolved -= np.einsum("ij,kkxyz->ijxyz", np.eye(3), resolved) / 3
        magnitude, hat_strain = np.sqrt(2) * norm(strain), hat(strain)
        model = -2 * DELTA**2 * (4 * np.sqrt(2) * norm(hat_strain) * hat_strain - hat(magnitude * strain))
        raw.append(np.linalg.lstsq(model.reshape(-1, 1), resolved.reshape(-1), rcond=None)[0][0])
    assert min(raw) < 0 < max(raw)  # both branches of the clipping are seen
    coefficient = closures.DynamicSmagorinsky3D(host.operators, DELTA).coefficient(samples)
    np.testing.assert_allclose(coefficient.flatten().numpy(), np.maximum(raw, 0), rtol=1e-9, atol=1e-13)


def test_dynamic_coefficient_is_that_of_smagorinsky_in_a_turbulent_flow():
    # Freely decaying turbulence, cut off at a sixth of its modes: clipping must not switch the model off, and C must be
    # of its usual size, 0.1 to 0.2.
    grid = Grid((32, 32, 32), (TWO_PI, TWO_PI, TWO_PI), torch.float32)
    solver = SpectralSolver3D(grid, Flow(domain=grid.lengths, viscosity=5e-3), "two_thirds", None)
    state = solver.random_velocity_hat(3, 1.0, torch.Generator().manual_seed(0))
    for _ in range(60):
        state = solver.step(state, 0.03)
    velocity = solver.velocity(state)[None].double()
    host = host_of("collocated", (12, 12, 12), grid.lengths)
    coarse = host.project(resampled(velocity, 12))
    coefficient = closures.make_classical(KINDS["dynamic_smagorinsky"], host).coefficient(coarse)
    assert 0.08 < math.sqrt(coefficient.item()) < 0.25


def resampled(velocity, n):
    """Cut off sharply below the Nyquist frequency of n points along each axis."""
    coefficients = torch.fft.fftn(velocity, dim=BOX, norm="forward")
    kept = list(range(-(n // 2) + 1, n // 2))
    small = torch.zeros(*velocity.shape[:2], n, n, n, dtype=torch.complex128)
    index = torch.meshgrid(*[torch.tensor(kept)] * 3, indexing="ij")
    small[:, :, index[0], index[1], index[2]] = coefficients[:, :, index[0], index[1], index[2]]
    return torch.fft.ifftn(small, dim=BOX, norm="forward").real


def test_dynamic_coefficient_ignores_amplitude_and_drift(host):
    closure = closures.DynamicSmagorinsky3D(host.operators, DELTA)
    velocity = noise(host, batch=6)
    reference = closure.coefficient(velocity)
    assert reference.max() > 1e-4
    torch.testing.assert_close(closure.coefficient(7 * velocity + 2), reference, rtol=1e-9, atol=1e-12)


# --- constants and damping -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["smagorinsky", "wale", "vreman", "mixed"])
def test_the_force_is_a_fixed_part_and_one_linear_in_a_power_of_the_constant(host, kind):
    velocity = noise(host)

    def force(constant):
        section = KINDS[kind].model_copy(update={"constant": "tuned"})
        closure = closures.make_classical(section, host, constant=constant)
        fixed = getattr(closure, "fixed_part", None)
        return closure(velocity) - (0 if fixed is None else fixed(velocity)), closure.constant_power

    unit, power = force(1.0)
    assert unit.abs().max() > 1
    torch.testing.assert_close(force(0.3)[0], 0.3**power * unit, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(8, 12, 6), (12, 16)])
@pytest.mark.parametrize("layout", ["staggered", "collocated"])
def test_damping_rates_are_what_hyperviscosity_does(layout, shape):
    host = host_of(layout, shape, (TWO_PI, 2 * TWO_PI, TWO_PI)[: len(shape)])
    closure = closures.Hyperviscosity(host.grid, 5.0, 3)
    rates = closure.damping_rates(host.grid)
    # A mode along an axis at the Nyquist frequency of the coarsest spacing is damped at the rate itself.
    coarsest = max(range(len(shape)), key=lambda axis: host.grid.spacing[axis])
    mode = [0] * len(shape)
    mode[coarsest] = shape[coarsest] // 2
    assert rates[tuple(mode)].item() == pytest.approx(5.0, rel=ROUND_OFF)
    box, velocity = tuple(range(-len(shape), 0)), noise(host)
    expected = torch.fft.irfftn(-rates * torch.fft.rfftn(velocity, dim=box), s=shape, dim=box)
    torch.testing.assert_close(closure(velocity), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "section, num_dims, message",
    [
        (Leith(kind="leith", constant=0.3), 3, "leith: it is for the enstrophy cascade"),
        (Wale(kind="wale", constant=0.3), 2, "wale: it is for flows in three dimensions"),
        (Vreman(kind="vreman", constant=0.3), 2, "vreman: it is for flows in three dimensions"),
        (Mixed(kind="mixed"), 3, "mixed: constant is `tuned`"),
        (HyperviscousClosure(kind="hyperviscosity", rate=1.0, power="tuned"), 3, "power is `tuned`"),
    ],
)
def test_what_makes_no_sense_is_refused(section, num_dims, message):
    host = host_of("staggered", (6, 8, 4)[:num_dims], (1.0, 1.0, 1.0)[:num_dims])
    with pytest.raises(ConfigError, match=message):
        closures.make_classical(section, host)
