"""Fields that several physics tests share."""

import pytest
import torch

from hpcsurrogate.core.config import Flow
from hpcsurrogate.physics.spectral import SpectralSolver
from hpcsurrogate.physics.spectral_3d import SpectralSolver3D


@pytest.fixture
def random_velocity():
    """Return a maker of solenoidal collocated velocities (batch, d, nx, ny[, nz]) with every mode of the 2/3 rule."""

    def make(grid, batch=1, wavenumber=3, seed=0):
        make_solver = SpectralSolver if grid.num_dims == 2 else SpectralSolver3D
        solver = make_solver(grid, Flow(domain=grid.lengths, viscosity=0.0))
        generator = torch.Generator().manual_seed(seed)
        fields = [solver.random_state(wavenumber, 1.0, generator) for _ in range(batch)]
        return solver.velocity(torch.stack(fields))

    return make
