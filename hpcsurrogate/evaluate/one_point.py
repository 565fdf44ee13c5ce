"""What no pointwise closure can beat: the SGS stress of a cell as well as its velocity gradient alone can tell it.

A closure that sees the gradient G of one cell, and favours no direction, is tau = Delta^2 |G|^2 sum_i c_i T_i with the
tensors T_i of an integrity basis and coefficients c_i that depend on the invariants of G (models/tensor_basis.py). The
best of all is the conditional mean E[tau | invariants, tensors], and its error is the floor.

The estimate: the space of the invariants, |G| itself among them, is cut into bins of equally many cells along each, and
in every bin the coefficients are those of least squares over the training cells in it, drawn a little to those of all
cells where a bin holds few. Within a bin the tensors themselves still vary, so that bins may be wide. How fine to cut
is decided on validation cells and scored on test cells. Too coarse a cut, or too few cells, gives too high a floor: it
is what is shown to be reachable. A closure that multiplies gradients at edges and averages the products to centres, as
the gradient model on a staggered grid, sees more than one point, and may lie below it.

Legend: d = number of dimensions; n = cells; m = tensors, 2 in 2-D, 10 in 3-D; tau = deviatoric stress [m^2/s^2].
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.evaluate.cells import cell_gradient, cell_stress, deviatoric, to_columns
from hpcsurrogate.evaluate.metrics import PairScore
from hpcsurrogate.models.tensor_basis import SMALLEST_SQUARE, tensor_basis_2d, tensor_basis_3d
from hpcsurrogate.physics.hosts import AnyHost

# Bins along each invariant that are tried: two invariants in two dimensions, five in three.
CANDIDATES = {2: (1, 4, 8, 16, 32), 3: (1, 2, 3, 4, 6)}
# The others follow from these, as the trace of G is zero and |G| is taken out: tr S^2 - tr W^2 = 1.
INDEPENDENT = {2: [0], 3: [0, 2, 3, 4]}
PRIOR_CELLS = 10  # how many cells of a bin weigh as much as the coefficients of all cells
CHUNK = 2**16  # cells at once
SAMPLED_FOR_EDGES = 2**12  # cells of a chunk


@dataclass(frozen=True)
class Floor:
    """The error of the best pointwise closure, and how it was found."""

    bins: int  # along each invariant
    relative_error: float  # on the test cells
    correlation: float | None
    validation_errors: dict[int, float]  # by the number of bins

    def as_dict(self) -> dict:
        """The numbers as in evaluate.json."""
        return {
            "bins_per_invariant": self.bins,
            "relative_error_stress": self.relative_error,
            "correlation_stress": self.correlation,
            "validation_errors": {str(bins): error for bins, error in self.validation_errors.items()},
        }


@dataclass(frozen=True)
class Cells:
    """Cells of one batch: scaled tensors |G|^2 T_i (m, components, n) [1/s^2], invariants (5 or 2, n), tau."""

    tensors: Tensor
    invariants: Tensor
    stress: Tensor  # (components, n) [m^2/s^2]


class BinnedCoefficients:
    """The conditional mean for one number of bins.

    Parameters
    ----------
    edges : Tensor, shape (invariants, bins - 1)    inner edges, ascending
    num_tensors : int
    """

    def __init__(self, edges: Tensor, num_tensors: int) -> None:
        self.edges = edges
        self.num_bins = edges.shape[1] + 1
        total = self.num_bins ** len(edges)
        self._gram = torch.zeros(total, num_tensors, num_tensors, dtype=torch.float64)
        self._right = torch.zeros(total, num_tensors, dtype=torch.float64)
        self._count = torch.zeros(total, dtype=torch.float64)
        self._coefficients: Tensor | None = None

    def add(self, cells: Cells, gram: Tensor, right: Tensor) -> None:
        """Take in training cells with their `_normal_equations`."""
        bins = self._bins(cells)
        self._gram.index_add_(0, bins, gram)
        self._right.index_add_(0, bins, right)
        self._count.index_add_(0, bins, torch.ones_like(bins, dtype=torch.float64))

    def predict(self, cells: Cells) -> Tensor:
        """Return the conditional mean of the stress, (components, n) [m^2/s^2]."""
        if self._coefficients is None:
            self._coefficients = self._solve()
        return torch.einsum("ni,icn->cn", self._coefficients[self._bins(cells)], cells.tensors)

    def _solve(self) -> Tensor:
        gram, right = self._gram.sum(0), self._right.sum(0)
        overall = torch.linalg.lstsq(gram, right, driver="gelsd").solution
        # As much per cell as the bin's own cells: those of a bin may be far weaker than others.
        strength = self._gram.diagonal(dim1=1, dim2=2).sum(1) / self._count.clamp_min(1)
        prior = PRIOR_CELLS * strength[:, None, None] * gram / gram.trace()
        # The tensors of a bin may depend on each other: what is undetermined stays as it is overall.
        ridge = 1e-9 * strength[:, None, None] * torch.eye(len(gram), dtype=gram.dtype)
        excess = self._right - self._gram @ overall
        system = self._gram + prior + ridge
        system[strength == 0] = torch.eye(len(gram), dtype=gram.dtype)
        return overall + torch.linalg.solve(system, excess)

    def _bins(self, cells: Cells) -> Tensor:
        place = torch.zeros(cells.invariants.shape[1], dtype=torch.long)
        for edges, values in zip(self.edges, cells.invariants, strict=True):
            place = place * self.num_bins + torch.bucketize(values.contiguous(), edges)
        return place


@torch.no_grad()
def one_point_floor(host: AnyHost, training: Iterable, validation: Iterable, test: Iterable) -> Floor:
    """Estimate the floor from filtered states and their exact stresses.

    Parameters
    ----------
    host : AnyHost    whose gradient a pointwise closure would see
    training, validation, test : iterables of batches with .velocity and .sgs_stress    walked through more than once

    Raises
    ------
    DataError    if there are no training cells

    Notes
    -----
    Finds the noise that was added to a pointwise stress, and does not mistake noise alone for one
    (tests/unit/evaluate/test_one_point.py).
    """

    def chunks(batches: Iterable) -> Iterable[Cells]:
        for batch in batches:
            yield from _cells(host, batch.velocity, batch.sgs_stress)

    invariants = torch.cat([_some(cells.invariants) for cells in chunks(training)] or [torch.empty(0, 0)], 1)
    if invariants.shape[1] == 0:
        raise DataError("one-point floor: no training cells; check prepare.split")
    d = host.grid.num_dims
    models = [BinnedCoefficients(_edges(invariants, bins), 2 if d == 2 else 10) for bins in CANDIDATES[d]]
    for cells in chunks(training):
        gram, right = _normal_equations(cells)
        for model in models:
            model.add(cells, gram, right)
    errors = {model.num_bins: _score(model.predict, chunks(validation)).relative_error for model in models}
    best = min(models, key=lambda model: errors[model.num_bins])
    score = _score(best.predict, chunks(test))
    return Floor(best.num_bins, score.relative_error, score.correlation, errors)


def _cells(host: AnyHost, velocity: Tensor, stress: Tensor) -> Iterable[Cells]:
    d = host.grid.num_dims
    gradient = to_columns(cell_gradient(host.operators, velocity)).double()
    exact = to_columns(deviatoric(cell_stress(host.operators, stress.unbind(1)), d)).double()
    for first in range(0, gradient.shape[1], CHUNK):
        part = gradient[:, first : first + CHUNK]
        square = part.square().sum(0).clamp_min(SMALLEST_SQUARE)
        invariants, tensors = (tensor_basis_2d if d == 2 else tensor_basis_3d)(part / square.sqrt())
        conditions = torch.cat((invariants[INDEPENDENT[d]], square[None].log()))
        # The basis has the same weights as the stress: components off the diagonal times the square root of two.
        weighted = deviatoric(tensors, d)
        yield Cells(square * weighted, conditions, exact[:, first : first + CHUNK])


def _normal_equations(cells: Cells) -> tuple[Tensor, Tensor]:
    """Products of the tensors with each other (n, m, m) and with the stress (n, m): least squares of the true error."""
    by_cell = cells.tensors.permute(2, 0, 1).contiguous()
    return by_cell @ by_cell.transpose(1, 2), (by_cell @ cells.stress.t().unsqueeze(2)).squeeze(2)


def _some(invariants: Tensor) -> Tensor:
    """Some cells of a chunk, evenly spread: edges need no more, and memory holds no more."""
    return invariants[:, :: max(1, invariants.shape[1] // SAMPLED_FOR_EDGES)]


def _edges(invariants: Tensor, bins: int) -> Tensor:
    """Inner edges of bins with equally many cells each, shape (invariants, bins - 1)."""
    ordered = invariants.sort(1).values
    places = [round(share * ordered.shape[1] / bins) for share in range(1, bins)]
    return ordered[:, places].contiguous()


def _score(predict: Callable[[Cells], Tensor], chunks: Iterable[Cells]) -> PairScore:
    score = PairScore()
    for cells in chunks:
        score.add(predict(cells), cells.stress)
    return score
