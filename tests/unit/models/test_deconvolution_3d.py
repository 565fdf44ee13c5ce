"""The deconvolved quadratic term on three-dimensional staggered grids."""

import math

import pytest
import torch

from hpcsurrogate.core.config import Flow
from hpcsurrogate.models.deconvolution_3d import DeconvolutionNet3D, flux_divergence
from hpcsurrogate.physics.finite_volume import FiniteVolumeSolver
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectral_3d import SpectralSolver3D
from tests.unit.models.test_deconvolution import coarse_modes, fine_values

DOMAIN = (2 * math.pi, 3 * math.pi, 2 * math.pi)
GRID = Grid((12, 16, 10), DOMAIN)
FLOW = Flow(domain=DOMAIN, viscosity=0.02)


def trained(spacing, viscosity=0.0, seed=0):
    """A network whose tables are not what they start with."""
    network = DeconvolutionNet3D(GRID.shape, spacing, viscosity, 8, 1.0).double().requires_grad_(False)
    network.values += 0.1 * torch.randn(network.values.shape, generator=torch.Generator().manual_seed(seed))
    return network


def noise(shape, seed=0):
    return torch.randn(1, 3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def face_average(velocity_hat, grid):
    """Half-spectra of point values at the grid's points, averaged over the faces at their staggered places."""
    parts = []
    for component in range(3):
        transfer = 1.0
        for axis, (k, h) in enumerate(zip(grid.k, grid.spacing, strict=True)):
            along = torch.exp(1j * k * h * (1.0 if axis == component else 0.5))
            transfer = transfer * (along if axis == component else along * torch.sinc(k * h / (2 * math.pi)))
        parts.append(transfer * velocity_hat[component])
    return torch.fft.irfftn(torch.stack(parts), s=grid.shape)[None]


def test_the_fluxes_taken_out_are_those_of_the_host():
    velocity = noise(GRID.shape)
    expected = -FiniteVolumeSolver(GRID, FLOW).advection(velocity)
    torch.testing.assert_close(flux_divergence(velocity, *GRID.spacing), expected, rtol=0, atol=1e-12)


def test_untrained_without_damping_it_makes_the_host_exact_on_face_averages():
    """Rate of the host with the closure = face average of the exact rate, for a flow whose products the grid holds."""
    fine = Grid((24, 32, 20), DOMAIN)
    exact = SpectralSolver3D(fine, FLOW, "two_thirds")
    coarse = SpectralSolver3D(GRID, FLOW, "two_thirds")
    state = coarse.random_state(2, 1.0, torch.Generator().manual_seed(1))
    # Modes up to n/4, so that those of the products stay below the Nyquist frequency of the coarse grid.
    small = torch.fft.rfftn(coarse.velocity(state), dim=(-3, -2, -1))
    for k, n, length in zip(GRID.k, GRID.shape, DOMAIN, strict=True):
        small = small * (4 * (k * length / (2 * math.pi)).abs().round() < n)
    velocity = torch.fft.irfftn(small, s=GRID.shape)
    start = coarse.refine(coarse.encode(velocity), exact)
    rate = exact.velocity(exact.rhs(start))
    averaged_rate = face_average(torch.fft.rfftn(rate[:, ::2, ::2, ::2], dim=(-3, -2, -1)), GRID)
    network = DeconvolutionNet3D(GRID.shape, GRID.spacing, FLOW.viscosity, 8, 1.0).double().requires_grad_(False)
    network.values.zero_()
    host = FiniteVolumeSolver(GRID, FLOW)
    faces = face_average(small, GRID)
    computed = host.decode(host.rhs(host.encode(faces), 0, network))
    assert rate.square().mean() > 0.1
    torch.testing.assert_close(computed, averaged_rate, rtol=0, atol=1e-11)


def test_aliases_cancel_between_even_and_odd_stages():
    """Of a flow below 2/3 kmax no product is aliased along two axes, and the mean is the exact product."""
    network = trained(GRID.spacing, 0.02)
    kmax = math.pi / max(GRID.spacing)
    velocity_hat = torch.fft.rfftn(noise(GRID.shape), dim=(2, 3, 4)) * (GRID.k2.sqrt() < 2 / 3 * kmax)
    to_points, from_points, k, along, linear = network.tables(*GRID.shape)
    u = fine_values(to_points[0] * velocity_hat)
    stress_hat = coarse_modes((u[:, :, None] * u[:, None]).flatten(1, 2), GRID.shape).unflatten(1, (3, 3))
    flux = (k * stress_hat).sum(2)
    exact = linear * velocity_hat + from_points[0] * (flux - k * (along * flux).sum(1, keepdim=True))
    even, odd = (network.advection_hat(velocity_hat, GRID.shape[-1], stage) for stage in (0, 1))
    torch.testing.assert_close(0.5 * (even + odd), exact, rtol=0, atol=1e-12 * exact.abs().max().item())
    assert (even - exact).abs().max() > 0.01 * exact.abs().max()


def test_it_keeps_momentum_and_leaves_a_uniform_flow_alone():
    network = trained(GRID.spacing, 0.02)
    assert network(noise(GRID.shape)).mean((-3, -2, -1)).abs().max() < 1e-12
    uniform = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64).reshape(1, 3, 1, 1, 1).expand(1, 3, *GRID.shape)
    assert network(uniform).abs().max() < 1e-12


def reflected(field, axis):
    """Mirror along an axis: faces across it move to the other side of their cells, and their component turns round."""
    turned = torch.flip(field, (axis + 2,)).clone()
    turned[:, axis] = -torch.roll(turned[:, axis], -1, axis + 1)
    return turned


def test_it_turns_and_mirrors_with_the_flow():
    network, velocity = trained(GRID.spacing, 0.02), noise(GRID.shape)
    out = network(velocity)
    for axis in range(3):
        torch.testing.assert_close(network(reflected(velocity, axis)), reflected(out, axis), rtol=0, atol=1e-11)
    cyclic = trained((GRID.spacing[2], *GRID.spacing[:2]), 0.02)
    turned = [torch.roll(field, 1, 1).permute(0, 1, 4, 2, 3) for field in (velocity, out)]
    torch.testing.assert_close(cyclic(turned[0]), turned[1], rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [(12, 16, 10), (8, 12, 14)])
def test_gradients_of_the_tables_are_those_of_finite_differences(shape):
    network = trained((0.5, 0.4, 0.6), 0.02).requires_grad_(True)
    velocity = noise(shape)
    weights = noise(shape, seed=2)
    (network(velocity) * weights).sum().backward()
    for row, column in ((2, 0), (3, 1), (5, 2)):
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                network.values[row, column] += step
                ends.append((network(velocity) * weights).sum().item())
                network.values[row, column] -= step
        expected = (ends[0] - ends[1]) / 2e-5
        assert network.values.grad[row, column].item() == pytest.approx(expected, rel=1e-6, abs=1e-7)
