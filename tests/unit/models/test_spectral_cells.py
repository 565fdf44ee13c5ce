"""The derivatives of a network on a spectral host are those of the host."""

import pytest
import torch

from hpcsurrogate.models.spectral_cells import spectral_force, spectral_gradient
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.stress_operators import SpectralOperators

GRIDS = {2: Grid((12, 10), (2.0, 3.0)), 3: Grid((8, 12, 10), (2.0, 3.0, 1.0))}


@pytest.mark.parametrize("num_dims", [2, 3])
def test_gradient_and_force_are_the_hosts(num_dims):
    """Noise, Nyquist modes and all; round-off of float64 on numbers of up to 100."""
    grid = GRIDS[num_dims]
    operators, spacing = SpectralOperators(grid), list(grid.spacing)
    generator = torch.Generator().manual_seed(0)
    velocity, stress = (
        torch.randn(2, size, *grid.shape, dtype=torch.float64, generator=generator)
        for size in (num_dims, num_dims * (num_dims + 1) // 2)
    )
    gradient = torch.stack(operators.velocity_gradient(velocity), 1)
    torch.testing.assert_close(spectral_gradient(velocity, spacing), gradient, rtol=0, atol=1e-11)
    force = -operators.divergence(stress.unbind(1))
    torch.testing.assert_close(spectral_force(stress, spacing), force, rtol=0, atol=1e-11)
