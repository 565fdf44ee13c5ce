"""The coarse solvers as hosts of a closure: one small interface over the finite-volume and the spectral solver."""

from functools import cached_property

import torch
from torch import Tensor

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, Host, SpectralHost
from hpcsurrogate.physics.finite_volume import Closure, FiniteVolumeSolver
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectral import SpectralSolver
from hpcsurrogate.physics.stress_operators import SpectralOperators, StaggeredOperators


class StaggeredHost:
    """Finite-volume host: velocity at the faces. See the architecture page for what each method promises."""

    layout = "staggered"

    def __init__(self, config: FiniteVolumeHost, flow: Flow, grid: Grid):
        self.grid, self.time_step, self.flow = grid, config.time_step, flow
        self.solver = FiniteVolumeSolver(grid, flow, config.order)
        self.encode, self.decode, self.project = self.solver.encode, self.solver.decode, self.solver.project

    @cached_property
    def operators(self) -> StaggeredOperators:
        return StaggeredOperators(self.grid)

    def step(self, state: Tensor, closure: Closure | None = None) -> Tensor:
        return self.solver.step(state, self.time_step, closure)

    def tendency(self, velocity_bcxy: Tensor, closure: Closure | None = None) -> Tensor:
        return self.decode(self.solver.rhs(self.encode(velocity_bcxy), 0, closure))

    def vorticity(self, velocity_bcxy: Tensor) -> Tensor:
        _, uy, vx, _ = self.operators.velocity_gradient(velocity_bcxy)
        return vx - uy


class CollocatedHost:
    """Spectral host: velocity and everything else at the grid points, state is the vorticity in Fourier space."""

    layout = "collocated"

    def __init__(self, config: SpectralHost, flow: Flow, grid: Grid):
        self.grid, self.time_step, self.flow = grid, config.time_step, flow
        self.solver = SpectralSolver(grid, flow, config.dealias, config.hyperviscosity)
        self.encode, self.decode = self.solver.vorticity_hat_from_velocity, self.solver.velocity

    @cached_property
    def operators(self) -> SpectralOperators:
        return SpectralOperators(self.grid)

    def project(self, vector_bcxy: Tensor) -> Tensor:
        return self.decode(self.encode(vector_bcxy))

    def step(self, state: Tensor, closure: Closure | None = None) -> Tensor:
        return self.solver.step(state, self.time_step, closure)

    def tendency(self, velocity_bcxy: Tensor, closure: Closure | None = None) -> Tensor:
        return self.decode(self.solver.rhs(self.encode(velocity_bcxy), 0, closure))

    def vorticity(self, velocity_bcxy: Tensor) -> Tensor:
        return self.solver.vorticity(self.encode(velocity_bcxy))


AnyHost = StaggeredHost | CollocatedHost


def make_host(
    config: Host, flow: Flow, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> AnyHost:
    """The coarse solver of the experiment file.

    Parameters
    ----------
    config : core.config.FiniteVolumeHost or SpectralHost
    flow : core.config.Flow
    dtype : torch.float32 or torch.float64
    device : str

    Raises
    ------
    ConfigError    if the grid does not resolve the forcing
    """
    grid = Grid(config.grid, flow.domain, dtype, device)
    if isinstance(config, FiniteVolumeHost):
        return StaggeredHost(config, flow, grid)
    return CollocatedHost(config, flow, grid)
