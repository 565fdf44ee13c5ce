"""Channel flow of any fluid: exact solutions, order, balance, and a law from a file."""

import math

import pytest
import torch

from hpcsurrogate.core.errors import DivergedError
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.export.law import write_law
from hpcsurrogate.models.viscous_law import contraction, strain_rate
from hpcsurrogate.physics.channel import Channel
from tests.law_artifact import describe, make_cells, make_law

VISCOSITY, FORCE = 2.5, 0.3


def newton(density, temperature, gradient):
    return 2 * VISCOSITY * strain_rate(gradient)


def power_law(exponent, least=1e-9):
    """sigma = 2 eta D, eta = gamma^(exponent - 1), which a small rate keeps finite at rest."""

    def law(density, temperature, gradient):
        strain = strain_rate(gradient)
        rate_squared = 2 * contraction(strain, strain) + least**2
        return 2 * (rate_squared ** ((exponent - 1) / 2))[:, None] * strain

    return law


def test_newtons_parabola_is_exact():
    channel = Channel((16,), (2.0,), 1.0, 1.0)
    y = channel.points[0]
    expected = FORCE * y * (2.0 - y) / (2 * VISCOSITY)
    assert torch.allclose(channel.steady(newton, FORCE), expected, rtol=1e-12)


def test_walls_that_move_drag_the_fluid_along():
    channel = Channel((9,), (3.0,), 1.0, 1.0, wall_speeds=(-1.0, 2.0))
    expected = -1.0 + channel.points[0]
    for law in (newton, power_law(0.5)):
        assert torch.allclose(channel.steady(law, 0.0), expected, atol=1e-10)


# Of a fluid that thickens the profile itself has no more than 1 + 1 / exponent derivatives in the middle.
@pytest.mark.parametrize(("exponent", "order"), [(0.5, 2), (0.8, 2), (1.7, 1 + 1 / 1.7)])
def test_a_power_law_is_met_to_second_order(exponent, order):
    def error(cells):
        channel = Channel((cells,), (2.0,), 1.0, 1.0)
        power = 1 + 1 / exponent
        exact = FORCE ** (1 / exponent) / power * (1 - (channel.points[0] - 1).abs() ** power)
        return float((channel.steady(power_law(exponent), FORCE) - exact).abs().max() / exact.max())

    errors = [error(cells) for cells in (20, 40, 80)]
    assert errors[-1] < 2e-3
    assert all(coarse / fine > 0.75 * 2**order for coarse, fine in zip(errors, errors[1:], strict=False))


def duct(y, z, height, width):
    """The series of Boussinesq 1868 for a Newtonian fluid in a rectangle (White, Viscous Fluid Flow, section 3-3.3)."""
    total = torch.zeros(len(y), len(z), dtype=torch.float64)
    for n in range(1, 200, 2):
        k = n * math.pi / height
        shape = 1 - torch.cosh(k * (z - width / 2)) / math.cosh(k * width / 2)
        total += 4 * FORCE / (VISCOSITY * height * k**3) * torch.sin(k * y)[:, None] * shape
    return total


def test_a_rectangle_is_met_to_second_order():
    def error(cells):
        channel = Channel((cells, 2 * cells), (1.0, 1.5), 1.0, 1.0)
        exact = duct(*channel.points, 1.0, 1.5)
        return float((channel.steady(newton, FORCE) - exact).abs().max() / exact.max())

    errors = [error(cells) for cells in (5, 10, 20)]
    assert errors[-1] < 5e-3 and all(a / b > 3 for a, b in zip(errors, errors[1:], strict=False))


def test_a_fluid_that_thins_in_a_rectangle_knows_no_axis_and_converges():
    law = power_law(0.6, 1e-3)
    tall = Channel((8, 12), (1.0, 1.5), 1.0, 1.0).steady(law, 5.0)
    wide = Channel((12, 8), (1.5, 1.0), 1.0, 1.0).steady(law, 5.0)
    assert torch.allclose(tall, wide.T, rtol=1e-8)
    assert torch.allclose(tall, tall.flip(0), rtol=1e-8) and torch.allclose(tall, tall.flip(1), rtol=1e-8)
    peaks = [float(Channel((n, n), (1.0, 1.0), 1.0, 1.0).steady(law, 5.0)[n // 2, n // 2]) for n in (5, 15, 25)]
    assert abs(peaks[1] / peaks[2] - 1) < 0.02 and abs(peaks[0] / peaks[2] - 1) < 0.15


def test_a_plate_is_the_middle_of_a_wide_rectangle():
    law = power_law(0.6, 1e-3)
    plates = Channel((12,), (1.0,), 1.0, 1.0).steady(law, 2.0)
    rectangle = Channel((12, 15), (1.0, 12.0), 1.0, 1.0).steady(law, 2.0)
    assert torch.allclose(rectangle[:, 7], plates, rtol=2e-3)


def test_forces_balance_at_the_walls():
    channel = Channel((13,), (2.0,), 1.0, 1.0)
    lower, upper = channel.wall_stresses(power_law(0.5), channel.steady(power_law(0.5), FORCE))
    assert float(lower - upper) == pytest.approx(FORCE * 2.0, rel=1e-9)


def test_start_up_follows_the_slowest_wave():
    """u = sum of waves that die as exp(-nu k^2 t); backward Euler is of first order in time."""
    channel, density = Channel((40,), (1.0,), 0.8, 1.0), 0.8
    rate = VISCOSITY / density * math.pi**2

    def error(steps):
        velocity, step = torch.sin(math.pi * channel.points[0]), 1.0 / rate / steps
        for _ in range(steps):
            velocity = channel.step(newton, 0.0, velocity, step)
        return abs(float(velocity.max() / torch.sin(math.pi * channel.points[0]).max()) - math.exp(-1.0))

    assert error(40) < 0.01 and 1.8 < error(20) / error(40) < 2.2


def test_a_steady_flow_stays():
    channel, law = Channel((11,), (1.0,), 1.0, 1.0), power_law(0.7)
    velocity = channel.steady(law, FORCE)
    assert torch.allclose(channel.step(law, FORCE, velocity, 10.0), velocity, rtol=1e-9)


def test_a_law_whose_stress_falls_is_named():
    def falling(density, temperature, gradient):
        strain = strain_rate(gradient)
        return 2 * strain / (1 + 2 * contraction(strain, strain))[:, None] ** 2

    with pytest.raises(DivergedError, match="off balance"):
        Channel((16,), (2.0,), 1.0, 1.0).steady(falling, 50.0)


def test_normal_stresses_do_not_drive_a_flow_between_plates():
    def with_normal(density, temperature, gradient):
        stress = newton(density, temperature, gradient)
        return torch.cat((stress + gradient[:, 1:2] ** 2 * torch.tensor([3.0, 0, 0, -2.0, 0, 1.0]), stress), 1)

    channel = Channel((10,), (1.0,), 1.0, 1.0)
    assert torch.equal(channel.steady(with_normal, FORCE), channel.steady(newton, FORCE))


def test_an_artifact_drives_it(tmp_path):
    write_law(tmp_path / "law.pt", make_law(), describe(), make_cells())
    artifact, channel = load_artifact(tmp_path / "law.pt"), Channel((20,), (10.0,), 0.8, 0.9)
    velocity = channel.steady(artifact, 0.1)
    assert torch.allclose(velocity, channel.steady(make_law(), 0.1), rtol=1e-9)
    guarded = channel.steady(lambda *inputs: artifact.guarded(*inputs)[0], 0.1)
    assert torch.allclose(velocity, guarded, rtol=1e-12)


@pytest.mark.parametrize("shape", [(2,), (4, 2), (4, 4, 4)])
def test_too_few_cells_or_too_many_axes_are_refused(shape):
    with pytest.raises(ValueError, match="cells"):
        Channel(shape, (1.0,) * len(shape), 1.0, 1.0)
