"""Fields that several physics tests share."""

import pytest
import torch

from hpcsurrogate.core.config import Flow
from hpcsurrogate.physics.spectral import SpectralSolver


@pytest.fixture
def random_velocity():
    """Return a maker of solenoidal collocated velocities (batch, 2, nx, ny) with every mode of the 2/3 rule in them."""

    def make(grid, batch=1, wavenumber=3, seed=0):
        solver = SpectralSolver(grid, Flow(domain=grid.lengths, viscosity=0.0))
        generator = torch.Generator().manual_seed(seed)
        fields = [solver.random_vorticity_hat(wavenumber, 1.0, generator) for _ in range(batch)]
        return solver.velocity(torch.stack(fields))

    return make
