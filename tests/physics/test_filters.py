"""Filters and the exact stress in three dimensions (and two): closed forms, symmetries, what they promise together."""

import itertools
import math

import pytest
import torch

from hpcsurrogate.core.config import Filter
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.filter_widths import filter_widths
from hpcsurrogate.physics.filters import SpatialFilter
from hpcsurrogate.physics.fine_snapshot import FineSnapshot
from hpcsurrogate.physics.grid import Grid, stress_offset, velocity_offset
from hpcsurrogate.physics.sampling import product_points

BOX = (2 * math.pi, 3 * math.pi, 1.5 * math.pi)
FINE = Grid((16, 20, 14), BOX)
COARSE = Grid((6, 8, 10), BOX)  # divides the fine grid along no axis
CASES = [
    ("staggered", "face_average"),
    *itertools.product(("staggered", "collocated"), ("box", "gaussian", "sharp")),
]
ROUND_OFF = 1e-12  # float64, fields of order 1 and their derivatives


def filter_of(layout, kind, fine=FINE, coarse=COARSE, **width):
    return SpatialFilter(fine, coarse, layout, Filter(kind=kind, **width))


def stress_and_force(spatial, velocity):
    return spatial.stress_and_force(FineSnapshot(spatial.fine, velocity))


def noise(grid, batch=1, seed=0):
    """A velocity with every mode of the grid in it, not solenoidal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, grid.num_dims, *grid.shape, dtype=torch.float64, generator=generator)


def solenoidal(grid, seed=0):
    """The curl of noise below the grid's Nyquist frequency."""
    potential_hat = torch.fft.rfftn(noise(grid, seed=seed), dim=(-3, -2, -1)) * grid.resolved
    kx, ky, kz = grid.k
    a, b, c = potential_hat.unbind(1)
    curl_hat = torch.stack((ky * c - kz * b, kz * a - kx * c, kx * b - ky * a), dim=1) * 1j
    return torch.fft.irfftn(curl_hat, s=grid.shape, dim=(-3, -2, -1))


def transfer(kind, k, width):
    """Transfer function along one axis, as the literature has it."""
    if kind == "box":
        return math.sin(k * width / 2) / (k * width / 2) if k else 1.0
    if kind == "gaussian":
        return math.exp(-(k**2) * width**2 / 24)
    return float(abs(k) < math.pi / width - 1e-9) if kind == "sharp" else 1.0


def component_transfer(kind, component, wave, widths):
    """Transfer function of a velocity component: a face average filters along the axes of the face alone."""
    product = 1.0
    for axis, (k, width) in enumerate(zip(wave, widths, strict=True)):
        along = ("none" if axis == component else "box") if kind == "face_average" else kind
        product *= transfer(along, k, width)
    return product


class Wave:
    """amplitude cos(k . x + phase), with whole numbers of waves across the box."""

    def __init__(self, amplitude, numbers, phase):
        self.amplitude, self.phase = amplitude, phase
        self.k = [2 * math.pi * n / length for n, length in zip(numbers, BOX, strict=False)]

    def velocity(self, grid):
        x = grid.coordinates()
        phase = sum(k * along for k, along in zip(self.k, x, strict=True)) + self.phase
        return torch.stack([amplitude * torch.cos(phase) for amplitude in self.amplitude])[None]


# --- filtered velocity ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout, kind", CASES)
@pytest.mark.parametrize("numbers", [(2, -3, 4), (0, 1, 0), (-1, 0, 3)])
def test_a_single_wave_is_multiplied_by_the_transfer_function(layout, kind, numbers):
    spatial, wave = filter_of(layout, kind), Wave((0.4, -0.3, 0.7), numbers, 0.4)
    filtered = spatial.vector(wave.velocity(FINE))
    assert filtered.shape == (1, 3, *COARSE.shape)
    for component, amplitude in enumerate(wave.amplitude):
        x = COARSE.coordinates(velocity_offset(layout, component, 3))
        phase = sum(k * along for k, along in zip(wave.k, x, strict=True)) + wave.phase
        factor = amplitude * component_transfer(kind, component, wave.k, spatial.widths)
        torch.testing.assert_close(filtered[0, component], factor * torch.cos(phase), rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("kind", ["box", "gaussian", "sharp"])
def test_filters_commute_with_derivatives(kind):
    spatial, velocity = filter_of("collocated", kind), noise(FINE)
    axes = (-3, -2, -1)
    for fine_k, coarse_k in zip(FINE.k, COARSE.k, strict=True):
        derivative_hat = 1j * fine_k * FINE.resolved * torch.fft.rfftn(velocity, dim=axes)
        of_derivative = spatial.vector(torch.fft.irfftn(derivative_hat, s=FINE.shape, dim=axes))
        filtered_hat = 1j * coarse_k * COARSE.resolved * torch.fft.rfftn(spatial.vector(velocity), dim=axes)
        derivative = torch.fft.irfftn(filtered_hat, s=COARSE.shape, dim=axes)
        torch.testing.assert_close(of_derivative, derivative, rtol=0, atol=10 * ROUND_OFF)


def discrete_divergence(velocity, grid):
    return sum(
        (component - component.roll(1, axis)) / h
        for component, axis, h in zip(velocity.unbind(1), (-3, -2, -1), grid.spacing, strict=True)
    )


def test_face_averages_in_three_dimensions_are_free_of_the_discrete_divergence_before_any_projection():
    # The fluxes through the six faces of a cell add up to nothing, whatever the modes of the solenoidal field.
    velocity = solenoidal(FINE)
    filtered = filter_of("staggered", "face_average").vector(velocity)
    assert filtered.abs().max() > 1
    assert discrete_divergence(filtered, COARSE).abs().max() < 10 * ROUND_OFF
    assert discrete_divergence(filter_of("staggered", "gaussian").vector(velocity), COARSE).abs().max() > 0.1


# --- the exact stress -------------------------------------------------------------------------------------------------


def brute_force(spatial, velocity):
    """Stress and force by sums over all modes: products on a grid of twice the points, then each mode at each point."""
    fine, dims = spatial.fine, spatial.fine.num_dims
    axes = tuple(range(-dims, 0))
    wide = tuple(2 * n for n in fine.shape)
    limits = [
        c // 2 if spatial.layout == "collocated" else n // 2 for n, c in zip(fine.shape, COARSE.shape, strict=False)
    ]
    numbers = [torch.fft.fftfreq(n, d=1 / n, dtype=torch.float64) for n in wide]
    k = [fine.along(axis, 2 * math.pi / fine.lengths[axis] * numbers[axis]) for axis in range(dims)]
    kind = "box" if spatial.kind == "face_average" else spatial.kind
    gain, kept = torch.ones(()), torch.ones((), dtype=torch.bool)
    for axis, width in enumerate(spatial.widths):
        gain = gain * fine.along(
            axis, torch.tensor([transfer(kind, q, width) for q in k[axis].flatten().tolist()], dtype=torch.float64)
        )
        kept = kept & fine.along(axis, numbers[axis].abs() < limits[axis])
    below_nyquist = [fine.along(axis, numbers[axis].abs() < n / 2) for axis, n in enumerate(fine.shape)]
    narrow_hat = torch.fft.fftn(velocity[0], dim=axes, norm="forward")
    wide_hat = torch.zeros(dims, *wide, dtype=torch.complex128)
    index = torch.meshgrid(*[torch.fft.fftfreq(n, d=1 / n).round().long() for n in fine.shape], indexing="ij")
    wide_hat[(slice(None), *index)] = narrow_hat
    for mask in below_nyquist:
        wide_hat = wide_hat * mask

    def product_hat(row, column, factor):
        physical = torch.fft.ifftn(factor * wide_hat, dim=axes, norm="forward").real
        return torch.fft.fftn(physical[row] * physical[column], dim=axes, norm="forward")

    def at_points(field_hat, offset):
        for axis, x in enumerate(spatial.coarse.coordinates(offset)):
            waves = torch.exp(1j * x.reshape(-1, 1) * k[axis].reshape(1, -1))
            field_hat = torch.tensordot(field_hat, waves, dims=([0], [1]))
        return field_hat.real

    stress, force = [], [0.0] * dims
    for row, column in itertools.combinations_with_replacement(range(dims), 2):
        tau_hat = kept * (gain * product_hat(row, column, 1.0) - product_hat(row, column, gain))
        stress.append(at_points(tau_hat, stress_offset(spatial.layout, row, column, dims)))
        for component, along in {(row, column), (column, row)}:
            offset = velocity_offset(spatial.layout, component, dims)
            force[component] = force[component] - at_points(1j * k[along] * tau_hat, offset)
    return torch.stack(stress), torch.stack(force)


SMALL = {2: (Grid((12, 14), BOX[:2]), Grid(COARSE.shape[:2], BOX[:2])), 3: (Grid((10, 12, 14), BOX), COARSE)}


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize(
    "layout, kind, width_over_spacing", [(*case, 1.0) for case in CASES] + [(*case, 6.0) for case in CASES[1:]]
)
def test_stress_and_force_of_noise_are_those_of_the_sum_over_all_modes(layout, kind, width_over_spacing, num_dims):
    # Every mode is in the field, so that any aliasing shows; the wide filter leaves no more than a few modes.
    fine, coarse = SMALL[num_dims]
    spatial = filter_of(layout, kind, fine, coarse, width_over_spacing=width_over_spacing)
    velocity = noise(fine)
    expected_stress, expected_force = brute_force(spatial, velocity)
    stress, force = stress_and_force(spatial, velocity)
    assert expected_stress.abs().max() > 0.1
    torch.testing.assert_close(stress[0], expected_stress, rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(force[0], expected_force, rtol=0, atol=10 * ROUND_OFF)


@pytest.mark.parametrize("layout", ["staggered", "collocated"])
@pytest.mark.parametrize("kind", ["box", "gaussian", "sharp"])
def test_stress_of_two_waves_in_three_dimensions_is_the_analytic_one(layout, kind):
    # Products of cosines are half the cosines of the sum and the difference of their phases. The sharp filter takes
    # the second wave's four waves along x away, and leaves their difference from the first.
    waves = [Wave((0.5, -0.2, 0.3), (2, 1, 1), 0.3), Wave((-0.3, 0.4, 0.6), (4 if kind == "sharp" else 0, 1, 2), 1.0)]
    spatial = filter_of(layout, kind)
    stress, _ = stress_and_force(spatial, sum(wave.velocity(FINE) for wave in waves))
    for number, (row, column) in enumerate(itertools.combinations_with_replacement(range(3), 2)):
        x = COARSE.coordinates(stress_offset(layout, row, column, 3))
        expected = torch.zeros(COARSE.shape, dtype=torch.float64)
        for (one, other), sign in itertools.product(itertools.product(waves, waves), (1, -1)):
            k = [a + sign * b for a, b in zip(one.k, other.k, strict=True)]
            held = layout == "staggered" or all(
                abs(q) < math.pi / h - 1e-9 for q, h in zip(k, COARSE.spacing, strict=True)
            )
            gains = [component_transfer(kind, None, q, spatial.widths) for q in (k, one.k, other.k)]
            phase = sum(q * along for q, along in zip(k, x, strict=True)) + one.phase + sign * other.phase
            strength = 0.5 * held * (gains[0] - gains[1] * gains[2]) * one.amplitude[row] * other.amplitude[column]
            expected = expected + strength * torch.cos(phase)
        torch.testing.assert_close(stress[0, number], expected, rtol=0, atol=ROUND_OFF)
    assert stress.abs().max() > 0.01


@pytest.mark.parametrize("kind", ["box", "gaussian", "face_average"])
def test_the_trace_of_the_stress_of_a_positive_filter_is_not_negative(kind):
    # tau_ii is the variance of u_i under the filter. Exact where no product reaches the fine grid's Nyquist frequency:
    # modes below N / 4 only.
    k_limits = [math.pi / (2 * h) for h in FINE.spacing]
    few = torch.ones((), dtype=torch.bool)
    for k, limit in zip(FINE.k, k_limits, strict=True):
        few = few & (k.abs() < limit)
    velocity_hat = torch.fft.rfftn(noise(FINE, batch=2), dim=(-3, -2, -1)) * few
    velocity = torch.fft.irfftn(velocity_hat, s=FINE.shape, dim=(-3, -2, -1))
    stress, _ = stress_and_force(filter_of("staggered", kind), velocity)
    diagonal = stress[:, [0, 3, 5]]
    assert diagonal.min() > -ROUND_OFF
    assert diagonal.mean() > 1e-3
    sharp, _ = stress_and_force(filter_of("staggered", "sharp"), velocity)  # whose kernel is negative in places
    assert sharp[:, [0, 3, 5]].sum(1).min() < -1e-3


@pytest.mark.parametrize("kind", ["box", "gaussian"])
def test_force_is_minus_the_divergence_of_the_stress_to_second_order_on_a_staggered_grid(kind):
    # One filter of fixed width, read at the points of two coarse grids; tau_ij lies where the differences want it.
    waves = [Wave((0.5, -0.2, 0.3), (1, 1, 0), 0.3), Wave((-0.3, 0.4, 0.6), (0, 1, 1), 1.0)]
    fine = Grid((40, 40, 40), BOX)
    velocity = sum(wave.velocity(fine) for wave in waves)
    errors = []
    for points in (18, 36):
        coarse = Grid((points,) * 3, BOX)
        stress, force = stress_and_force(filter_of("staggered", kind, fine, coarse, width=0.6), velocity)
        errors.append((force + staggered_divergence(stress, coarse)).norm() / force.norm())
    # Two waves on 18 points: k h = 0.7, where the next term of the error is a fiftieth of the first.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.05)


def staggered_divergence(stress, grid):
    """d tau_ij / dx_j at the faces across axis i, by differences over one cell."""
    number = {pair: i for i, pair in enumerate(itertools.combinations_with_replacement(range(3), 2))}
    rows = []
    for row in range(3):
        total = 0.0
        for column in range(3):
            tau, axis = stress[:, number[min(row, column), max(row, column)]], column - 3
            # Centres lie half a cell on both sides of the face; edges likewise, but their own upper one is the later.
            difference = tau.roll(-1, axis) - tau if row == column else tau - tau.roll(1, axis)
            total = total + difference / grid.spacing[column]
        rows.append(total)
    return torch.stack(rows, dim=1)


# --- symmetries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout, kind", CASES)
def test_a_field_that_is_constant_along_z_gives_the_result_of_two_dimensions(layout, kind):
    flat = noise(Grid(FINE.shape[:2], BOX[:2]))
    deep = torch.zeros(1, 3, *FINE.shape, dtype=torch.float64)
    deep[:, :2] = flat[..., None]
    in_2d = filter_of(layout, kind, Grid(FINE.shape[:2], BOX[:2]), Grid(COARSE.shape[:2], BOX[:2]))
    in_3d = filter_of(layout, kind)
    stress_2d, force_2d = stress_and_force(in_2d, flat)
    stress_3d, force_3d = stress_and_force(in_3d, deep)
    for three, two, order in (
        (in_3d.vector(deep), in_2d.vector(flat), (0, 1, None)),
        (stress_3d, stress_2d, (0, 1, None, 2, None, None)),
        (force_3d, force_2d, (0, 1, None)),
    ):
        for component, same in enumerate(order):
            expected = torch.zeros_like(two[:, 0]) if same is None else two[:, same]
            expected = expected[..., None].expand_as(three[:, component])
            torch.testing.assert_close(three[:, component], expected, rtol=0, atol=10 * ROUND_OFF)


def exchange_x_and_y(vector):
    return vector[:, [1, 0, 2]].transpose(2, 3)


def reflect_x(field, offset, sign):
    """f(-x), at points `offset` cells from the grid points: i + offset becomes -(i + offset)."""
    return sign * field.flip(-3).roll(int(1 - 2 * offset), -3)


@pytest.mark.parametrize("layout, kind", CASES)
def test_a_quarter_turn_of_the_fine_field_turns_the_result(layout, kind):
    # About z: an exchange of x and y, then a reflection of x. The stress's xx, xy, xz, yy, yz, zz take the same way.
    length = (BOX[0], BOX[0], BOX[2])
    spatial = filter_of(layout, kind, Grid((16, 16, 14), length), Grid((6, 6, 10), length))
    velocity = noise(spatial.fine)
    turned = turn(velocity, "collocated")
    stress, force = stress_and_force(spatial, velocity)
    turned_stress, turned_force = stress_and_force(spatial, turned)
    expected = turn(spatial.vector(velocity), layout)
    torch.testing.assert_close(spatial.vector(turned), expected, rtol=0, atol=ROUND_OFF)
    torch.testing.assert_close(turned_force, turn(force, layout), rtol=0, atol=10 * ROUND_OFF)
    exchanged = stress[:, [3, 1, 4, 0, 2, 5]].transpose(2, 3)
    pairs = itertools.combinations_with_replacement(range(3), 2)
    for number, (row, column) in enumerate(pairs):
        offset, sign = stress_offset(layout, row, column, 3)[0], (-1) ** ((row == 0) + (column == 0))
        expected = reflect_x(exchanged[:, number], offset, sign)
        torch.testing.assert_close(turned_stress[:, number], expected, rtol=0, atol=10 * ROUND_OFF)


def turn(vector, layout):
    components = exchange_x_and_y(vector).unbind(1)
    return torch.stack(
        [
            reflect_x(component, velocity_offset(layout, number, 3)[0], -1 if number == 0 else 1)
            for number, component in enumerate(components)
        ],
        dim=1,
    )


def test_a_batch_is_the_same_as_one_by_one_and_float32_comes_close():
    spatial, velocity = filter_of("staggered", "face_average"), noise(FINE, batch=2)
    single = filter_of("staggered", "face_average", FINE.to(torch.float32), COARSE)
    for together, alone, rough in zip(
        (spatial.vector(velocity), *stress_and_force(spatial, velocity)),
        zip(*[(spatial.vector(one), *stress_and_force(spatial, one)) for one in velocity.split(1)], strict=True),
        (single.vector(velocity), *stress_and_force(single, velocity)),
        strict=True,
    ):
        torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=ROUND_OFF)
        assert rough.dtype == torch.float32
        # Sums of 4480 values of order 1, each rounded to 6e-8, differentiated once (k up to 13).
        torch.testing.assert_close(rough.double(), together, rtol=0, atol=1e-4)


# --- sizes, widths, refusals ------------------------------------------------------------------------------------------


def test_products_get_enough_points_and_sizes_that_suit_the_fft():
    assert product_points(255, 255) == 768  # 512 points, all modes wanted: the 3/2 rule
    assert product_points(255, 31) == 560  # modes of a grid of 64: 542 would do, 560 = 2^4 5 7
    assert product_points(0, 0) == 1


def test_widths_have_one_value_an_axis():
    assert filter_widths(Filter(kind="box", width=0.5), COARSE.spacing) == (0.5, 0.5, 0.5)
    assert filter_widths(Filter(kind="box", width_over_spacing=2.0), COARSE.spacing) == pytest.approx(
        [2 * h for h in COARSE.spacing]
    )
    with pytest.raises(ConfigError, match="prepare.more_filters.0: a face_average is as wide as the coarse cell"):
        filter_widths(Filter(kind="face_average", width=0.5), COARSE.spacing, "prepare.more_filters.0")


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="face_average needs a staggered host"):
        filter_of("collocated", "face_average")
    with pytest.raises(ConfigError, match="finer than the data"):
        filter_of("staggered", "box", coarse=Grid((16, 20, 16), BOX))
    with pytest.raises(ConfigError, match="differ in the number of dimensions"):
        filter_of("staggered", "box", coarse=Grid((6, 8), BOX[:2]))
