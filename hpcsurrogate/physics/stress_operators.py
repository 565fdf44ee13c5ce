"""Discrete derivatives of velocities and stresses in two and three dimensions, one class per layout, one interface.

Legend: d = number of dimensions; u_i = velocity along axis i; centre, edge = where a scalar stands
(docs/architecture.md, Conventions), in two dimensions the one edge (0, 1) is the corner of a cell; tau_ij = a symmetric
stress [m^2/s^2] as the sequence xx, xy[, xz], yy[, yz, zz]. On the collocated layout centre, edge and velocity points
are all the same point.

Both classes hold three discrete properties (tests/physics/test_stress_operators.py):
the divergence of a stress sums to zero (momentum), it is minus the adjoint of the velocity gradient (energy:
sum u.div(tau) = -sum tau:grad(u)), and both are linear and translation-invariant.
They run inside solver loops, so each method is a handful of torch operations, all differentiable.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from hpcsurrogate.physics.differences import (
    central_difference,
    centres_to_edges,
    edges_to_centres,
    faces_to_centres,
    next_value,
    previous_value,
    staggered_divergence,
    staggered_gradient,
    symmetric_index,
    total,
)
from hpcsurrogate.physics.grid import Grid


class StaggeredOperators:
    """Second-order central differences on the staggered layout; every stencil is two neighbours wide.

    Parameters
    ----------
    grid : Grid    periodic grid whose cells carry the staggered velocity
    """

    def __init__(self, grid: Grid) -> None:
        self.spacing = list(grid.spacing)
        self.num_dims = grid.num_dims

    def velocity_gradient(self, velocity: Tensor) -> tuple[Tensor, ...]:
        """Return du_i/dx_j, row by row: at centres for i = j, on the edge (i, j) otherwise.

        Parameters
        ----------
        velocity : Tensor, shape (..., d, nx, ny[, nz]) [m/s]

        Returns
        -------
        tuple of d * d Tensors, shape (..., nx, ny[, nz]) [1/s]

        Notes
        -----
        The sum of the diagonal is the divergence that the host's projection makes zero. Second order
        (tests/physics/test_stress_operators.py).
        """
        return tuple(staggered_gradient(velocity, self.spacing))

    def to_edge(self, centre_field: Tensor, row: int, column: int) -> Tensor:
        """Average the four centres around each edge (row, column); shape (..., nx, ny[, nz]) in and out."""
        return centres_to_edges(centre_field, row, column, self.num_dims)

    def to_centre(self, edge_field: Tensor, row: int, column: int) -> Tensor:
        """Average the four edges (row, column) around each centre; shape (..., nx, ny[, nz]) in and out."""
        return edges_to_centres(edge_field, row, column, self.num_dims)

    def to_vertex(self, edge_field: Tensor, row: int, column: int) -> Tensor:
        """Average the two edges (row, column) beside each vertex of three dimensions; shape (..., nx, ny, nz)."""
        along = 3 - row - column  # the axis that the edge follows
        return 0.5 * (edge_field + next_value(edge_field, along - 3))

    def vertex_to_edge(self, vertex_field: Tensor, row: int, column: int) -> Tensor:
        """Average the two vertices at the ends of each edge (row, column); shape (..., nx, ny, nz)."""
        along = 3 - row - column
        return 0.5 * (vertex_field + previous_value(vertex_field, along - 3))

    def vector_to_centre(self, vector: Tensor) -> Tensor:
        """Average all components from their faces to the centres; shape (batch, d, nx, ny[, nz]) in and out."""
        return faces_to_centres(vector)

    def gradient_of_centre(self, centre_field: Tensor) -> tuple[Tensor, ...]:
        """Return the derivative along each axis, at centres, of a field at centres; shape (..., nx, ny[, nz]) each."""
        return tuple(self._derivative_of_centre(centre_field, axis) for axis in range(self.num_dims))

    def gradient_of_edge(self, edge_field: Tensor, row: int, column: int) -> tuple[Tensor, ...]:
        """Return the derivative along each axis, at centres, of a field on edges; shape (..., nx, ny[, nz]) each."""
        return tuple(self._derivative_of_edge(edge_field, row, column, axis) for axis in range(self.num_dims))

    def _derivative_of_edge(self, edge_field: Tensor, row: int, column: int, axis: int) -> Tensor:
        if axis not in (row, column):
            return self._derivative_of_centre(self.to_centre(edge_field, row, column), axis)
        across = row + column - axis
        difference = edge_field - previous_value(edge_field, axis - self.num_dims)
        return (difference + previous_value(difference, across - self.num_dims)) / (2 * self.spacing[axis])

    def _derivative_of_centre(self, centre_field: Tensor, axis: int) -> Tensor:
        return central_difference(centre_field, axis - self.num_dims, self.spacing[axis])

    def second_derivatives(self, velocity: Tensor, gradient: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], ...]:
        """Return d2u_i/dx_k dx_l for k <= l, all at centres.

        Parameters
        ----------
        velocity : Tensor, shape (..., d, nx, ny[, nz]) [m/s]
        gradient : sequence of d * d Tensors [1/s]    its `velocity_gradient`

        Returns
        -------
        tuple of d tuples of d(d+1)/2 Tensors, shape (..., nx, ny[, nz]) [1/(m s)]
        """
        return tuple(
            tuple(
                self._second_derivative(gradient, row, first, second)
                for first in range(self.num_dims)
                for second in range(first, self.num_dims)
            )
            for row in range(self.num_dims)
        )

    def _second_derivative(self, gradient: Sequence[Tensor], row: int, first: int, second: int) -> Tensor:
        """Derive du_i/dx_i where it is one of the two, since that stands at centres already."""
        if second == row:
            first, second = second, first
        slope = gradient[row * self.num_dims + first]
        if first == row:
            return self._derivative_of_centre(slope, second)
        return self._derivative_of_edge(slope, row, first, second)

    def divergence(self, stress: Sequence[Tensor]) -> Tensor:
        """Return d(tau_ij)/dx_j at the velocity's points.

        Parameters
        ----------
        stress : sequence of d(d+1)/2 Tensors, shape (..., nx, ny[, nz]) [m^2/s^2]    diagonal at centres, the others
                                                                                      on their edges

        Returns
        -------
        Tensor, shape (..., d, nx, ny[, nz]) [m/s^2]

        Notes
        -----
        Each component sums to zero to round-off; minus the adjoint of `velocity_gradient`
        (tests/physics/test_stress_operators.py).
        """
        return staggered_divergence(list(stress), self.spacing)


class SpectralOperators:
    """Exact derivatives of the trigonometric interpolant, on the collocated layout.

    The derivative of the Nyquist mode along an axis is set to zero: its sine part is invisible on the grid.

    Parameters
    ----------
    grid : Grid    periodic grid with an even number of points along all axes
    """

    def __init__(self, grid: Grid) -> None:
        self.shape = grid.shape
        self.num_dims = grid.num_dims
        self.axes = tuple(range(-grid.num_dims, 0))
        dims = range(grid.num_dims)
        # One tensor over all axes, so that all derivatives of a field are one product and one transform.
        self.derivatives = torch.stack([symbol.expand(grid.k2.shape) for symbol in _derivative_symbols(grid)])
        self.rows = [[symmetric_index(row, axis, grid.num_dims) for axis in dims] for row in dims]

    def _all_derivatives(self, field: Tensor, symbols: Tensor) -> Tensor:
        """Multiply a field's coefficients by each symbol and transform back: one more dimension before the axes."""
        coefficients = torch.fft.rfftn(field, dim=self.axes).unsqueeze(-1 - self.num_dims)
        return torch.fft.irfftn(coefficients * symbols, s=self.shape, dim=self.axes)

    def velocity_gradient(self, velocity: Tensor) -> tuple[Tensor, ...]:
        """Return du_i/dx_j, row by row.

        Parameters
        ----------
        velocity : Tensor, shape (..., d, nx, ny[, nz]) [m/s]

        Returns
        -------
        tuple of d * d Tensors, shape (..., nx, ny[, nz]) [1/s]

        Notes
        -----
        Exact for band-limited fields (tests/physics/test_stress_operators.py).
        """
        rows = self._all_derivatives(velocity, self.derivatives)
        return rows.flatten(-2 - self.num_dims, -1 - self.num_dims).unbind(-1 - self.num_dims)

    def to_edge(self, centre_field: Tensor, row: int, column: int) -> Tensor:
        """Return the field itself: centre and edge are the same point."""
        return centre_field

    def to_centre(self, edge_field: Tensor, row: int, column: int) -> Tensor:
        """Return the field itself: centre and edge are the same point."""
        return edge_field

    def to_vertex(self, edge_field: Tensor, row: int, column: int) -> Tensor:
        """Return the field itself: edge and vertex are the same point."""
        return edge_field

    def vertex_to_edge(self, vertex_field: Tensor, row: int, column: int) -> Tensor:
        """Return the field itself: edge and vertex are the same point."""
        return vertex_field

    def vector_to_centre(self, vector: Tensor) -> Tensor:
        """Return the vector itself: it stands at the centres already."""
        return vector

    def gradient_of_centre(self, centre_field: Tensor) -> tuple[Tensor, ...]:
        """Return the derivative of a scalar along each axis; shape (..., nx, ny[, nz]) each."""
        return self._all_derivatives(centre_field, self.derivatives).unbind(-1 - self.num_dims)

    def gradient_of_edge(self, edge_field: Tensor, row: int, column: int) -> tuple[Tensor, ...]:
        """Return the derivative of a scalar along each axis; shape (..., nx, ny[, nz]) each."""
        return self._all_derivatives(edge_field, self.derivatives).unbind(-1 - self.num_dims)

    def second_derivatives(self, velocity: Tensor, gradient: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], ...]:
        """Return d2u_i/dx_k dx_l for k <= l; shapes as in `StaggeredOperators.second_derivatives`."""
        rows = self._all_derivatives(velocity, self._second_derivatives)
        return tuple(row.unbind(-1 - self.num_dims) for row in rows.unbind(-2 - self.num_dims))

    @cached_property
    def _second_derivatives(self) -> Tensor:
        pairs = combinations_with_replacement(self.derivatives, 2)
        return torch.stack([first * second for first, second in pairs])

    def divergence(self, stress: Sequence[Tensor]) -> Tensor:
        """Return d(tau_ij)/dx_j.

        Parameters
        ----------
        stress : sequence of d(d+1)/2 Tensors, shape (..., nx, ny[, nz]) [m^2/s^2]

        Returns
        -------
        Tensor, shape (..., d, nx, ny[, nz]) [m/s^2]

        Notes
        -----
        Each component sums to zero to round-off; minus the adjoint of `velocity_gradient`
        (tests/physics/test_stress_operators.py).
        """
        component_axis = -1 - self.num_dims
        parts = torch.fft.rfftn(torch.stack(tuple(stress), component_axis), dim=self.axes).unbind(component_axis)
        force = [total([self.derivatives[axis] * parts[place] for axis, place in enumerate(row)]) for row in self.rows]
        return torch.fft.irfftn(torch.stack(force, component_axis), s=self.shape, dim=self.axes)


def _derivative_symbols(grid: Grid) -> list[Tensor]:
    """Return i k along each axis, without the Nyquist mode."""
    symbols = []
    for axis, wavenumber in enumerate(grid.k):
        below_nyquist = wavenumber.clone()
        below_nyquist.select(axis, grid.shape[axis] // 2).fill_(0)
        symbols.append(1j * below_nyquist)
    return symbols


StressOperators = StaggeredOperators | SpectralOperators
