"""From a fine velocity field to what a coarse host sees: filtered velocity, exact SGS stress, the host's commutator.

Several filters of one fine field share the transform, the wide products and the fine tendency:

    fine = grainings[0].snapshot(velocity)
    fields = [graining.fields(fine) for graining in grainings]
"""

from functools import cached_property

from torch import Tensor

from hpcsurrogate.core.config import Filter, Flow
from hpcsurrogate.physics.filters import SpatialFilter
from hpcsurrogate.physics.fine_snapshot import FineSnapshot
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import AnyHost, AnySpectralSolver, make_spectral_solver


class CoarseGraining:
    """Filter, exact stress and commutator of one fine grid and one host.

    Every method takes fine *collocated* velocity (b, d, Nx, Ny[, Nz]) [m/s], or a `FineSnapshot` of it.

    Parameters
    ----------
    flow : core.config.Flow
    fine_grid : Grid           its dtype is that of the calculation (float64 for targets)
    host : a host of physics.hosts, of the same dtype
    filter_config : core.config.Filter

    Raises
    ------
    ConfigError    if a face average is asked of a collocated host, or the host is finer than the data

    Attributes
    ----------
    widths : tuple of float         filter width along each axis [m]
    field_names : tuple of str      what `fields` returns, in this order
    """

    field_names = ("velocity", "commutator", "sgs_force", "sgs_stress")

    def __init__(self, flow: Flow, fine_grid: Grid, host: AnyHost, filter_config: Filter):
        self.flow, self.fine_grid, self.host = flow, fine_grid, host
        self.filter = SpatialFilter(fine_grid, host.grid, host.layout, filter_config)
        self.widths = self.filter.widths

    @cached_property
    def _fine_solver(self) -> AnySpectralSolver:
        """The solver whose tendency is the exact one; not made where only velocities are filtered."""
        return make_spectral_solver(self.fine_grid, self.flow)

    def snapshot(self, fine_velocity: Tensor) -> FineSnapshot:
        """What this and other filters of the same flow, fine grid and number of dimensions can share."""
        return FineSnapshot(self.fine_grid, fine_velocity, self._fine_solver)

    def _shared(self, fine: Tensor | FineSnapshot) -> FineSnapshot:
        return fine if isinstance(fine, FineSnapshot) else self.snapshot(fine)

    def filter_vector(self, fine_vector: Tensor) -> Tensor:
        """Filter a fine collocated vector field onto the host's velocity points, without projection."""
        return self.filter.vector(fine_vector)

    def velocity(self, fine: Tensor | FineSnapshot) -> Tensor:
        """Filtered velocity that the host would start from.

        Returns
        -------
        Tensor, shape (b, d, nx, ny[, nz]), on the host's points, free of the host's discrete divergence [m/s]
        """
        fine_velocity = fine.velocity if isinstance(fine, FineSnapshot) else fine
        return self.host.project(self.filter_vector(fine_velocity))

    def commutator(self, fine: Tensor | FineSnapshot) -> Tensor:
        """P filter(rhs_fine(u)) - rhs_host(P filter(u)): what a perfect closure returns on the host's points [m/s^2].

        Feeding it back makes the host reproduce filtered DNS to round-off (tests/physics/test_commutator.py).
        """
        fine = self._shared(fine)
        return self._commutator(fine, self.velocity(fine))

    def _commutator(self, fine: FineSnapshot, velocity: Tensor) -> Tensor:
        return self.host.project(self.filter_vector(fine.tendency)) - self.host.tendency(velocity)

    def sgs_stress(self, fine: Tensor | FineSnapshot) -> Tensor:
        """tau = filter(u u) - filter(u) filter(u), components xx, xy, yy or xx, xy, xz, yy, yz, zz [m^2/s^2].

        The diagonal lies at the centres, xy at the corners (edges in three dimensions) of a staggered layout. With a
        face average the stress is that of the cell (box) average.
        """
        return self.filter.stress_and_force(self._shared(fine))[0]

    def sgs_force(self, fine: Tensor | FineSnapshot) -> Tensor:
        """-div(tau) by exact differentiation, on the host's velocity points, shape (b, d, nx, ny[, nz]) [m/s^2]."""
        return self.filter.stress_and_force(self._shared(fine))[1]

    def fields(self, fine: Tensor | FineSnapshot) -> dict[str, Tensor]:
        """The fields of `field_names`, nothing calculated twice."""
        fine = self._shared(fine)
        velocity = self.velocity(fine)
        stress, force = self.filter.stress_and_force(fine)
        return dict(zip(self.field_names, (velocity, self._commutator(fine, velocity), force, stress), strict=True))
