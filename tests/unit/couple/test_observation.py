"""What is kept of a field: modes by truncation, energy, shells."""

import math

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow
from hpcsurrogate.couple.observation import Observer, truncate
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
