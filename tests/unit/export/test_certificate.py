"""The maps behind the residuals are the symmetries of the layouts; residuals tell who keeps them."""

import math

import pytest
import torch

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.export.certificate import measure_residuals, reflect, transpose

NX, NY = 12, 8
SPACING = (2 * math.pi / NX, 2 * math.pi / NY)


def sample(layout, u, v, nx=NX, ny=NY):
    """Evaluate the functions u(x, y), v(x, y) at the points of a layout."""
    hx, hy = 2 * math.pi / nx, 2 * math.pi / ny
    i = torch.arange(nx, dtype=torch.float64)[:, None].expand(nx, ny)
    j = torch.arange(ny, dtype=torch.float64)[None, :].expand(nx, ny)
    if layout == "collocated":
        return torch.stack((u(i * hx, j * hy), v(i * hx, j * hy)))[None]
    return torch.stack((u((i + 1) * hx, (j + 0.5) * hy), v((i + 0.5) * hx, (j + 1) * hy)))[None]


def wave_u(x, y):
    return torch.sin(x + 0.3) + 0.5 * torch.cos(2 * y - x + 0.1) + 0.2


def wave_v(x, y):
    return torch.cos(2 * x - 0.7) * torch.sin(y + 0.4) - 0.1


def divergence(velocity):
    u, v = velocity[:, 0], velocity[:, 1]
    return (u - u.roll(1, -2)) / SPACING[0] + (v - v.roll(1, -1)) / SPACING[1]


@pytest.mark.parametrize("layout", ["staggered", "collocated"])
def test_reflection_maps_sampled_functions(layout):
    # Under x -> -x the velocity field becomes (-u(-x, y), v(-x, y)); sampling and mapping commute, up to round-off.
    expected = sample(layout, lambda x, y: -wave_u(-x, y), lambda x, y: wave_v(-x, y))
    torch.testing.assert_close(reflect(sample(layout, wave_u, wave_v), 0, layout), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("layout", ["staggered", "collocated"])
def test_transposition_maps_sampled_functions(layout):
    expected = sample(layout, lambda x, y: wave_v(y, x), lambda x, y: wave_u(y, x), NY, NX)
    torch.testing.assert_close(transpose(sample(layout, wave_u, wave_v)), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("layout", ["staggered", "collocated"])
def test_reflection_twice_is_identity(layout):
    velocity = torch.randn(2, 2, NX, NY, generator=torch.Generator().manual_seed(0))
    assert torch.equal(reflect(reflect(velocity, 0, layout), 0, layout), velocity)


def test_reflection_keeps_staggered_divergence():
    velocity = torch.randn(1, 2, NX, NY, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mirrored = divergence(reflect(velocity, 0, "staggered"))
    torch.testing.assert_close(mirrored, divergence(velocity).flip(-2), rtol=0, atol=1e-13)


def laplacian(velocity):
    around = velocity.roll(1, -1) + velocity.roll(-1, -1) + velocity.roll(1, -2) + velocity.roll(-1, -2)
    return around - 4 * velocity


def random_velocity(nx=16, ny=16):
    return torch.randn(1, 2, nx, ny, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("layout", ["staggered", "collocated"])
def test_equivariant_closure_has_residuals_of_round_off(layout):
    residuals = measure_residuals(laplacian, random_velocity(), layout, (0.1, 0.1))
    assert set(residuals) == {
        "galilean_invariance", "momentum", "uniform_flow", "reflection_x", "reflection_y", "transposition",
        "rotation_90",
    }  # fmt: skip
    # float32 has 6e-8; sums of five terms and the added constant velocity cost a small factor.
    assert max(residuals.values()) < 2e-6


def upwind(velocity):
    """A closure without any of the symmetries, and not Galilean invariant."""
    return velocity * (velocity - velocity.roll(1, -2))


@pytest.mark.parametrize("name", ["galilean_invariance", "reflection_x", "transposition", "rotation_90"])
def test_broken_property_shows(name):
    assert measure_residuals(upwind, random_velocity(), "staggered", (0.1, 0.1))[name] > 0.1


def test_drag_is_neither_galilean_invariant_nor_zero_in_uniform_flow():
    residuals = measure_residuals(lambda velocity: -0.1 * velocity, random_velocity(), "staggered", (0.1, 0.1))
    # The constant velocity is as strong as the flow: its drag is as strong as the output. Symmetries are kept.
    assert residuals["galilean_invariance"] == pytest.approx(1.0, rel=0.02)
    assert residuals["uniform_flow"] == pytest.approx(1.0, rel=0.02)
    assert residuals["rotation_90"] < 1e-6


@pytest.mark.parametrize("shape, spacing", [((16, 8), (0.1, 0.1)), ((16, 16), (0.1, 0.2))])
def test_rectangles_have_no_rotation(shape, spacing):
    residuals = measure_residuals(laplacian, random_velocity(*shape), "staggered", spacing)
    assert "rotation_90" not in residuals and residuals["reflection_y"] < 2e-6


@pytest.mark.parametrize("closure", [torch.zeros_like, lambda velocity: velocity / 0])
def test_dead_closure_is_refused(closure):
    with pytest.raises(ModelRefusedError, match="zeros or non-finite"):
        measure_residuals(closure, random_velocity(), "staggered", (0.1, 0.1))
