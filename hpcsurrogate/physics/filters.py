"""Spatial filters in two and three dimensions, and the exact sub-grid stress that they leave.

Legend: G filter transfer function; tau_ij = filter(u_i u_j) - filter(u_i) filter(u_j); stress components xx, xy, yy in
two dimensions and xx, xy, xz, yy, yz, zz in three.

A fine velocity is a trigonometric polynomial, so everything here is exact: products are formed on a grid wide enough
that no mode below the fine grid's Nyquist frequency is aliased, and tau is tau as a field on the fine grid, without
what lies above that frequency. A collocated coarse grid holds trigonometric polynomials too, so for it every field is
cut off at the Nyquist frequency of the coarse grid; finer waves of a gaussian or box filter would otherwise come back
as long ones.
"""

import math
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from hpcsurrogate.core.config import Filter
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.filter_widths import filter_widths
from hpcsurrogate.physics.fine_snapshot import FineSnapshot
from hpcsurrogate.physics.grid import Grid, stress_offset, velocity_offset
from hpcsurrogate.physics.sampling import Sampler, place, product_points, widen

# A transfer function that never again exceeds this is zero to round-off in float64.
NEGLIGIBLE = 1e-17


def transfer(kind: str, k: Tensor, width: float) -> Tensor:
    """Transfer function G(k) of a filter along one axis.

    Parameters
    ----------
    kind : str        "sharp", "gaussian", "box", or "none"
    k : Tensor        wavenumbers [rad/m]
    width : float     [m]

    Returns
    -------
    Tensor of k's shape and dtype [-]

    Notes
    -----
    box sin(k width / 2) / (k width / 2); gaussian exp(-k^2 width^2 / 24), of the box's second moment; sharp 1 below
    pi / width, 0 from there on: S. B. Pope, Turbulent Flows (2000), table 13.2. tests/physics/test_filters.py.
    """
    if kind == "box":
        return torch.sinc(k * width / (2 * math.pi))
    if kind == "gaussian":
        return torch.exp(-((k * width) ** 2) / 24)
    if kind == "sharp":
        return (k.abs() < math.pi / width * (1 - 1e-12)).to(k.dtype)
    return torch.ones_like(k)


class SpatialFilter:
    """A filter between one fine and one coarse grid, in two or three dimensions.

    Parameters
    ----------
    fine : Grid
    coarse : Grid                    of the same box; it need not divide the fine one
    layout : str                     "collocated" or "staggered": where the coarse points lie
    config : core.config.Filter

    Raises
    ------
    ConfigError    if a face average is asked of a collocated layout, or the coarse grid is finer than the fine one or
                   of another number of dimensions

    Notes
    -----
    Filters commute with derivatives, and the trace of tau of a positive filter (box, gaussian) is not negative
    (tests/physics/test_filters.py).
    """

    def __init__(self, fine: Grid, coarse: Grid, layout: str, config: Filter):
        if config.kind == "face_average" and layout != "staggered":
            raise ConfigError(
                "prepare.filter.kind: face_average needs a staggered host (finite_volume); "
                "take sharp, gaussian or box for a spectral one"
            )
        if coarse.num_dims != fine.num_dims:
            raise ConfigError(
                f"host.grid: {coarse.shape} and the data's {fine.shape} differ in the number of dimensions"
            )
        if any(n > fine_n for n, fine_n in zip(coarse.shape, fine.shape, strict=True)):
            raise ConfigError(f"host.grid: {coarse.shape} is finer than the data's {fine.shape}")
        self.fine, self.layout, self.kind = fine, layout, config.kind
        self.coarse = coarse.to(fine.dtype)
        self.widths = filter_widths(config, coarse.spacing)
        axes = range(fine.num_dims)
        self._velocity_samplers = [self._velocity_sampler(component) for component in axes]
        self._stress_transfers = [self._transfer("box" if self.kind == "face_average" else self.kind, a) for a in axes]
        self._make_stress_samplers()

    # --- transfer functions: factors of the modes 0 to K of one axis -----------------------------------------------

    def _transfer(self, kind: str, axis: int) -> Tensor:
        """Factors of the modes below the fine grid's Nyquist frequency, without those that are zero to the end."""
        modes = torch.arange(self.fine.shape[axis] // 2, dtype=torch.float64)
        factors = transfer(kind, modes * (2 * math.pi / self.fine.lengths[axis]), self.widths[axis])
        return factors[: int((factors.abs() > NEGLIGIBLE).nonzero().max()) + 1]

    def _held(self, axis: int, factors: Tensor) -> Tensor:
        """Without the modes that a collocated coarse grid cannot hold."""
        return factors[: self.coarse.shape[axis] // 2] if self.layout == "collocated" else factors

    def _velocity_sampler(self, component: int) -> Sampler:
        kinds = [self.kind] * self.fine.num_dims
        if self.kind == "face_average":
            kinds = ["none" if axis == component else "box" for axis in range(self.fine.num_dims)]
        transfers = [self._held(axis, self._transfer(kind, axis)) for axis, kind in enumerate(kinds)]
        return Sampler(self.fine.shape, self.coarse, transfers)

    def _make_stress_samplers(self) -> None:
        axes = range(self.fine.num_dims)
        all_modes = [torch.ones(n // 2, dtype=torch.float64) for n in self.fine.shape]
        held = [self._held(axis, all_modes[axis]) for axis in axes]
        self._wide_shape = tuple(product_points(len(all_modes[a]) - 1, len(held[a]) - 1) for a in axes)
        filtered = [self._held(axis, self._stress_transfers[axis]) for axis in axes]
        self._product_sampler = Sampler(self._wide_shape, self.coarse, filtered)
        # A filtered velocity of modes up to K has products of modes up to 2 K.
        highest = [len(self._stress_transfers[axis]) - 1 for axis in axes]
        held = [held[axis][: 2 * highest[axis] + 1] for axis in axes]
        self._filtered_shape = tuple(product_points(highest[axis], len(held[axis]) - 1) for axis in axes)
        self._filtered_sampler = Sampler(self._filtered_shape, self.coarse, held)

    # --- filtered fields ---------------------------------------------------------------------------------------------

    def vector(self, fine_vector: Tensor) -> Tensor:
        """Filter a fine collocated vector field onto the coarse velocity points.

        Parameters
        ----------
        fine_vector : Tensor, shape (b, d, Nx, Ny[, Nz])

        Returns
        -------
        Tensor, shape (b, d, nx, ny[, nz]), not projected; a face average of a solenoidal field has no discrete
        second-order divergence (tests/physics/test_filters.py)
        """
        components = []
        for component, field in enumerate(fine_vector.to(self.fine.dtype).unbind(1)):
            points = place(velocity_offset(self.layout, component, self.fine.num_dims))
            components += self._velocity_samplers[component].sample(field, [points])
        return torch.stack(components, dim=1)

    def stress_and_force(self, fine: FineSnapshot) -> tuple[Tensor, Tensor]:
        """The exact SGS stress and its force -div(tau), differentiated exactly.

        Parameters
        ----------
        fine : FineSnapshot of d components

        Returns
        -------
        stress : Tensor, shape (b, 3 or 6, nx, ny[, nz]) [m^2/s^2]    staggered: diagonal at centres, xy at
                 ((i+1)h, (j+1)h[, (k+1/2)h]) and so on; of a face average it is that of the cell's (box) average
        force : Tensor, shape (b, d, nx, ny[, nz]) [m/s^2]            at the velocity's points
        """
        stress, divergence = self._products(fine.wide_velocity(self._wide_shape), self._product_sampler)
        transfers = [factors.to(self.fine.device, self.fine.dtype) for factors in self._stress_transfers]
        filtered = [widen(hat, transfers, self._filtered_shape) for hat in fine.coefficients.unbind(1)]
        of_filtered = self._products(filtered, self._filtered_sampler)
        return stress - of_filtered[0], of_filtered[1] - divergence

    def _products(self, components: list[Tensor], sampler: Sampler) -> tuple[Tensor, Tensor]:
        """u_i u_j at the stress's points and d(u_i u_j)/dx_j at the velocity's; one product in memory at a time."""
        num_dims = self.fine.num_dims
        at_velocity = [velocity_offset(self.layout, component, num_dims) for component in range(num_dims)]
        values: list[Tensor] = []
        divergence: list[Tensor | float] = [0.0] * num_dims
        for row, column in combinations_with_replacement(range(num_dims), 2):
            places = [place(stress_offset(self.layout, row, column, num_dims)), place(at_velocity[row], column)]
            if row != column:
                places.append(place(at_velocity[column], row))
            value, *derivatives = sampler.sample(components[row] * components[column], places)
            values.append(value)
            for component, derivative in zip((row, column), derivatives, strict=False):
                divergence[component] = divergence[component] + derivative
        return torch.stack(values, dim=1), torch.stack(divergence, dim=1)
