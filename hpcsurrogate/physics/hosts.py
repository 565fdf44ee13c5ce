"""The coarse solvers as hosts of a closure: one small interface over the finite-volume and the spectral solvers."""

import copy
from functools import cached_property

import torch
from torch import Tensor

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, Host, SpectralHost
from hpcsurrogate.physics.finite_volume import AdvectionHat, Closure, FiniteVolumeSolver
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.spectral import SpectralSolver
from hpcsurrogate.physics.spectral_3d import SpectralSolver3D
from hpcsurrogate.physics.stress_operators import SpectralOperators, StaggeredOperators, StressOperators


class _Host:
    """What both kinds share. See the architecture page for what each method promises.

    Parameters
    ----------
    config : core.config.Host
    flow : core.config.Flow
    grid : Grid                 of two or three dimensions
    """

    layout: str

    def __init__(self, config: Host, flow: Flow, grid: Grid):
        self.config, self.flow, self.grid, self.time_step = config, flow, grid, config.time_step
        self.solver = self._make_solver()
        self.encode, self.decode = self.solver.encode, self._decoder()

    def with_damping(self, rates: Tensor) -> "_Host":
        """The same host whose linear term damps every mode at an extra rate, at no cost a step.

        Parameters
        ----------
        rates : Tensor, shape of the grid's half-spectrum, real, not negative [1/s]

        Notes
        -----
        Differentiable in the rates, and cheap: everything but the linear term is shared
        (tests/physics/test_hosts.py).
        """
        damped = copy.copy(self)
        damped.solver = self.solver.with_damping(rates)
        return damped

    def step(self, state: Tensor, closure: Closure | None = None) -> Tensor:
        return self.solver.step(state, self.time_step, closure, hold=self.config.closure_calls == "step")

    def tendency(self, velocity: Tensor, closure: Closure | None = None) -> Tensor:
        return self.decode(self.solver.rhs(self.encode(velocity), 0, closure))


class StaggeredHost(_Host):
    """Finite-volume host: velocity at the faces."""

    layout = "staggered"

    def _make_solver(self) -> FiniteVolumeSolver:
        return FiniteVolumeSolver(self.grid, self.flow, self.config.order, self.config.advection)

    def _decoder(self):
        return self.solver.decode

    def with_advection_hat(self, advection_hat: AdvectionHat) -> "StaggeredHost":
        """The same host with another -div(u u), not yet projected, from its state at every stage."""
        replaced = copy.copy(self)
        replaced.solver = self.solver.with_advection_hat(advection_hat)
        return replaced

    @cached_property
    def operators(self) -> StressOperators:
        return StaggeredOperators(self.grid)

    def project(self, vector: Tensor) -> Tensor:
        return self.solver.project(vector)

    def vorticity(self, velocity: Tensor) -> Tensor:
        gradient = self.operators.velocity_gradient(velocity)
        if self.grid.num_dims == 2:
            _, uy, vx, _ = gradient
            return vx - uy
        _, uy, uz, vx, _, vz, wx, wy, _ = gradient
        return torch.stack((wy - vz, uz - wx, vx - uy), dim=-4)


class CollocatedHost(_Host):
    """Spectral host: velocity and everything else at the grid points; the state is a vorticity in two dimensions."""

    layout = "collocated"

    def _make_solver(self) -> SpectralSolver | SpectralSolver3D:
        return make_spectral_solver(self.grid, self.flow, self.config.dealias, self.config.hyperviscosity)

    def _decoder(self):
        return self.solver.velocity

    @cached_property
    def operators(self) -> StressOperators:
        return SpectralOperators(self.grid)

    def project(self, vector: Tensor) -> Tensor:
        return self.decode(self.encode(vector))

    def vorticity(self, velocity: Tensor) -> Tensor:
        return self.solver.vorticity(self.encode(velocity))


AnyHost = StaggeredHost | CollocatedHost
AnySpectralSolver = SpectralSolver | SpectralSolver3D


def make_spectral_solver(grid: Grid, flow: Flow, *settings, **more_settings) -> AnySpectralSolver:
    """The pseudo-spectral solver of the grid's number of dimensions, with the settings that both have."""
    kind = SpectralSolver if grid.num_dims == 2 else SpectralSolver3D
    return kind(grid, flow, *settings, **more_settings)


def make_host(
    config: Host, flow: Flow, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> AnyHost:
    """The coarse solver of the experiment file.

    Parameters
    ----------
    config : core.config.FiniteVolumeHost or SpectralHost, with a grid of two or three axes
    flow : core.config.Flow
    dtype : torch.float32 or torch.float64
    device : str

    Raises
    ------
    ConfigError    if the grid does not resolve the forcing
    """
    grid = Grid(config.grid, flow.domain, dtype, device)
    return (CollocatedHost if isinstance(config, SpectralHost) else StaggeredHost)(config, flow, grid)


def fold_closure(host: AnyHost, closure: Closure | None) -> tuple[AnyHost, Closure | None]:
    """A host and what is left to call of a closure: what the host can take into its own terms costs it less there.

    Parameters
    ----------
    host : a host
    closure : callable or None    a linear damping has `damping_rates(grid)`, a half-spectrum of rates [1/s]; one that
                                  takes out the central fluxes of second order has `advection_hat`, what to put in
                                  their place (physics.finite_volume.AdvectionHat)

    Notes
    -----
    To round-off the host with its closure either way (tests/physics/test_hosts.py); with `advection_hat` the mean of
    even and odd stages is (tests/unit/models/test_deconvolution.py).
    """
    if (rates := getattr(closure, "damping_rates", None)) is not None:
        return host.with_damping(rates(host.grid)), None
    if (advection_hat := getattr(closure, "advection_hat", None)) is not None and _has_those_fluxes(host.config):
        return host.with_advection_hat(advection_hat), None
    return host, closure


def _has_those_fluxes(config: Host) -> bool:
    """Whether a host computes the central fluxes of second order, and calls its closure as often."""
    is_central = isinstance(config, FiniteVolumeHost) and (config.order, config.advection) == (2, "central")
    return is_central and config.closure_calls == "stage"
