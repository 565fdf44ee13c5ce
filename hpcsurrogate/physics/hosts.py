"""The coarse solvers as hosts of a closure: one small interface over the finite-volume and the spectral solver."""

from functools import cached_property

import torch
from torch import Tensor

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, Host, SpectralHost
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.finite_volume import Closure, FiniteVolumeSolver
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.projection import DivergenceProjection
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


class HostPoints:
    """What filtering needs to know of a host that has no solver yet: where its velocity lies and how it is projected.

    Parameters
    ----------
    config : core.config.Host     kind and order
    grid : Grid                   of two or three dimensions

    Notes
    -----
    `project` is the solver's own in two dimensions, but that a spectral solver also takes out the mean and, under its
    2/3 rule, the highest third of the modes (tests/physics/test_projection.py).
    """

    def __init__(self, config: Host, grid: Grid):
        self.grid = grid
        staggered = isinstance(config, FiniteVolumeHost)
        self.layout = StaggeredHost.layout if staggered else CollocatedHost.layout
        self.project = DivergenceProjection(grid, config.order if staggered else None)


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
    ConfigError    if the grid does not resolve the forcing, or is three-dimensional
    """
    if len(config.grid) != 2:
        raise ConfigError(
            f"host.grid: {config.grid} has {len(config.grid)} axes, but the host solvers are two-dimensional; "
            "three-dimensional data end at the stage prepare"
        )
    grid = Grid(config.grid, flow.domain, dtype, device)
    if isinstance(config, FiniteVolumeHost):
        return StaggeredHost(config, flow, grid)
    return CollocatedHost(config, flow, grid)


def make_host_points(
    config: Host, flow: Flow, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> AnyHost | HostPoints:
    """What `CoarseGraining` filters for: the host where there is a solver, in three dimensions its points alone."""
    if len(config.grid) == 2:
        return make_host(config, flow, dtype, device)
    return HostPoints(config, Grid(config.grid, flow.domain, dtype, device))
