"""Momentum fluxes of the staggered finite-volume scheme: -div(u u) in two or three dimensions.

Legend: u_i stands at the upper face of its cell across axis i; an edge lies half a cell up from the centre along two
axes; w_n weights of the differences and averages over n cells (n odd) that make up a scheme of order 2, 4 or 6.

Source of the central fluxes: Y. Morinishi et al., J. Comput. Phys. 143 (1998) 90, equations 108 to 110 (Div-S schemes).
The upwind ones add the difference of highest order that the same points allow, times the speed, which makes the
interpolation one of order - 1, biased upstream (order 4: T. Kawamura and K. Kuwahara, AIAA paper 84-0340, equation 10,
with a third of its coefficient).
"""

import math
import threading

import torch
import torch.nn.functional as F
from torch import Tensor

from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.tape import Arithmetic, Tape

# order -> {n: w_n}: the same weights for differences (f(+n/2) - f(-n/2)) / (n h) and averages (f(+n/2) + f(-n/2)) / 2.
WEIGHTS = {2: {1: 1.0}, 4: {1: 9 / 8, 3: -1 / 8}, 6: {1: 150 / 128, 3: -25 / 128, 5: 3 / 128}}
# order -> coefficient of |u| times the difference over `order` points, in the flux of an upwind scheme.
UPWIND = {2: 1 / 2, 4: -1 / 12, 6: 1 / 60}
MOST_TAPES = 4  # shapes of batches, say, that are kept ready
LARGEST_TAPED = (
    2**20
)  # numbers in a velocity; a tape keeps up to ten times that, and on larger fields saves little time


class StaggeredAdvection:
    """velocity (..., d, nx, ny[, nz]) -> -div(u u) on the same staggered points, not projected [m/s^2].

    Parameters
    ----------
    grid : Grid         of d = 2 or 3 dimensions, wider than the stencil
    order : int         2, 4 or 6
    advection : str     "central" or "upwind"

    Notes
    -----
    Differentiable. Without gradients the arithmetic on small fields, where most of the time goes into making views,
    runs from a tape, on arrays and views that are made once. The same numbers either way
    (tests/physics/test_advection.py).
    """

    def __init__(self, grid: Grid, order: int, advection: str):
        self.grid = grid
        self._weights = WEIGHTS[order]
        self._reach = max(self._weights)
        # Sums over n are in units of their first term, whose weight then need not be multiplied with.
        self._ratios = {n: weight / self._weights[1] for n, weight in self._weights.items()}
        self._binomials = self._binomial_ratios()
        self._upwind = None
        if advection == "upwind":
            first = (-1) ** (self._reach // 2) * math.comb(self._reach, self._reach // 2)
            self._upwind = -2 * UPWIND[order] * first / self._weights[1]
        self._axes = tuple(range(-grid.num_dims, 0))
        self._components = self._axes[0] - 1
        scales = [-(self._weights[1] ** 2) / (4 * h) for h in grid.spacing]
        self._scales = torch.tensor(scales, dtype=torch.float64).to(grid.device, grid.dtype)
        self._scales = self._scales.reshape(-1, *[1] * grid.num_dims)
        self._tapes = {}

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_tapes": {}}  # a copied tape would go on writing to the arrays of the first

    def _binomial_ratios(self) -> dict[int, float]:
        """The difference of order `reach` as differences over n cells, in units of that over one cell."""
        places = {n: (self._reach - n) // 2 for n in self._weights}
        first = math.comb(self._reach, places[1])
        return {n: (-1) ** (n // 2) * math.comb(self._reach, place) / first for n, place in places.items()}

    def __call__(self, velocity: Tensor) -> Tensor:
        taped = not torch.is_grad_enabled() and velocity.numel() <= LARGEST_TAPED
        rates = self._replayed(velocity) if taped else self._rates(self._pad(velocity), Arithmetic())
        return torch.stack(rates, dim=self._components).mul_(self._scales)

    def _replayed(self, velocity: Tensor) -> list[Tensor]:
        # A tape belongs to one thread, and its arrays to the mode in which they were made.
        key = (velocity.shape, velocity.dtype, threading.get_ident(), torch.is_inference_mode_enabled())
        kept = self._tapes.get(key)
        if kept is None:
            if len(self._tapes) >= MOST_TAPES:
                self._tapes.clear()
            tape = Tape()
            padded = self._pad(velocity)
            kept = (tape, self._interior(padded), self._halos(padded), self._rates(padded, tape))
            self._tapes[key] = kept
        tape, interior, halos, rates = kept
        interior.copy_(velocity)
        for halo, opposite in halos:
            halo.copy_(opposite)
        tape.replay()
        return rates

    # --- halo ----------------------------------------------------------------------------------------------------

    def _pad(self, velocity: Tensor) -> Tensor:
        """Periodic halo of `reach` cells on every side."""
        batch, field_shape = velocity.shape[: self._components], velocity.shape[self._components :]
        padded = F.pad(velocity.reshape(-1, *field_shape), (self._reach,) * (2 * self.grid.num_dims), mode="circular")
        return padded.reshape(*batch, *padded.shape[self._components :])

    def _interior(self, padded: Tensor) -> Tensor:
        for axis, n in zip(self._axes, self.grid.shape, strict=True):
            padded = padded.narrow(axis, self._reach, n)
        return padded

    def _halos(self, padded: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Pairs of what to fill and where from, in this order: each axis over the halos of those before it."""
        pairs, reach = [], self._reach
        for place, (axis, n) in enumerate(zip(self._axes, self.grid.shape, strict=True)):
            slab = padded
            for later, size in zip(self._axes[place + 1 :], self.grid.shape[place + 1 :], strict=True):
                slab = slab.narrow(later, reach, size)
            pairs.append((slab.narrow(axis, 0, reach), slab.narrow(axis, n, reach)))
            pairs.append((slab.narrow(axis, reach + n, reach), slab.narrow(axis, reach, reach)))
        return pairs

    # --- fluxes --------------------------------------------------------------------------------------------------

    def _rates(self, padded: Tensor, arithmetic: Arithmetic) -> list[Tensor]:
        """The d components of -div(u u), each in units of its own entry of `_scales`."""
        components = padded.unbind(self._components)
        rates = []
        for i, component in enumerate(components):
            points = self._points(component, i, i)
            sums, carrier = self._interpolate(points, i, arithmetic)
            rates.append(self._add_divergence(None, carrier, sums, points, i, i, arithmetic))
            arithmetic.release(*sums.values(), carrier)
        for i in range(self.grid.num_dims):
            for j in range(i):
                # On the edges between i and j: u_j carries u_i along j, u_i carries u_j along i.
                points = self._points(components[i], i, j), self._points(components[j], j, i)
                of_i, i_there = self._interpolate(points[0], j, arithmetic)
                of_j, j_there = self._interpolate(points[1], i, arithmetic)
                rates[i] = self._add_divergence(rates[i], j_there, of_i, points[0], i, j, arithmetic)
                rates[j] = self._add_divergence(rates[j], i_there, of_j, points[1], j, i, arithmetic)
                arithmetic.release(*of_i.values(), i_there, *of_j.values(), j_there)
        return rates

    def _points(self, component: Tensor, i: int, j: int) -> Tensor:
        """The part of padded u_i that its fluxes along j, and those it carries along i, are made of."""
        for axis, (place, n) in enumerate(zip(self._axes, self.grid.shape, strict=True)):
            if axis == i != j:
                component = component.narrow(place, self._reach // 2, n + self._reach)
            elif axis != j:
                component = component.narrow(place, self._reach, n)
        return component

    def _ends(self, field: Tensor, n: int, axis: int) -> tuple[Tensor, Tensor]:
        """Values n/2 cells below and above the midpoints along an axis; `reach` points fewer than the input."""
        inset, place = (self._reach - n) // 2, self._axes[axis]
        size = field.shape[place] - self._reach
        return field.narrow(place, inset, size), field.narrow(place, inset + n, size)

    def _interpolate(self, points: Tensor, axis: int, arithmetic: Arithmetic) -> tuple[dict[int, Tensor], Tensor]:
        """Sums of the values n/2 cells below and above, and 2 / w_1 times the interpolation of the scheme's order."""
        sums = {n: arithmetic.add(*self._ends(points, n, axis)) for n in self._weights}
        return sums, self._combine(sums, self._ratios, arithmetic)

    def _combine(self, terms: dict[int, Tensor], weights: dict[int, float], arithmetic: Arithmetic) -> Tensor:
        """terms[1] + sum of the others times weights[n], in a new array if there are others."""
        first, *others = terms.items()
        total = first[1]
        for place, (n, term) in enumerate(others):
            into = arithmetic.add if place == 0 else arithmetic.accumulate
            total = into(total, term, weights[n])
        return total

    def _add_divergence(
        self,
        rate: Tensor | None,
        carrier: Tensor,
        sums: dict[int, Tensor],
        points: Tensor,
        i: int,
        j: int,
        arithmetic: Arithmetic,
    ) -> Tensor:
        """rate + sum_n w_n / n (h_i / h_j) delta_n( carrier * sums[n] ) along j."""
        carrier = self._of_cells(carrier, i, j)
        for n, total in sums.items():
            flux = arithmetic.multiply(carrier, self._of_cells(total, i, j))
            if n == 1 and self._upwind is not None:
                flux = self._add_dissipation(flux, carrier, self._of_cells(points, i, j), j, arithmetic)
            low, high = self._ends(flux, n, j)
            difference = arithmetic.subtract(high, low)
            if rate is None:
                rate = difference
            else:
                scale = self._ratios[n] / n * self.grid.spacing[i] / self.grid.spacing[j]
                rate = arithmetic.accumulate(rate, difference, scale)
                arithmetic.release(difference)
            arithmetic.release(flux)
        return rate

    def _of_cells(self, field: Tensor, i: int, j: int) -> Tensor:
        """Of a field on the edges between i and j, or of `_points`, that which belongs to faces of cells across i."""
        return field if i == j else field.narrow(self._axes[i], (self._reach + 1) // 2, self.grid.shape[i])

    def _add_dissipation(
        self, flux: Tensor, carrier: Tensor, points: Tensor, axis: int, arithmetic: Arithmetic
    ) -> Tensor:
        """flux + c |carrier| times the difference of the scheme's order, which turns the interpolation upstream."""
        differences = {}
        for n in self._weights:
            low, high = self._ends(points, n, axis)
            differences[n] = arithmetic.subtract(high, low)
        total = self._combine(differences, self._binomials, arithmetic)
        speed = arithmetic.magnitude(carrier)
        flux = arithmetic.accumulate_product(flux, speed, total, self._upwind)
        arithmetic.release(*differences.values(), total, speed)
        return flux
