"""Where the energy and the enstrophy of a coarse run come from and go to, beside those of filtered DNS.

    dE/dt = injection + viscous + rest          dZ/dt = injection + viscous + rest

E = energy, Z = enstrophy; injection = work of the body force; viscous = loss to the resolved viscous stress; rest = all
else: a run's closure, drag and numerical error, the small scales of filtered DNS, and of the enstrophy in three
dimensions the stretching of vortices. Means over the starts and a window of time.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from hpcsurrogate.couple.observation import RATES, Statistics


@dataclass(frozen=True)
class Terms:
    """Mean rates [m^2/s^3] of the energy or [1/s^3] of the enstrophy; losses are negative."""

    injection: float
    viscous: float
    rest: float
    change: float

    @property
    def loss(self) -> float:
        """All that is lost, resolved or not."""
        return self.injection - self.change


@dataclass(frozen=True)
class Budget:
    """Terms of a run and of its reference."""

    run: Terms
    reference: Terms

    @property
    def loss(self) -> float:
        """What the run loses."""
        return self.run.loss

    @property
    def reference_loss(self) -> float:
        """What the reference loses, to viscosity and to the scales that the filter takes."""
        return self.reference.loss

    def as_dict(self) -> dict:
        """The numbers as in couple.json."""
        return asdict(self)


def energy_budget(run: Statistics, reference: Statistics, times: Tensor, window: slice) -> Budget:
    """Return the mean budget of the energy over a window of at least two times [s]; axes (t, b)."""
    return Budget(*(_terms(s.energy, s, "injection", "viscous", times, window) for s in (run, reference)))


def enstrophy_budget(run: Statistics, reference: Statistics, times: Tensor, window: slice) -> Budget:
    """Return the mean budget of the enstrophy over a window of at least two times [s]; axes (t, b)."""
    rates = ("enstrophy_injection", "enstrophy_viscous")
    return Budget(*(_terms(s.enstrophy, s, *rates, times, window) for s in (run, reference)))


def _terms(amount: Tensor, statistics: Statistics, injection: str, viscous: str, times: Tensor, window: slice) -> Terms:
    times = times[window].double()
    length = float(times[-1] - times[0])

    def mean(series: Tensor) -> float:
        return float(torch.trapezoid(series[window].double().mean(1), times) / length)

    brought, lost = (mean(statistics.rates[..., RATES.index(name)]) for name in (injection, viscous))
    levels = amount[window].double().mean(1)
    change = float(levels[-1] - levels[0]) / length
    return Terms(brought, lost, change - brought - lost, change)
