"""A-priori scores: closures against the exact force and stress, on given filtered states.

Legend: u = filtered velocity [m/s]; f = projected force [m/s^2]; u.f = energy transfer at cell centres [m^2/s^3],
positive where the small scales give energy back (backscatter); tau = SGS stress [m^2/s^2], deviatoric part.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hpcsurrogate.core.errors import DivergedError
from hpcsurrogate.evaluate.metrics import LeastSquares, PairScore, PositiveFraction
from hpcsurrogate.physics.closures import StressClosure
from hpcsurrogate.physics.hosts import AnyHost

Closure = Callable[[Tensor], Tensor]
Target = Literal["commutator", "sgs_force"]
# Which of the scores says how well a closure does what it was trained for.
ERROR_OF_TARGET = {"commutator": "relative_error_force", "sgs_force": "relative_error_sgs_force"}


class Samples(NamedTuple):
    """Prepared snapshots: a filtered state and what a perfect closure would return for it.

    velocity [m/s], commutator and sgs_force [m/s^2]: shape (batch, 2, nx, ny), at the velocity's points;
    sgs_stress [m^2/s^2]: shape (batch, 3, nx, ny): xx at centres, xy at corners, yy at centres.
    """

    velocity: Tensor
    commutator: Tensor
    sgs_force: Tensor
    sgs_stress: Tensor


@dataclass
class ClosureScores:
    """Running scores of one closure."""

    name: str
    closure: Closure
    constant: float | None = None
    commutator: PairScore = field(default_factory=PairScore)
    sgs_force: PairScore = field(default_factory=PairScore)
    stress: PairScore = field(default_factory=PairScore)
    transfer: PairScore = field(default_factory=PairScore)
    backscatter: PositiveFraction = field(default_factory=PositiveFraction)

    def summary(self) -> dict:
        """Return the scores as they stand in evaluate.json; a correlation of something that does not vary is None.

        Raises
        ------
        DataError        if there were no samples or an exact field is zero everywhere
        DivergedError    if the closure returned values that are not finite
        """
        if not (self.commutator.finite and self.stress.finite):
            raise DivergedError(f"closure {self.name}: its force is not finite on the prepared data; train it again")
        has_stress = isinstance(self.closure, StressClosure)
        return {
            "name": self.name,
            "constant": self.constant,
            "correlation_force": self.commutator.correlation,
            "relative_error_force": self.commutator.relative_error,
            "correlation_sgs_force": self.sgs_force.correlation,
            "relative_error_sgs_force": self.sgs_force.relative_error,
            "correlation_stress": self.stress.correlation if has_stress else None,
            "relative_error_stress": self.stress.relative_error if has_stress else None,
            "correlation_transfer": self.transfer.correlation,
            "relative_error_transfer": self.transfer.relative_error,
            "backscatter_fraction": self.backscatter.fraction,
        }


def energy_transfer(host: AnyHost, velocity_bcxy: Tensor, force_bcxy: Tensor) -> Tensor:
    """Return u.f at cell centres: two (batch, 2, nx, ny) [m/s], [m/s^2] -> (batch, nx, ny) [m^2/s^3]."""
    return host.operators.vector_to_centre(velocity_bcxy * force_bcxy).sum(-3)


def deviatoric(tau_xx: Tensor, tau_xy: Tensor, tau_yy: Tensor) -> Tensor:
    """Return the two numbers of a traceless 2-D stress, (xx - yy) / 2 and xy: three (b, nx, ny) -> (b, 2, nx, ny)."""
    return torch.stack(((tau_xx - tau_yy) / 2, tau_xy), 1)


@torch.no_grad()
def score_closures(
    host: AnyHost, closures: Iterable[ClosureScores], batches: Iterable[Samples], target: Target
) -> tuple[list[dict], float]:
    """Score closures side by side on the same samples, one batch in memory at a time.

    Parameters
    ----------
    host : AnyHost                           its projection is applied to modelled and exact forces alike
    closures : iterable of ClosureScores     not yet used ones
    batches : iterable of Samples
    target : "commutator" or "sgs_force"     the exact force behind the energy transfer and the backscatter

    Returns
    -------
    (list of dict, float)    summary of each closure, in order, and the backscatter fraction of the exact force

    Raises
    ------
    DataError        if there are no samples or an exact field is zero everywhere
    DivergedError    if a closure returns values that are not finite
    ShapeError       if a closure returns another shape than the velocity's

    Notes
    -----
    A closure that returns the exact force scores correlation 1 and error 0 (tests/unit/evaluate/test_apriori.py).
    """
    closures = list(closures)
    exact_backscatter = PositiveFraction()
    for samples in batches:
        exact = {"commutator": host.project(samples.commutator), "sgs_force": host.project(samples.sgs_force)}
        exact_transfer = energy_transfer(host, samples.velocity, exact[target])
        exact_stress = deviatoric(*samples.sgs_stress.unbind(1))
        exact_backscatter.add(exact_transfer)
        for scores in closures:
            force = host.project(scores.closure(samples.velocity))
            scores.commutator.add(force, exact["commutator"])
            scores.sgs_force.add(force, exact["sgs_force"])
            transfer = energy_transfer(host, samples.velocity, force)
            scores.transfer.add(transfer, exact_transfer)
            scores.backscatter.add(transfer)
            if isinstance(scores.closure, StressClosure):
                scores.stress.add(deviatoric(*scores.closure.stress(samples.velocity)), exact_stress)
    return [scores.summary() for scores in closures], exact_backscatter.fraction


@torch.no_grad()
def fit_constant(host: AnyHost, unit_closure: Closure, batches: Iterable[Samples], target: Target) -> float:
    """Return the constant C of a closure whose force is linear in C^p, by least squares on the projected force.

    Parameters
    ----------
    host : AnyHost
    unit_closure : closure with C = 1 and the attribute `constant_power` = p
    batches : iterable of Samples            of the training split
    target : "commutator" or "sgs_force"     the force to fit

    Returns
    -------
    float    C, in the closure's unit; 0 where the best coefficient is negative, since an eddy viscosity must not be

    Raises
    ------
    DataError    if there are no samples or the closure is zero on all of them

    Notes
    -----
    Recovers the C of a force made with it (tests/unit/evaluate/test_apriori.py).
    """
    fit = LeastSquares()
    for samples in batches:
        fit.add(host.project(unit_closure(samples.velocity)), host.project(getattr(samples, target)))
    return max(fit.coefficient, 0.0) ** (1 / unit_closure.constant_power)
