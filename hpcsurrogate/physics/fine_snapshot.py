"""One fine velocity field, and the work on it that several filters can share."""

from functools import cached_property

import torch
from torch import Tensor

from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import AnySpectralSolver
from hpcsurrogate.physics.sampling import widen


class FineSnapshot:
    """A fine velocity and what follows from it without a filter, each calculated when it is first asked for.

    Parameters
    ----------
    grid : Grid                          its dtype is that of the calculation
    velocity : Tensor, shape (b, d, Nx, Ny[, Nz]), collocated [m/s]
    solver : a spectral solver or None   of the fine grid; only `tendency` needs it

    Notes
    -----
    Several filters give the same fields from one snapshot as from one each (tests/physics/test_coarse_graining.py).
    """

    def __init__(self, grid: Grid, velocity: Tensor, solver: AnySpectralSolver | None = None):
        self.grid, self.solver = grid, solver
        self.velocity = velocity.to(grid.dtype)
        self._wide: dict[tuple[int, ...], list[Tensor]] = {}

    @cached_property
    def coefficients(self) -> Tensor:
        """Fourier coefficients of the velocity, shape (b, d, half-spectrum) [m/s]."""
        return torch.fft.rfftn(self.velocity, dim=tuple(range(-self.grid.num_dims, 0)), norm="forward")

    @cached_property
    def tendency(self) -> Tensor:
        """Acceleration by the fine solver, pressure included, shape of the velocity [m/s^2]."""
        return self.solver.velocity(self.solver.rhs(self.solver.encode(self.velocity)))

    def wide_velocity(self, shape: tuple[int, ...]) -> list[Tensor]:
        """The components on a wider grid, shape (b, *shape) each [m/s]."""
        if shape not in self._wide:
            modes = [torch.ones(n // 2, dtype=self.grid.dtype, device=self.grid.device) for n in self.grid.shape]
            self._wide[shape] = [widen(component, modes, shape) for component in self.coefficients.unbind(1)]
        return self._wide[shape]
