"""Filters, restriction to the host's points, the exact stress and its divergence, and what they promise each other."""

import itertools
import math

import pytest
import torch

from hpcsurrogate.core.config import Filter, FiniteVolumeHost, Flow, RingForcing, SpectralHost
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.exact import StreamWaves, Wave
from hpcsurrogate.physics.filter_widths import filter_widths
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.physics.stress_operators import SpectralOperators, StaggeredOperators

DOMAIN = (2 * math.pi, 3 * math.pi)
FLOW = Flow(domain=DOMAIN, viscosity=0.01, drag=0.1, forcing=RingForcing(kind="ring", wavenumber=2))
FINE = Grid((48, 60), DOMAIN)
COARSE = (20, 16)  # divides the fine grid along neither axis
ROUND_OFF = 1e-12  # float64, derivatives of fields of order 1
STAGGERED = ("face_average", "box", "gaussian", "sharp")
COLLOCATED = ("box", "gaussian", "sharp")


def graining_of(layout, kind, shape=COARSE, fine=FINE, order=2, **width):
    if layout == "staggered":
        config = FiniteVolumeHost(kind="finite_volume", grid=shape, order=order, time_step=0.01)
    else:
        config = SpectralHost(kind="spectral", grid=shape, dealias="shift", time_step=0.01)
    host = make_host(config, FLOW, fine.dtype)
    return CoarseGraining(FLOW, fine, host, Filter(kind=kind, **width))


def transfer(kind, k, width):
    """Transfer function along one axis, as the literature has it."""
    if kind == "box":
        return math.sin(k * width / 2) / (k * width / 2) if k else 1.0
    if kind == "gaussian":
        return math.exp(-(k**2) * width**2 / 24)
    return float(abs(k) < math.pi / width)


def component_transfer(kind, component, a, b, widths):
    """Transfer function of one velocity component for the wavenumbers a, b."""
    if kind == "face_average":
        return transfer("box", b, widths[1]) if component == 0 else transfer("box", a, widths[0])
    return transfer(kind, a, widths[0]) * transfer(kind, b, widths[1])


# --- filters and restriction ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout, kind", [("staggered", kind) for kind in STAGGERED] + [("collocated", kind) for kind in COLLOCATED]
)
@pytest.mark.parametrize("num_x, num_y", [(3, -2), (0, 5), (7, 4)])
def test_a_single_wave_is_multiplied_by_the_transfer_function(layout, kind, num_x, num_y):
    graining = graining_of(layout, kind)
    wave = StreamWaves(DOMAIN, [Wave(0.3, num_x, num_y, 0.4)])
    a, b = 2 * math.pi * num_x / DOMAIN[0], 2 * math.pi * num_y / DOMAIN[1]
    factors = [component_transfer(kind, component, a, b, graining.widths) for component in (0, 1)]
    factors = torch.tensor(factors, dtype=torch.float64)[:, None, None]
    expected = wave.velocity(graining.host.grid, layout) * factors
    filtered = graining.filter_vector(wave.velocity(FINE, "collocated"))
    torch.testing.assert_close(filtered, expected, rtol=0, atol=ROUND_OFF)


def test_widths_in_metres_and_in_spacings_are_the_same_filter(random_velocity):
    square = Grid((48, 72), DOMAIN)  # equal spacings, so that one width in metres is one multiple of both
    velocity = random_velocity(square)
    h = DOMAIN[0] / 16
    in_metres = graining_of("collocated", "box", (16, 24), square, width=1.5 * h)
    in_spacings = graining_of("collocated", "box", (16, 24), square, width_over_spacing=1.5)
    torch.testing.assert_close(in_metres.velocity(velocity), in_spacings.velocity(velocity), rtol=0, atol=1e-14)
    assert graining_of("collocated", "box").widths == (DOMAIN[0] / 20, DOMAIN[1] / 16)


def test_a_collocated_host_gets_no_wave_that_its_grid_cannot_hold():
    # 11 waves along x on 20 points would come back as 9; on a staggered host point values are what it asks for.
    wave = StreamWaves(DOMAIN, [Wave(0.3, 11, 2, 0.4)])
    velocity = wave.velocity(FINE, "collocated")
    for kind in COLLOCATED:
        assert graining_of("collocated", kind).filter_vector(velocity).abs().max() < ROUND_OFF
    assert graining_of("staggered", "gaussian").filter_vector(velocity).abs().max() > 0.1


@pytest.mark.parametrize("kind", COLLOCATED)
def test_filters_commute_with_derivatives_on_a_collocated_host(kind, random_velocity):
    graining, fine = graining_of("collocated", kind), SpectralOperators(FINE)
    velocity = random_velocity(FINE, wavenumber=6)
    filtered_gradient = SpectralOperators(graining.host.grid).velocity_gradient(graining.filter_vector(velocity))
    ux, uy, vx, vy = fine.velocity_gradient(velocity)
    along_x = graining.filter_vector(torch.stack((ux, vx), dim=1))
    along_y = graining.filter_vector(torch.stack((uy, vy), dim=1))
    expected = (along_x[:, 0], along_y[:, 0], along_x[:, 1], along_y[:, 1])
    for computed, exact in zip(filtered_gradient, expected, strict=True):
        torch.testing.assert_close(computed, exact, rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("kind", STAGGERED)
def test_filters_commute_with_derivatives_on_a_staggered_host(kind, random_velocity):
    # A host on the grid of the data holds all its modes at the faces, so that derivatives there are exact too.
    graining, operators = graining_of("staggered", kind, FINE.shape), SpectralOperators(FINE)
    velocity = random_velocity(FINE, wavenumber=6)
    ux, uy, vx, vy = operators.velocity_gradient(velocity)
    of_filtered = operators.velocity_gradient(graining.filter_vector(velocity))
    along_x = graining.filter_vector(torch.stack((ux, vx), dim=1))
    along_y = graining.filter_vector(torch.stack((uy, vy), dim=1))
    expected = (along_x[:, 0], along_y[:, 0], along_x[:, 1], along_y[:, 1])
    for computed, exact in zip(of_filtered, expected, strict=True):
        torch.testing.assert_close(computed, exact, rtol=0, atol=10 * ROUND_OFF)


@pytest.mark.parametrize("shape, fine_shape", [((32, 32), (96, 96)), ((40, 40), (96, 96)), (COARSE, (48, 60))])
def test_face_averages_are_free_of_the_discrete_divergence_before_any_projection(shape, fine_shape, random_velocity):
    # The fluxes through the four faces of a cell add up to nothing: exactly what the second-order divergence sums.
    fine = Grid(fine_shape, DOMAIN)
    graining = graining_of("staggered", "face_average", shape, fine)
    raw = graining.filter_vector(random_velocity(fine, batch=2, wavenumber=8))
    ux, _, _, vy = StaggeredOperators(graining.host.grid).velocity_gradient(raw)
    assert ux.abs().max() > 1
    assert (ux + vy).abs().max() < ROUND_OFF
    # Other filters leave a divergence to be projected away, and so does a face average in a host of higher order.
    ux, _, _, vy = StaggeredOperators(graining.host.grid).velocity_gradient(
        graining_of("staggered", "gaussian", shape, fine).filter_vector(random_velocity(fine, wavenumber=8))
    )
    assert (ux + vy).abs().max() > 1e-3


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize("kind", STAGGERED)
def test_velocity_is_what_the_host_can_hold(kind, order, random_velocity):
    graining = graining_of("staggered", kind, order=order)
    velocity = graining.velocity(random_velocity(FINE, batch=2))
    torch.testing.assert_close(graining.host.project(velocity), velocity, rtol=0, atol=ROUND_OFF)
    commutator = graining.commutator(random_velocity(FINE, batch=2))
    torch.testing.assert_close(graining.host.project(commutator), commutator, rtol=0, atol=ROUND_OFF)


def test_a_batch_is_the_same_as_one_by_one_and_float32_data_are_taken(random_velocity):
    graining, velocity = graining_of("staggered", "face_average"), random_velocity(FINE, batch=3)
    for function in (graining.velocity, graining.commutator, graining.sgs_stress, graining.sgs_force):
        together = function(velocity)
        alone = torch.cat([function(one) for one in velocity.split(1)])
        torch.testing.assert_close(together, alone, rtol=0, atol=ROUND_OFF)
        from_single = function(velocity.float())
        assert from_single.dtype == torch.float64
        # Input rounded to 6e-8, then differentiated twice at most: k of order 10.
        torch.testing.assert_close(from_single, together, rtol=0, atol=1e-4)


def test_all_fields_together_are_the_same_as_each_alone(random_velocity):
    graining, velocity = graining_of("staggered", "face_average"), random_velocity(FINE, batch=2)
    together = graining.fields(velocity)
    assert set(together) == {"velocity", "commutator", "sgs_force", "sgs_stress"}
    for name, field in together.items():
        assert torch.equal(field, getattr(graining, name)(velocity)), name


def test_several_filters_share_one_snapshot_and_get_the_same_as_alone(random_velocity, monkeypatch):
    velocity = random_velocity(FINE)
    grainings = [graining_of("staggered", kind) for kind in STAGGERED]
    alone = [graining.fields(velocity) for graining in grainings]
    fine = grainings[0].snapshot(velocity)
    first = grainings[0].fields(fine)
    # From here on the work is done: neither the fine solver nor a wide grid for unfiltered products is needed again.
    monkeypatch.setattr(fine, "solver", None)
    monkeypatch.setattr("hpcsurrogate.physics.fine_snapshot.widen", None)
    for fields, expected in zip([first] + [g.fields(fine) for g in grainings[1:]], alone, strict=True):
        for name, field in fields.items():
            assert torch.equal(field, expected[name]), name


@pytest.mark.parametrize(
    "layout, kind", [("staggered", kind) for kind in STAGGERED] + [("collocated", kind) for kind in COLLOCATED]
)
def test_three_dimensions_give_the_same_fields(layout, kind):
    lengths, shape = (*DOMAIN, 4.0), (8, 6, 10)
    flow = Flow(domain=lengths, viscosity=0.01)
    config = (
        FiniteVolumeHost(kind="finite_volume", grid=shape, order=4, time_step=0.01)
        if layout == "staggered"
        else SpectralHost(kind="spectral", grid=shape, time_step=0.01)
    )
    host, fine = make_host(config, flow, torch.float64), Grid((16, 14, 12), lengths)
    graining = CoarseGraining(flow, fine, host, Filter(kind=kind))
    velocity = torch.randn(2, 3, *fine.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fields = graining.fields(velocity)
    assert tuple(fields) == graining.field_names == ("velocity", "commutator", "sgs_force", "sgs_stress")
    assert [field.shape[1] for field in fields.values()] == [3, 3, 3, 6]
    assert torch.equal(fields["commutator"], graining.commutator(velocity))
    assert torch.equal(fields["sgs_stress"], graining.sgs_stress(velocity))
    # What a host of that order would start from: free of its own discrete divergence, though the data are not.
    projected = host.project(fields["velocity"])
    torch.testing.assert_close(projected, fields["velocity"], rtol=0, atol=ROUND_OFF)
    assert (graining.filter_vector(velocity) - projected).abs().max() > 0.01


# --- stress, its divergence, and the commutator ----------------------------------------------------------------------


def analytic_stress(waves, kind, widths, x, y):
    """tau_xx, tau_xy, tau_yy of a sum of waves: products of cosines become sums and differences of their phases."""
    terms = []
    for wave in waves:
        a, b = 2 * math.pi * wave.num_x / DOMAIN[0], 2 * math.pi * wave.num_y / DOMAIN[1]
        terms.append((a, b, (wave.amplitude * b, -wave.amplitude * a), wave.phase))

    def g(a, b):
        return transfer(kind, a, widths[0]) * transfer(kind, b, widths[1])

    stress = [torch.zeros_like(x * y) for _ in range(3)]
    for (a, b, speed, phase), (c, d, other_speed, other_phase) in itertools.product(terms, terms):
        for sign in (1, -1):
            factor = 0.5 * (g(a + sign * c, b + sign * d) - g(a, b) * g(c, d))
            wave = factor * torch.cos((a + sign * c) * x + (b + sign * d) * y + phase + sign * other_phase)
            for row, (i, j) in enumerate(((0, 0), (0, 1), (1, 1))):
                stress[row] = stress[row] + speed[i] * other_speed[j] * wave
    return stress


@pytest.mark.parametrize("kind", COLLOCATED)
@pytest.mark.parametrize("layout", ["staggered", "collocated"])
def test_stress_of_two_waves_is_the_analytic_one(layout, kind):
    # Products of up to 8 and 6 waves, which the coarse grid holds. The sharp filter cuts 12 waves off and lets their
    # difference from 3 pass; it would leave nothing of the stress of two longer waves.
    waves = [Wave(0.5, 3, 2, 0.3), Wave(-0.3, 12 if kind == "sharp" else 4, -3, 1.0)]
    graining = graining_of(layout, kind)
    places = ((0.5, 0.5), (1, 1), (0.5, 0.5)) if layout == "staggered" else ((0, 0),) * 3
    computed = graining.sgs_stress(StreamWaves(DOMAIN, waves).velocity(FINE, "collocated"))
    for row, place in enumerate(places):
        x, y = graining.host.grid.coordinates(place)
        expected = analytic_stress(waves, kind, graining.widths, x, y)[row]
        torch.testing.assert_close(computed[0, row], expected, rtol=0, atol=ROUND_OFF)
    assert computed.abs().max() > 0.01


def test_stress_has_no_aliasing():
    # Waves of 22 and 20 on 48 points: their sum, 42, would come back as 6, which the filter lets pass. Only the
    # difference, 2, may be there, and both waves are filtered out of the velocity.
    waves = [Wave(0.05, 22, 0, 0.3), Wave(-0.04, 20, 3, 1.0)]
    graining = graining_of("staggered", "sharp")
    computed = graining.sgs_stress(StreamWaves(DOMAIN, waves).velocity(FINE, "collocated"))
    assert graining.filter_vector(StreamWaves(DOMAIN, waves).velocity(FINE, "collocated")).abs().max() < ROUND_OFF
    for row, place in enumerate(((0.5, 0.5), (1, 1), (0.5, 0.5))):
        expected = analytic_stress(waves, "sharp", graining.widths, *graining.host.grid.coordinates(place))[row]
        torch.testing.assert_close(computed[0, row], expected, rtol=0, atol=ROUND_OFF)
    spectrum = torch.fft.fft(computed[0, 2].mean(-1)).abs()
    assert spectrum[6] < 1e-12 * spectrum[0]


def test_a_face_average_goes_with_the_stress_of_the_box(random_velocity):
    velocity = random_velocity(FINE)
    stresses = [graining_of("staggered", kind).sgs_stress(velocity) for kind in ("face_average", "box")]
    torch.testing.assert_close(*stresses, rtol=0, atol=0)


@pytest.mark.parametrize("kind", COLLOCATED)
def test_force_is_minus_the_divergence_of_the_stress_on_a_collocated_host(kind, random_velocity):
    graining, velocity = graining_of("collocated", kind), random_velocity(FINE, batch=2, wavenumber=6)
    xx, xy, yy = graining.sgs_stress(velocity).unbind(1)
    divergence = graining.host.operators.divergence((xx, xy, yy))
    torch.testing.assert_close(graining.sgs_force(velocity), -divergence, rtol=0, atol=10 * ROUND_OFF)


@pytest.mark.parametrize("kind", ["box", "gaussian"])
def test_force_is_minus_the_divergence_of_the_stress_to_second_order_on_a_staggered_host(kind):
    # One filter of fixed width, read at the points of two host grids.
    velocity = StreamWaves(DOMAIN, [Wave(0.5, 2, 1, 0.3), Wave(-0.3, 1, -3, 1.0)]).velocity(FINE, "collocated")
    errors = []
    for shape in ((24, 30), (48, 60)):
        graining = graining_of("staggered", kind, shape, width=0.6)
        xx, xy, yy = graining.sgs_stress(velocity).unbind(1)
        force = graining.sgs_force(velocity)
        errors.append((force + graining.host.operators.divergence((xx, xy, yy))).norm() / force.norm())
    # Up to 6 waves on 30 points: b h = 1.3, where the next term of the error is about a tenth of the first.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)


def test_commutator_of_an_exact_host_is_the_projected_sgs_force(random_velocity):
    # A sharp filter at the cut-off of the 2/3 rule: the host makes no error of its own, so only the SGS force is left.
    # This ties sign, stress, solver and filter together.
    shape = (24, 30)
    host = make_host(SpectralHost(kind="spectral", grid=shape, time_step=0.01), FLOW, torch.float64)
    graining = CoarseGraining(FLOW, FINE, host, Filter(kind="sharp", width_over_spacing=1.5))
    velocity = random_velocity(FINE, batch=2, wavenumber=6)
    commutator = graining.commutator(velocity)
    assert commutator.abs().max() > 0.1
    expected = host.project(graining.sgs_force(velocity))
    torch.testing.assert_close(commutator, expected, rtol=0, atol=10 * ROUND_OFF)


def test_commutator_of_a_resolved_flow_is_small_and_of_the_order_of_the_host():
    # Point values of a smooth flow, filtered by next to nothing: what is left is the host's discretisation error.
    waves = StreamWaves(DOMAIN, [Wave(0.5, 1, 1, 0.3), Wave(-0.3, 2, -1, 1.0)])
    velocity, flow = waves.velocity(FINE, "collocated"), FLOW.model_copy(update={"forcing": Flow(viscosity=0).forcing})
    for order in (2, 4, 6):
        sizes = []
        for shape in ((24, 30), (48, 60)):
            config = FiniteVolumeHost(kind="finite_volume", grid=shape, order=order, time_step=0.01)
            host = make_host(config, flow, torch.float64)
            graining = CoarseGraining(flow, FINE, host, Filter(kind="gaussian", width=1e-6))
            sizes.append(graining.commutator(velocity).norm() / graining.host.tendency(velocity_of(host, waves)).norm())
        # At order 6 the next term of the error is a fifth of the first on the coarser grid.
        assert math.log2(sizes[0] / sizes[1]) == pytest.approx(order, abs=0.4)


def velocity_of(host, waves):
    return host.project(waves.velocity(host.grid, host.layout))


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="face_average needs a staggered host"):
        graining_of("collocated", "face_average")
    with pytest.raises(ConfigError, match="finer than the data"):
        graining_of("staggered", "box", (48, 62))
    with pytest.raises(ConfigError, match="as wide as the coarse cell"):
        filter_widths(Filter(kind="face_average", width_over_spacing=2.0), (0.1, 0.1))
    assert filter_widths(Filter(kind="face_average", width=0.1), (0.1, 0.1)) == (0.1, 0.1)
