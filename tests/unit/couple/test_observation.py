"""What is kept of a field: modes by truncation, energy, shells."""

import math

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, SpectralHost
from hpcsurrogate.couple.observation import NUM_QUANTILES, Observer, quantiles, truncate
from hpcsurrogate.physics.exact import laminar_kolmogorov
from hpcsurrogate.physics.exact_3d import abc_flow
from hpcsurrogate.physics.hosts import make_host


def wave(shape, kx, ky, phase=0.3):
    x, y = (2 * math.pi * torch.arange(n, dtype=torch.float64) / n for n in shape)
    return torch.cos(kx * x[:, None] + ky * y[None, :] + phase)


@pytest.mark.parametrize(("kx", "ky"), [(0, 0), (3, -2), (-7, 5), (0, 5), (7, 0)])
def test_truncation_keeps_modes_below_the_nyquist_of_the_coarse_grid(kx, ky):
    """Grids of 24 x 20 and 16 x 12 points sample the same wave; tolerance: round-off of two float64 transforms."""
    torch.testing.assert_close(truncate(wave((24, 20), kx, ky), (16, 12)), wave((16, 12), kx, ky), atol=1e-14, rtol=0)


@pytest.mark.parametrize(("kx", "ky"), [(8, 0), (0, 6), (9, 1), (2, 7), (8, -6)])
def test_truncation_removes_the_nyquist_modes_and_all_above(kx, ky):
    assert truncate(wave((24, 20), kx, ky), (16, 12)).abs().max() < 1e-14


def test_truncation_to_its_own_grid_removes_the_nyquist_modes_only():
    kept, nyquist = wave((8, 8), 3, -3), wave((8, 8), 4, 0)
    torch.testing.assert_close(truncate(kept + nyquist, (8, 8)), kept, atol=1e-14, rtol=0)


def test_observer_sees_a_shear_wave_as_it_is():
    """u = sin(3 y): energy 1/4; the second-order difference of spacing h sees wavenumber k as sin(k h / 2) 2 / h."""
    config = FiniteVolumeHost(kind="finite_volume", grid=(32, 32), time_step=0.1)
    host = make_host(config, Flow(viscosity=0.0), torch.float64)
    _, y = host.grid.coordinates((1.0, 0.5))
    velocity = torch.stack((torch.sin(3 * y).expand(32, 32), torch.zeros(32, 32, dtype=torch.float64)))[None]
    observer = Observer(host, (16, 16))
    observation = observer.observe(velocity)
    h = 2 * math.pi / 32
    seen = math.sin(3 * h / 2) * 2 / h
    assert observation.energy.item() == pytest.approx(0.25, rel=1e-12)
    assert observation.enstrophy.item() == pytest.approx(seen**2 / 4, rel=1e-12)
    assert observation.vorticity.shape == (1, 16, 16)
    # Shells 1 to 7: below the Nyquist wavenumber 8 of the scored grid, the mean flow left out.
    assert observer.wavenumbers(velocity).tolist() == pytest.approx([1, 2, 3, 4, 5, 6, 7])
    torch.testing.assert_close(observation.spectrum[0], 0.25 * torch.eye(7, dtype=torch.float64)[2], atol=1e-14, rtol=0)


def abc_observation(config, shape):
    """An ABC flow of wavenumber 1 and amplitudes 1, 0.7, 0.43: velocity parallel to vorticity."""
    forcing = {"kind": "constant_power", "wavenumber": 1, "power": 0.3}
    flow = Flow(viscosity=0.01, domain=(2 * math.pi,) * 3, forcing=forcing)
    host = make_host(config, flow, torch.float64)
    velocity = abc_flow(host.grid, Flow(viscosity=0.01, domain=flow.domain), 0.0, host.layout)
    return velocity, Observer(host, shape).observe(velocity)


ENERGY_OF_ABC = 0.5 * (1.0 + 0.7**2 + 0.43**2)  # each amplitude stands in two components as a sine or cosine


@pytest.mark.parametrize("grid", [(16, 16, 16), (24, 16, 20)])
def test_an_abc_flow_in_three_dimensions(grid):
    """curl u = u: energy and enstrophy are equal, so are their losses, 2 nu E, and the force is P / (2 E) u."""
    config = SpectralHost(kind="spectral", grid=grid, dealias="shift", time_step=0.1)
    velocity, observation = abc_observation(config, (16, 16, 16))
    energy = ENERGY_OF_ABC
    assert observation.energy.item() == pytest.approx(energy, rel=1e-12)
    assert observation.enstrophy.item() == pytest.approx(energy, rel=1e-12)
    expected = torch.tensor([[0.3, -0.02 * energy, 0.3, -0.02 * energy]], dtype=torch.float64)
    torch.testing.assert_close(observation.rates, expected, rtol=1e-10, atol=1e-14)
    assert observation.vorticity.shape == observation.velocity.shape == (1, 3, 16, 16, 16)
    torch.testing.assert_close(observation.vorticity, observation.velocity, rtol=0, atol=1e-12)
    assert observation.spectrum[0, 0].item() == pytest.approx(energy, rel=1e-12), "all in the first shell"
    # <S:S> = <omega^2> / 2 for any periodic flow; the quantiles know the mean square to their spacing.
    assert observation.quantiles[0, 1].square().mean().item() == pytest.approx(2 * energy, rel=1e-2)
    assert observation.quantiles[0, 0].square().mean().item() == pytest.approx(2 * energy / 3, rel=1e-2)


def test_a_staggered_host_in_three_dimensions_sees_the_same_to_second_order():
    """Errors fall fourfold when the spacing is halved: (k h)^2 / 12 at most, here of k = 1."""
    errors = []
    for n in (16, 32):
        config = FiniteVolumeHost(kind="finite_volume", grid=(n, n, n), time_step=0.1)
        _, observation = abc_observation(config, (16, 16, 16))
        assert observation.rates[0, 0].item() == pytest.approx(0.3, rel=1e-12)
        errors.append(abs(observation.enstrophy.item() / ENERGY_OF_ABC - 1))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[0] < (2 * math.pi / 16) ** 2 / 6


def test_steady_work_on_a_laminar_flow_is_what_viscosity_takes():
    """Kolmogorov flow u = A / (nu k^2) sin k y: injection A^2 / (2 nu k^2), all of it lost to viscosity."""
    flow = Flow(viscosity=0.05, forcing={"kind": "kolmogorov", "wavenumber": 2, "amplitude": 0.4})
    config = SpectralHost(kind="spectral", grid=(16, 16), dealias="shift", time_step=0.1)
    host = make_host(config, flow, torch.float64)
    observation = Observer(host, (16, 16)).observe(laminar_kolmogorov(host.grid, flow, host.layout))
    work = 0.4**2 / (2 * 0.05 * 4)
    expected = torch.tensor([[work, -work, 4 * work, -4 * work]], dtype=torch.float64)
    torch.testing.assert_close(observation.rates, expected, rtol=1e-10, atol=1e-12)


def test_quantiles_are_values_at_even_ranks():
    samples = torch.arange(NUM_QUANTILES * 4, dtype=torch.float64).flip(0)[None]
    found = quantiles(samples)
    assert found.shape == (1, NUM_QUANTILES)
    torch.testing.assert_close(found[0], torch.arange(NUM_QUANTILES, dtype=torch.float64) * 4 + 2)


def test_half_an_observation_is_the_same_without_quantiles_and_rates():
    flow = Flow(viscosity=0.1)
    host = make_host(FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.1), flow)
    velocity = host.project(torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(0)))
    whole, half = (Observer(host, (12, 12), whole=whole).observe(velocity) for whole in (True, False))
    for name in ("energy", "enstrophy", "spectrum", "velocity", "vorticity"):
        assert torch.equal(getattr(whole, name), getattr(half, name))
    for name in ("quantiles", "rates"):
        assert getattr(whole, name).shape == getattr(half, name).shape
        assert getattr(whole, name).isfinite().all() and getattr(half, name).isnan().all()
