"""Gradient (Clark) model: Taylor series of the filter in its width.

Legend: sigma^2 = Delta^2 / 12, second moment of a box of width Delta and of the Gaussian that stands for it.
For that Gaussian the SGS stress in terms of the filtered velocity is the series
tau_ij = sigma^2 d_k u_i d_k u_j + (sigma^4 / 2) d_k d_l u_i d_k d_l u_j + ...
(Leonard 1974, doi:10.1016/S0065-2687(08)60464-1; Carati et al. 2001, doi:10.1017/S0022112001004773).
The box shares the first term alone.
"""

from torch import Tensor

from hpcsurrogate.physics.closures.stress_closure import StressClosure
from hpcsurrogate.physics.stress_operators import StressOperators


class Gradient(StressClosure):
    """The series cut after its first (order 2) or second (order 4) term.

    Parameters
    ----------
    operators : StressOperators
    delta : float [m]
    order : int    2 or 4

    Notes
    -----
    The error against a Gaussian filter is of order Delta^4 or Delta^6 (tests/physics/test_closures.py).
    """

    def __init__(self, operators: StressOperators, delta: float, order: int) -> None:
        super().__init__(operators, delta)
        self.order = order

    def stress(self, velocity_bcxy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tau_xx, tau_xy, tau_yy; shapes and places as in `StressClosure.stress`."""
        gradient = self.operators.velocity_gradient(velocity_bcxy)
        ux, uy, vx, vy = gradient
        to_centre, to_corner = self.operators.to_centre, self.operators.to_corner
        second_moment = self.delta**2 / 12
        tau_xx = second_moment * (ux * ux + to_centre(uy * uy))
        tau_xy = second_moment * (to_corner(ux) * vx + uy * to_corner(vy))
        tau_yy = second_moment * (to_centre(vx * vx) + vy * vy)
        if self.order == 4:
            xx, xy, yy = self._second_term(*gradient)
            tau_xx, tau_xy, tau_yy = tau_xx + xx, tau_xy + to_corner(xy), tau_yy + yy
        return tau_xx, tau_xy, tau_yy

    def _second_term(self, ux: Tensor, uy: Tensor, vx: Tensor, vy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (sigma^4 / 2) d_k d_l u_i d_k d_l u_j, all three components at centres."""
        uxx, uxy = self.operators.gradient_of_centre(ux)
        _, uyy = self.operators.gradient_of_corner(uy)
        vxx, _ = self.operators.gradient_of_corner(vx)
        vxy, vyy = self.operators.gradient_of_centre(vy)
        factor = self.delta**4 / 288
        return (
            factor * (uxx * uxx + 2 * uxy * uxy + uyy * uyy),
            factor * (uxx * vxx + 2 * uxy * vxy + uyy * vyy),
            factor * (vxx * vxx + 2 * vxy * vxy + vyy * vyy),
        )
