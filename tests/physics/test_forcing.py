"""Body forces: their values, their independence of the grid, and what a grid cannot resolve."""

import math

import numpy as np
import pytest
import torch

from hpcsurrogate.core.config import ConstantPowerForcing, Flow, KolmogorovForcing, NoForcing, RingForcing
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.finite_volume import FiniteVolumeSolver
from hpcsurrogate.physics.forcing import LargeScaleDrive, body_force_hat
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectral import SpectralSolver

DOMAIN = (2 * math.pi, 3 * math.pi)
RING = RingForcing(kind="ring", wavenumber=3, amplitude=0.4, seed=7)
ROUND_OFF = 1e-13  # float64, sums of a few modes of order 1


def force_on(forcing, grid):
    return torch.fft.irfft2(body_force_hat(forcing, grid), s=grid.shape)


def test_no_forcing_is_none():
    assert body_force_hat(NoForcing(), Grid((8, 8), DOMAIN)) is None


@pytest.mark.parametrize("shape", [(8, 16), (20, 10)])
def test_kolmogorov_force_is_a_sine_along_x(shape):
    grid = Grid(shape, DOMAIN)
    force = force_on(KolmogorovForcing(kind="kolmogorov", wavenumber=3, amplitude=1.3), grid)
    _, y = grid.coordinates()
    expected = 1.3 * torch.sin(2 * math.pi * 3 * y / DOMAIN[1]).expand(shape)
    torch.testing.assert_close(force[0], expected, rtol=0, atol=ROUND_OFF)
    assert force[1].abs().max() == 0


@pytest.mark.parametrize("shape", [(8, 8), (24, 20)])
def test_ring_force_has_the_rms_asked_for_and_no_divergence(shape):
    grid = Grid(shape, DOMAIN)
    assert force_on(RING, grid).square().sum(0).mean().sqrt().item() == pytest.approx(0.4, rel=1e-13)
    force_hat = body_force_hat(RING, grid)
    divergence = grid.kx * force_hat[0] + grid.ky * force_hat[1]
    assert divergence.abs().max() <= ROUND_OFF * force_hat.abs().max()


def test_ring_force_lives_on_its_shell():
    grid = Grid((24, 20), DOMAIN)
    magnitude = body_force_hat(RING, grid).abs().amax(0)
    mx = torch.fft.fftfreq(24, d=1 / 24, dtype=torch.float64)[:, None]
    my = torch.arange(11, dtype=torch.float64)[None, :]
    on_shell = (torch.sqrt(mx**2 + my**2) - 3).abs() <= 0.5
    assert magnitude[~on_shell].max() == 0
    assert magnitude[on_shell].min() > 0


def test_ring_force_does_not_depend_on_the_grid():
    # Every point of the 8 x 10 grid is a point of the 24 x 20 grid.
    coarse, fine = force_on(RING, Grid((8, 10), DOMAIN)), force_on(RING, Grid((24, 20), DOMAIN))
    torch.testing.assert_close(fine[:, ::3, ::2], coarse, rtol=0, atol=ROUND_OFF)


def test_ring_phases_follow_the_seed():
    grid = Grid((16, 16), DOMAIN)
    assert torch.equal(force_on(RING, grid), force_on(RING, grid))
    other = RING.model_copy(update={"seed": 8})
    assert not torch.allclose(force_on(other, grid), force_on(RING, grid))


def test_float32_force_agrees():
    force = force_on(RING, Grid((16, 16), DOMAIN, torch.float32))
    assert force.dtype == torch.float32
    torch.testing.assert_close(force.double(), force_on(RING, Grid((16, 16), DOMAIN)), rtol=0, atol=1e-6)


def test_both_solvers_at_rest_accelerate_by_the_force():
    # The finite-volume solver takes the force averaged over each face.
    flow = Flow(domain=DOMAIN, viscosity=0.1, forcing=RING)
    grid = Grid((24, 20), DOMAIN)
    spectral = SpectralSolver(grid, flow)
    at_rest = spectral.rhs(torch.zeros(24, spectral.num_columns, dtype=torch.complex128))
    torch.testing.assert_close(spectral.velocity(at_rest), force_on(RING, grid), rtol=0, atol=ROUND_OFF)
    staggered = FiniteVolumeSolver(grid, flow)
    acceleration = staggered.decode(staggered.rhs(torch.zeros(2, 24, 11, dtype=torch.complex128)))
    # A face average by Gauss-Legendre quadrature of 8 points along the face, of the Fourier sum itself.
    nodes, weights = np.polynomial.legendre.leggauss(8)
    (hx, hy), force_hat = grid.spacing, body_force_hat(RING, grid)
    averaged = torch.zeros(2, *grid.shape, dtype=torch.float64)
    for node, weight in zip(nodes, weights, strict=True):
        places = ((hx, hy * (1 + node) / 2), (hx * (1 + node) / 2, hy))
        for component, (dx, dy) in enumerate(places):
            moved = force_hat[component] * torch.exp(1j * (grid.kx * dx + grid.ky * dy))
            averaged[component] += weight / 2 * torch.fft.irfft2(moved, s=grid.shape)
    torch.testing.assert_close(acceleration, staggered.project(averaged), rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("shape", [(6, 24), (24, 6)])
@pytest.mark.parametrize("forcing", [RING, KolmogorovForcing(kind="kolmogorov", wavenumber=3)])
def test_a_grid_that_does_not_resolve_the_force_is_refused(shape, forcing):
    with pytest.raises(ConfigError, match="3 waves need a grid of more than 6 points"):
        body_force_hat(forcing, Grid(shape, DOMAIN))


# --- three dimensions ------------------------------------------------------------------------------------------------

BOX = (*DOMAIN, 5.0)


@pytest.mark.parametrize("shape", [(8, 10, 12), (12, 8, 8)])
def test_kolmogorov_force_in_three_dimensions_does_not_vary_along_x_and_z(shape):
    grid = Grid(shape, BOX)
    force_hat = body_force_hat(KolmogorovForcing(kind="kolmogorov", wavenumber=3, amplitude=1.3), grid)
    force = torch.fft.irfftn(force_hat, s=shape, dim=(-3, -2, -1))
    expected = 1.3 * torch.sin(2 * math.pi * 3 * grid.coordinates()[1] / BOX[1]).expand(shape)
    torch.testing.assert_close(force[0], expected, rtol=0, atol=ROUND_OFF)
    assert force[1:].abs().max() == 0


def test_shell_force_has_its_rms_no_divergence_and_is_the_same_on_every_grid():
    coarse, fine = Grid((8, 10, 8), BOX), Grid((24, 20, 16), BOX)
    force_hat = body_force_hat(RING, fine)
    divergence = sum(k * part for k, part in zip(fine.k, force_hat, strict=True))
    assert divergence.abs().max() <= ROUND_OFF * force_hat.abs().max()
    # From a complex transform: the coefficients must be those of a real field, conjugates in the plane kz = 0 included.
    force = torch.fft.irfftn(force_hat, s=fine.shape, dim=(-3, -2, -1))
    again = torch.fft.rfftn(force, dim=(-3, -2, -1))
    torch.testing.assert_close(again, force_hat, rtol=0, atol=ROUND_OFF * 24 * 20 * 16)
    assert force.square().sum(0).mean().sqrt().item() == pytest.approx(0.4, rel=1e-13)
    # Every point of the coarse grid is a point of the fine one.
    on_coarse = torch.fft.irfftn(body_force_hat(RING, coarse), s=coarse.shape, dim=(-3, -2, -1))
    torch.testing.assert_close(force[:, ::3, ::2, ::2], on_coarse, rtol=0, atol=ROUND_OFF)


def test_shell_force_lives_on_its_shell_on_all_modes_of_it():
    grid = Grid((24, 20, 16), BOX)
    magnitude = body_force_hat(RING, grid).abs().amax(0)
    norm = torch.sqrt(sum((k * length / (2 * math.pi)) ** 2 for k, length in zip(grid.k, BOX, strict=True)))
    on_shell = (norm - 3).abs() <= 0.5
    assert magnitude[~on_shell].max() == 0
    assert magnitude[on_shell].min() > 0


# --- a drive of constant power ---------------------------------------------------------------------------------------

DRIVE = ConstantPowerForcing(kind="constant_power", wavenumber=2, power=0.7)


@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 8)])
def test_the_drive_is_in_proportion_to_the_largest_scales_and_does_its_work(shape):
    grid, axes = Grid(shape, BOX[: len(shape)]), tuple(range(-len(shape), 0))
    velocity = torch.randn(4, len(shape), *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    velocity_hat = torch.fft.rfftn(velocity, dim=axes)
    force_hat = LargeScaleDrive(DRIVE, grid.k, grid).add_to(torch.zeros_like(velocity_hat), velocity_hat)
    force = torch.fft.irfftn(force_hat, s=shape, dim=axes)
    norm2 = sum((k * length / (2 * math.pi)) ** 2 for k, length in zip(grid.k, grid.lengths, strict=True))
    driven = (norm2 > 0.5) & (norm2 < 4.5)
    ratio = (force_hat / velocity_hat)[..., driven].flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio).contiguous(), rtol=1e-12, atol=0)
    assert force_hat[..., ~driven].abs().max() == 0
    power = (velocity * force).sum(1).mean(axes)
    torch.testing.assert_close(power, torch.full((4,), 0.7, dtype=torch.float64), rtol=1e-13, atol=0)


def test_modes_without_energy_grow_at_a_bounded_rate_and_a_fluid_at_rest_stays_there():
    grid = Grid((12, 10), DOMAIN)
    drive = LargeScaleDrive(DRIVE, grid.k, grid)
    at_rest = torch.zeros(2, 12, 6, dtype=torch.complex128)
    assert drive.add_to(at_rest.clone(), at_rest).abs().max() == 0
    assert body_force_hat(DRIVE, grid) is None
    round_off = at_rest.clone()
    round_off[0, 0, 1] = 1e-15
    rate = (drive.add_to(at_rest.clone(), round_off)[0, 0, 1] / 1e-15).real.item()
    k_f = 2 * math.pi * 2 / DOMAIN[1]
    assert rate == pytest.approx(20 * (0.7 * k_f**2) ** (1 / 3), rel=1e-12)
