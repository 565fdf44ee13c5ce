"""Discrete derivatives of velocities and stresses, one class per layout, one interface.

Legend: u, v = velocity along x (dimension -2) and y (dimension -1); centre, corner = where a scalar stands
(docs/architecture.md, Conventions); tau_ij = a stress [m^2/s^2]. On the collocated layout centre, corner and
velocity points are all the same point.

Both classes hold three discrete properties (tests/physics/test_stress_operators.py):
the divergence of a stress sums to zero (momentum), it is minus the adjoint of the velocity gradient (energy:
sum u.div(tau) = -sum tau:grad(u)), and both are linear and translation-invariant.
They run inside solver loops, so each method is a handful of torch operations, all differentiable.
"""

import torch
from torch import Tensor

from hpcsurrogate.physics.differences import (
    central_difference,
    centres_to_corners,
    corners_to_centres,
    faces_to_centres,
    previous_value,
    staggered_divergence,
    staggered_gradient,
)
from hpcsurrogate.physics.grid import Grid

X, Y = -2, -1


class StaggeredOperators:
    """Second-order central differences on the staggered layout; every stencil is two neighbours wide.

    Parameters
    ----------
    grid : Grid    periodic grid whose cells carry the staggered velocity
    """

    def __init__(self, grid: Grid) -> None:
        self.hx, self.hy = grid.spacing

    def velocity_gradient(self, velocity_bcxy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return du/dx at centres, du/dy and dv/dx at corners, dv/dy at centres.

        Parameters
        ----------
        velocity_bcxy : Tensor, shape (..., 2, nx, ny) [m/s]

        Returns
        -------
        tuple of four Tensors, shape (..., nx, ny) [1/s]

        Notes
        -----
        du/dx + dv/dy is the divergence that the host's projection makes zero. Second order
        (tests/physics/test_stress_operators.py).
        """
        return staggered_gradient(velocity_bcxy, self.hx, self.hy)

    def to_corner(self, centre_field: Tensor) -> Tensor:
        """Average the four centres around each corner; shape (..., nx, ny) in and out."""
        return centres_to_corners(centre_field)

    def to_centre(self, corner_field: Tensor) -> Tensor:
        """Average the four corners around each centre; shape (..., nx, ny) in and out."""
        return corners_to_centres(corner_field)

    def vector_to_centre(self, vector_bcxy: Tensor) -> Tensor:
        """Average both components from their faces to the centres; shape (..., 2, nx, ny) in and out."""
        return faces_to_centres(vector_bcxy)

    def gradient_of_centre(self, centre_field: Tensor) -> tuple[Tensor, Tensor]:
        """Return d/dx and d/dy, at centres, of a field at centres; shape (..., nx, ny) each."""
        return central_difference(centre_field, X, self.hx), central_difference(centre_field, Y, self.hy)

    def gradient_of_corner(self, corner_field: Tensor) -> tuple[Tensor, Tensor]:
        """Return d/dx and d/dy, at centres, of a field at corners; shape (..., nx, ny) each."""
        x_difference = corner_field - previous_value(corner_field, X)
        y_difference = corner_field - previous_value(corner_field, Y)
        return (
            (x_difference + previous_value(x_difference, Y)) / (2 * self.hx),
            (y_difference + previous_value(y_difference, X)) / (2 * self.hy),
        )

    def divergence(self, tau_xx: Tensor, tau_xy: Tensor, tau_yy: Tensor) -> Tensor:
        """Return d(tau_ij)/dx_j at the velocity's points.

        Parameters
        ----------
        tau_xx, tau_yy : Tensor, shape (..., nx, ny) [m^2/s^2]    at centres
        tau_xy : Tensor, shape (..., nx, ny) [m^2/s^2]            at corners

        Returns
        -------
        Tensor, shape (..., 2, nx, ny) [m/s^2]

        Notes
        -----
        Each component sums to zero to round-off; minus the adjoint of `velocity_gradient`
        (tests/physics/test_stress_operators.py).
        """
        return staggered_divergence(tau_xx, tau_xy, tau_yy, self.hx, self.hy)


class SpectralOperators:
    """Exact derivatives of the trigonometric interpolant, on the collocated layout.

    The derivative of the Nyquist mode along an axis is set to zero: its sine part is invisible on the grid.

    Parameters
    ----------
    grid : Grid    periodic grid with an even number of points along both axes
    """

    def __init__(self, grid: Grid) -> None:
        num_x, num_y = grid.shape
        self.shape = (num_x, num_y)
        kx, ky = grid.kx.clone(), grid.ky.clone()
        kx[num_x // 2, 0] = 0
        ky[0, num_y // 2] = 0
        self.ddx, self.ddy = 1j * kx, 1j * ky

    def _inverse(self, *coefficients: Tensor) -> Tensor:
        """Transform several half-spectra back in one call; the fields stand along a new dimension -3."""
        return torch.fft.irfft2(torch.stack(coefficients, -3), s=self.shape)

    def _gradient(self, field: Tensor) -> tuple[Tensor, Tensor]:
        coefficients = torch.fft.rfft2(field)
        x_derivative, y_derivative = self._inverse(self.ddx * coefficients, self.ddy * coefficients).unbind(-3)
        return x_derivative, y_derivative

    def velocity_gradient(self, velocity_bcxy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return du/dx, du/dy, dv/dx, dv/dy.

        Parameters
        ----------
        velocity_bcxy : Tensor, shape (..., 2, nx, ny) [m/s]

        Returns
        -------
        tuple of four Tensors, shape (..., nx, ny) [1/s]

        Notes
        -----
        Exact for band-limited fields (tests/physics/test_stress_operators.py).
        """
        u, v = torch.fft.rfft2(velocity_bcxy).unbind(-3)
        ux, uy, vx, vy = self._inverse(self.ddx * u, self.ddy * u, self.ddx * v, self.ddy * v).unbind(-3)
        return ux, uy, vx, vy

    def to_corner(self, centre_field: Tensor) -> Tensor:
        """Return the field itself: centre and corner are the same point."""
        return centre_field

    def to_centre(self, corner_field: Tensor) -> Tensor:
        """Return the field itself: centre and corner are the same point."""
        return corner_field

    def vector_to_centre(self, vector_bcxy: Tensor) -> Tensor:
        """Return the vector itself: it stands at the centres already."""
        return vector_bcxy

    def gradient_of_centre(self, centre_field: Tensor) -> tuple[Tensor, Tensor]:
        """Return d/dx and d/dy of a scalar; shape (..., nx, ny) each."""
        return self._gradient(centre_field)

    def gradient_of_corner(self, corner_field: Tensor) -> tuple[Tensor, Tensor]:
        """Return d/dx and d/dy of a scalar; shape (..., nx, ny) each."""
        return self._gradient(corner_field)

    def divergence(self, tau_xx: Tensor, tau_xy: Tensor, tau_yy: Tensor) -> Tensor:
        """Return d(tau_ij)/dx_j.

        Parameters
        ----------
        tau_xx, tau_xy, tau_yy : Tensor, shape (..., nx, ny) [m^2/s^2]

        Returns
        -------
        Tensor, shape (..., 2, nx, ny) [m/s^2]

        Notes
        -----
        Each component sums to zero to round-off; minus the adjoint of `velocity_gradient`
        (tests/physics/test_stress_operators.py).
        """
        xx, xy, yy = torch.fft.rfft2(torch.stack((tau_xx, tau_xy, tau_yy), -3)).unbind(-3)
        return self._inverse(self.ddx * xx + self.ddy * xy, self.ddx * xy + self.ddy * yy)


StressOperators = StaggeredOperators | SpectralOperators
