"""Explicit Runge-Kutta steps shared by every solver: plain, and with the linear term integrated exactly; that term.

Legend: y state, N(y, stage) slow right-hand side, L diagonal linear operator, E = exp(L dt / 2).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hpcsurrogate.core.config import Flow, Hyperviscosity

Rhs = Callable[[Tensor, int], Tensor]


def hyperviscous_rates(k2: Tensor, spacing: Sequence[float], rate: float, power: int) -> Tensor:
    """Return rate (k / kmax)^(2 power) [1/s], kmax = pi / h of the largest spacing h [m], from k^2 [rad^2/m^2]."""
    return rate * (k2 / (math.pi / max(spacing)) ** 2) ** power


def growth_rates(flow: Flow, k2: Tensor, spacing: Sequence[float], hyperviscosity: Hyperviscosity | None) -> Tensor:
    """Return what viscosity, drag and hyperviscosity do to each mode, negative, shape of `k2` [1/s]."""
    growth = -flow.viscosity * k2 - flow.drag
    if hyperviscosity is None:
        return growth
    return growth - hyperviscous_rates(k2, spacing, hyperviscosity.rate, hyperviscosity.power)


class Decay:
    """exp(L t) of a diagonal linear operator, kept from step to step.

    Parameters
    ----------
    linear : Tensor, real or complex    L [1/s]
    dtype : torch.dtype                 of the factors

    Notes
    -----
    Where L needs gradients the factors are made anew at every call: a kept one would tie later steps to the graph of
    the first, or to none (tests/physics/test_hosts.py).
    """

    def __init__(self, linear: Tensor, dtype: torch.dtype):
        self._linear, self._dtype = linear, dtype
        self._kept: tuple[float, Tensor] | None = None

    def over(self, time: float) -> Tensor:
        """Factors by which the modes change in a time [s], in the memory order of L."""
        if self._linear.requires_grad:
            return self._factors(time)
        if self._kept is None or self._kept[0] != time:
            with torch.inference_mode(False):  # autograd may need it later
                self._kept = (time, self._factors(time))
        return self._kept[1]

    def _factors(self, time: float) -> Tensor:
        return torch.exp(self._linear * time).to(self._dtype)


def runge_kutta_4(rhs: Rhs, y: Tensor, dt: float) -> Tensor:
    """One classical fourth-order step of dy/dt = rhs(y, stage).

    Parameters
    ----------
    rhs : callable (y, stage in 0..3) -> Tensor of y's shape
    y : Tensor, any shape
    dt : float [s]

    Notes
    -----
    Linear in the stage derivatives: a linear filter of the stages is the step of the filtered derivatives
    (tests/physics/test_commutator.py rests on it). Order 4 (tests/physics/test_time_stepping.py).
    """
    k1 = rhs(y, 0)
    k2 = rhs(torch.add(y, k1, alpha=dt / 2), 1)
    k3 = rhs(torch.add(y, k2, alpha=dt / 2), 2)
    k4 = rhs(torch.add(y, k3, alpha=dt), 3)
    total = torch.add(k1 + k4, k2 + k3, alpha=2)
    return torch.add(y, total, alpha=dt / 6)


def integrating_factor_rk4(rhs: Rhs, half_decay: Tensor, y: Tensor, dt: float) -> Tensor:
    """One fourth-order step of dy/dt = L y + rhs(y, stage) with exp(L dt / 2) = `half_decay` applied exactly.

    Parameters
    ----------
    rhs : callable (y, stage in 0..3) -> Tensor of y's shape, without the linear term
    half_decay : Tensor, broadcastable to y
    y : Tensor
    dt : float [s]

    Notes
    -----
    Exact for any dt where rhs vanishes: the decay of a Taylor-Green vortex has no time error
    (tests/physics/test_spectral.py). Classical RK4 in the variable exp(-L t) y; see Canuto et al.,
    Spectral Methods: Fundamentals in Single Domains (2006), appendix D.
    """
    decayed = half_decay * y
    total = half_decay * rhs(y, 0)  # and from here on in place: only on what was made here
    k2 = rhs(torch.add(decayed, total, alpha=dt / 2), 1)
    k3 = rhs(torch.add(decayed, k2, alpha=dt / 2), 2)
    k4 = rhs(torch.add(decayed, k3, alpha=dt).mul_(half_decay), 3)
    total.add_(k2, alpha=2).add_(k3, alpha=2)
    return decayed.add_(total, alpha=dt / 6).mul_(half_decay).add_(k4, alpha=dt / 6)
