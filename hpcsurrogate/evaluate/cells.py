"""Velocity gradients and stresses at cell centres: where a pointwise closure works, and where all stresses are scored.

Legend: d = number of dimensions; S = strain rate [1/s]; tau = SGS stress [m^2/s^2]; symmetric tensors have components
xx, xy[, xz], yy[, yz, zz].
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hpcsurrogate.models.cell_stress import gradient_in_cells
from hpcsurrogate.models.scale_estimation import ScaleEstimationNet
from hpcsurrogate.models.stress_stencil import StressStencilNet
from hpcsurrogate.models.tensor_basis import TensorBasisNet
from hpcsurrogate.physics.closures import StressClosure
from hpcsurrogate.physics.hosts import AnyHost
from hpcsurrogate.physics.stress_operators import StressOperators


def symmetric_pairs(num_dims: int) -> list[tuple[int, int]]:
    """Rows and columns of the components of a symmetric tensor, in order."""
    return [(i, j) for i in range(num_dims) for j in range(i, num_dims)]


def cell_gradient(operators: StressOperators, velocity: Tensor) -> Tensor:
    """Return du_i/dx_j at centres, row by row: (b, d, nx, ny[, nz]) [m/s] -> (b, d*d, nx, ny[, nz]) [1/s]."""
    d = operators.num_dims
    parts = operators.velocity_gradient(velocity)
    centred = [
        parts[i * d + j] if i == j else operators.to_centre(parts[i * d + j], i, j) for i in range(d) for j in range(d)
    ]
    return torch.stack(centred, 1)


def cell_stress(operators: StressOperators, stress: Sequence[Tensor]) -> Tensor:
    """Return a stress at centres, shape (b, d(d+1)/2, nx, ny[, nz]), from its components where they stand."""
    pairs = symmetric_pairs(operators.num_dims)
    parts = [p if i == j else operators.to_centre(p, i, j) for p, (i, j) in zip(stress, pairs, strict=True)]
    return torch.stack(parts, 1)


def stress_function(closure: Callable[[Tensor], Tensor], host: AnyHost) -> Callable[[Tensor], Tensor] | None:
    """Return how a closure's stress at centres follows from the velocity; None for a closure that is no stress."""
    if isinstance(closure, StressClosure):
        return lambda velocity: cell_stress(host.operators, closure.stress(velocity))
    if isinstance(closure, TensorBasisNet):
        return lambda velocity: _network_stress(closure, velocity)
    if isinstance(closure, StressStencilNet | ScaleEstimationNet):
        return closure.cell_stress
    return None


def deviatoric(stress: Tensor, num_dims: int) -> Tensor:
    """Return the components of a stress less its trace, those off the diagonal times the square root of two.

    Parameters
    ----------
    stress : Tensor, shape (b, d(d+1)/2, ...)
    num_dims : int    d

    Returns
    -------
    Tensor of the same shape and unit    sums of products are those of the tensors, so that no axis counts more
                                         (tests/unit/evaluate/test_apriori.py)
    """
    pairs = symmetric_pairs(num_dims)
    parts = dict(zip(pairs, stress.unbind(1), strict=True))
    mean = sum(parts[i, i] for i in range(num_dims)) / num_dims
    return torch.stack([parts[i, j] - mean if i == j else math.sqrt(2) * parts[i, j] for i, j in pairs], 1)


def stress_transfer(gradient: Tensor, stress: Tensor, num_dims: int) -> Tensor:
    """Return tau:S of cells: positive where the small scales give energy back.

    Parameters
    ----------
    gradient : Tensor, shape (b, d*d, ...) [1/s]
    stress : Tensor, shape (b, d(d+1)/2, ...) [m^2/s^2]
    num_dims : int    d

    Returns
    -------
    Tensor, shape (b, ...) [m^2/s^3]
    """
    d = num_dims
    twice_strain = [gradient[:, i * d + j] + gradient[:, j * d + i] for i, j in symmetric_pairs(d)]
    factors = [0.5 if i == j else 1.0 for i, j in symmetric_pairs(d)]
    return sum(f * s * t for f, s, t in zip(factors, twice_strain, stress.unbind(1), strict=True))


def to_columns(cells: Tensor) -> Tensor:
    """Put cells side by side: shape (b, m, ...) in, (m, n) out."""
    return cells.transpose(0, 1).flatten(1)


def from_columns(columns: Tensor, like: Tensor) -> Tensor:
    """Put columns (m, n) back on the grid of `like`, shape (b, any, ...): (b, m, ...)."""
    return columns.reshape(len(columns), len(like), *like.shape[2:]).transpose(0, 1)


def _network_stress(network: TensorBasisNet, velocity: Tensor) -> Tensor:
    gradient = gradient_in_cells(velocity, network.spacing, network.staggered)
    columns = to_columns(gradient).t()
    stress = network.stress(columns, network.filter_width.to(columns.dtype).expand(len(columns)))
    return from_columns(stress.t(), gradient)
