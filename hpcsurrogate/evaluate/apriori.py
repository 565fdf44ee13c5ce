"""A-priori scores: closures against the exact force and stress, on given filtered states.

Legend: u = filtered velocity [m/s]; f = projected force [m/s^2]; tau = SGS stress [m^2/s^2], deviatoric part, at cell
centres; S = strain rate [1/s]. Energy transfer in two ways, both [m^2/s^3] and positive where the small scales give
energy back (backscatter): u.f, all that the force does to a cell, and tau:S, what does not merely move between cells.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hpcsurrogate.core.errors import DivergedError
from hpcsurrogate.evaluate.cells import (
    cell_gradient,
    cell_stress,
    deviatoric,
    stress_function,
    stress_transfer,
    symmetric_pairs,
)
from hpcsurrogate.evaluate.equivariance import equivariance_error
from hpcsurrogate.evaluate.metrics import LeastSquares, PairScore, PositiveFraction
from hpcsurrogate.physics.hosts import AnyHost

Closure = Callable[[Tensor], Tensor]
Force = Literal["commutator", "sgs_force"]
# Which of the scores says how well a closure does what it was trained for.
ERROR_OF_TARGET = {
    "commutator": "relative_error_force",
    "sgs_force": "relative_error_sgs_force",
    "sgs_stress": "relative_error_stress",
}


class Samples(NamedTuple):
    """Prepared snapshots: a filtered state and what a perfect closure would return for it.

    velocity [m/s], commutator and sgs_force [m/s^2]: shape (batch, d, nx, ny[, nz]), at the velocity's points;
    sgs_stress [m^2/s^2]: shape (batch, d(d+1)/2, nx, ny[, nz]): diagonal at centres, the others on their edges.
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
    stress_transfer: PairScore = field(default_factory=PairScore)
    stress_backscatter: PositiveFraction = field(default_factory=PositiveFraction)
    equivariance_error: float | None = None

    def summary(self) -> dict:
        """Return the scores as they stand in evaluate.json; a correlation of something that does not vary is None.

        Raises
        ------
        DataError        if there were no samples or an exact field is zero everywhere
        DivergedError    if the closure returned values that are not finite
        """
        if not (self.commutator.finite and self.stress.finite):
            raise DivergedError(f"closure {self.name}: its force is not finite on the prepared data; train it again")
        has_stress = self.stress.count > 0
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
            "correlation_stress_transfer": self.stress_transfer.correlation if has_stress else None,
            "relative_error_stress_transfer": self.stress_transfer.relative_error if has_stress else None,
            "stress_backscatter_fraction": self.stress_backscatter.fraction if has_stress else None,
            "equivariance_error": self.equivariance_error,
        }


class ExactBackscatter(NamedTuple):
    """Share of the cells to which the exact force, or the exact stress, gives energy."""

    force: float
    stress: float


def energy_transfer(host: AnyHost, velocity: Tensor, force: Tensor) -> Tensor:
    """Return u.f at cell centres: two (batch, d, nx, ny[, nz]) [m/s], [m/s^2] -> (batch, nx, ny[, nz]) [m^2/s^3]."""
    return host.operators.vector_to_centre(velocity * force).sum(1)


@torch.no_grad()
def score_closures(
    host: AnyHost, closures: Iterable[ClosureScores], batches: Iterable[Samples], target: Force
) -> tuple[list[dict], ExactBackscatter]:
    """Score closures side by side on the same samples, one batch in memory at a time.

    Parameters
    ----------
    host : AnyHost                           its projection is applied to modelled and exact forces alike
    closures : iterable of ClosureScores     not yet used ones
    batches : iterable of Samples
    target : "commutator" or "sgs_force"     the exact force behind the energy transfer and the backscatter

    Returns
    -------
    (list of dict, ExactBackscatter)    summary of each closure, in order, and the exact fractions of backscatter

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
    stress_of = [stress_function(scores.closure, host) for scores in closures]
    d = host.grid.num_dims
    exact_backscatter, exact_stress_backscatter = PositiveFraction(), PositiveFraction()
    for number, samples in enumerate(batches):
        exact = {"commutator": host.project(samples.commutator), "sgs_force": host.project(samples.sgs_force)}
        exact_transfer = energy_transfer(host, samples.velocity, exact[target])
        gradient = cell_gradient(host.operators, samples.velocity)
        exact_stress = cell_stress(host.operators, samples.sgs_stress.unbind(1))
        exact_stress_transfer = _deviatoric_transfer(gradient, exact_stress, d)
        exact_backscatter.add(exact_transfer)
        exact_stress_backscatter.add(exact_stress_transfer)
        for scores, stress_in_cells in zip(closures, stress_of, strict=True):
            if number == 0:
                scores.equivariance_error = equivariance_error(scores.closure, host, samples.velocity[:1])
            force = host.project(scores.closure(samples.velocity))
            scores.commutator.add(force, exact["commutator"])
            scores.sgs_force.add(force, exact["sgs_force"])
            transfer = energy_transfer(host, samples.velocity, force)
            scores.transfer.add(transfer, exact_transfer)
            scores.backscatter.add(transfer)
            if stress_in_cells is not None:
                stress = stress_in_cells(samples.velocity)
                scores.stress.add(deviatoric(stress, d), deviatoric(exact_stress, d))
                stress_transfer = _deviatoric_transfer(gradient, stress, d)
                scores.stress_transfer.add(stress_transfer, exact_stress_transfer)
                scores.stress_backscatter.add(stress_transfer)
    summaries = [scores.summary() for scores in closures]
    return summaries, ExactBackscatter(exact_backscatter.fraction, exact_stress_backscatter.fraction)


def _deviatoric_transfer(gradient: Tensor, stress: Tensor, num_dims: int) -> Tensor:
    """Return tau:S of the deviatoric stress: in cells the divergence of a spectral velocity is not quite zero."""
    diagonal = [place for place, (i, j) in enumerate(symmetric_pairs(num_dims)) if i == j]
    mean = stress[:, diagonal].mean(1, keepdim=True)
    deviator = stress.clone()
    deviator[:, diagonal] -= mean
    return stress_transfer(gradient, deviator, num_dims)


@torch.no_grad()
def fit_constant(host: AnyHost, unit_closure: Closure, batches: Iterable[Samples], target: Force) -> float:
    """Return the constant C of a closure whose force is linear in C^p, by least squares on the projected force.

    Parameters
    ----------
    host : AnyHost
    unit_closure : closure with C = 1 and the attribute `constant_power` = p, and `fixed_part`, a closure, if its force
                   has a part that does not depend on C
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
    fixed_part = getattr(unit_closure, "fixed_part", None)
    for samples in batches:
        fixed = 0 if fixed_part is None else fixed_part(samples.velocity)
        force, exact = unit_closure(samples.velocity) - fixed, getattr(samples, target) - fixed
        fit.add(host.project(force), host.project(exact))
    return max(fit.coefficient, 0.0) ** (1 / unit_closure.constant_power)
