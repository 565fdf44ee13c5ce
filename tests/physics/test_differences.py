"""Local differences of the collocated layout, and the two measures by which the guard judges a cell."""

import math

import pytest
import torch

from hpcsurrogate.physics.differences import (
    collocated_divergence,
    collocated_gradient,
    gradient_magnitude,
    speed,
)

HX, HY = 0.1, 0.15


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_collocated_divergence_is_minus_the_adjoint_of_the_gradient():
    velocity, (xx, xy, yy) = noise(2, 12, 8), noise(3, 12, 8)
    ux, uy, vx, vy = collocated_gradient(velocity, [HX, HY])
    work = (velocity * collocated_divergence([xx, xy, yy], [HX, HY])).sum()
    torch.testing.assert_close(work, -(xx * ux + xy * (uy + vx) + yy * vy).sum(), rtol=1e-12, atol=1e-12)


def test_the_collocated_gradient_is_of_second_order():
    errors = []
    for n in (16, 32):
        h = 2 * math.pi / n
        x = (h * torch.arange(n, dtype=torch.float64))[:, None].expand(n, n)
        gradient = collocated_gradient(torch.stack((x.sin(), (x.T + x).cos())), [h, h])
        exact = (x.cos(), 0 * x, -(x.T + x).sin(), -(x.T + x).sin())
        errors.append(max(float((found - wanted).abs().max()) for found, wanted in zip(gradient, exact, strict=True)))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("staggered", [True, False])
def test_speed_and_gradient_of_known_flows(staggered):
    wind = torch.tensor([3.0, -4.0]).reshape(1, 2, 1, 1).expand(1, 2, 6, 6)
    assert torch.equal(speed(wind, staggered), torch.full((1, 6, 6), 5.0))
    assert gradient_magnitude(wind, [HX, HY], staggered).abs().max() == 0
    # u = a x + b y, v = c x + d y away from where the grid wraps.
    x, y = torch.meshgrid(HX * torch.arange(6.0), HY * torch.arange(6.0), indexing="ij")
    linear = torch.stack((1.0 * x + 2.0 * y, 4.0 * x - 1.0 * y))
    magnitude = gradient_magnitude(linear, [HX, HY], staggered)[1:-1, 1:-1]
    torch.testing.assert_close(magnitude, torch.full((4, 4), math.sqrt(1 + 4 + 16 + 1)), rtol=1e-5, atol=0)
