"""Eddy viscosities that vanish in pure shear, three-dimensional: WALE and Vreman's.

Legend: g_ij = du_i/dx_j at centres [1/s], a list row by row; S_ij its symmetric part; nu_t = eddy viscosity [m^2/s];
Delta = filter width [m]; C = constant [-].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.closures.eddy_viscosity import EddyViscosity, root
from hpcsurrogate.physics.closures.stress_closure import VelocityGradient
from hpcsurrogate.physics.differences import total
from hpcsurrogate.physics.stress_operators import StressOperators

AXES = (0, 1, 2)
PAIRS = ((0, 1), (0, 2), (1, 2))


class _OfTheCentredGradient(EddyViscosity):
    """A constant and the gradient brought to the centres.

    Parameters
    ----------
    operators : StressOperators    of three dimensions
    delta : float [m]
    constant : float [-]           C, non-negative

    Raises
    ------
    ConfigError    in two dimensions
    """

    name: str

    def __init__(self, operators: StressOperators, delta: float, constant: float) -> None:
        if operators.num_dims != 3:
            raise ConfigError(f"closure {self.name}: it is for flows in three dimensions; take smagorinsky or leith")
        super().__init__(operators, delta)
        self.constant = constant

    def centred(self, gradient: VelocityGradient) -> list[Tensor]:
        """Return all nine g_ij at centres, shape (batch, nx, ny, nz) [1/s] each."""
        to_centre = self.operators.to_centre
        return [
            gradient[3 * row + column] if row == column else to_centre(gradient[3 * row + column], row, column)
            for row in AXES
            for column in AXES
        ]


class Wale(_OfTheCentredGradient):
    """nu_t = (C Delta)^2 times `wale_rate`; C is C_w, 0.5 to 0.6 in the paper; the force is linear in C^2."""

    name = "wale"
    constant_power = 2

    def eddy_viscosity(self, velocity: Tensor, gradient: VelocityGradient, strain: Sequence[Tensor]) -> Tensor:
        """Return nu_t at centres, shape (batch, nx, ny, nz) [m^2/s]."""
        return (self.constant * self.delta) ** 2 * wale_rate(self.centred(gradient))


class Vreman(_OfTheCentredGradient):
    """nu_t = C Delta^2 times `vreman_rate`; C is the paper's c, 2.5 times Smagorinsky's squared; linear in C."""

    name = "vreman"
    constant_power = 1

    def eddy_viscosity(self, velocity: Tensor, gradient: VelocityGradient, strain: Sequence[Tensor]) -> Tensor:
        """Return nu_t at centres, shape (batch, nx, ny, nz) [m^2/s]."""
        return self.constant * self.delta**2 * vreman_rate(self.centred(gradient))


def wale_rate(g: list[Tensor]) -> Tensor:
    """Return (D_ij D_ij)^(3/2) / ((S_ij S_ij)^(5/2) + (D_ij D_ij)^(5/4)), D the deviatoric symmetric part of g g.

    Parameters
    ----------
    g : list of nine Tensors [1/s]

    Returns
    -------
    Tensor of their shape [1/s]    not negative; 0 in pure shear, |omega| (2/3)^(1/4) / 2 in solid rotation

    Notes
    -----
    Nicoud and Ducros 1999, doi:10.1023/A:1009995426001, equations 10 and 13. With a = sqrt(S_ij S_ij) and
    b = (D_ij D_ij)^(1/4) it is b^6 / (a^5 + b^5), formed from ratios, so that fifth powers of a slow flow do not vanish
    in single precision (tests/physics/test_closures_3d.py).
    """
    square = {(i, j): total([g[3 * i + k] * g[3 * k + j] for k in AXES]) for i in AXES for j in AXES}
    mean = total([square[i, i] for i in AXES]) / 3
    diagonal = total([(square[i, i] - mean) ** 2 for i in AXES])
    deviator = diagonal + total([(square[i, j] + square[j, i]) ** 2 for i, j in PAIRS]) / 2
    strain = total([g[4 * i] ** 2 for i in AXES]) + total([(g[3 * i + j] + g[3 * j + i]) ** 2 for i, j in PAIRS]) / 2
    a, b = root(strain), root(root(deviator))
    share = b / (a + b)
    fifth = share**5
    return b * fifth / (fifth + (1 - share) ** 5)


def vreman_rate(g: list[Tensor]) -> Tensor:
    """Return sqrt(B / (g_ij g_ij)), B = the sum of the principal 2 x 2 minors of beta_ij = g_ik g_jk.

    Parameters
    ----------
    g : list of nine Tensors [1/s]

    Returns
    -------
    Tensor of their shape [1/s]    not negative; 0 in pure shear, |omega| / sqrt(8) in solid rotation

    Notes
    -----
    Vreman 2004, doi:10.1063/1.1785131, equations 5 to 8 with one filter width. A minor of g g^T is the squared length
    of the cross product of two rows of g, so that round-off cannot make it negative
    (tests/physics/test_closures_3d.py).
    """
    minors = []
    for i, j in PAIRS:
        minors += [(g[3 * i + k] * g[3 * j + m] - g[3 * i + m] * g[3 * j + k]) ** 2 for k, m in PAIRS]
    # Where there is no gradient there is no minor either: 0 over the smallest number.
    size = total([part * part for part in g])
    return root(total(minors) / size.clamp_min(torch.finfo(size.dtype).tiny))
