"""Measured residuals of the exact properties of a pointwise closure: how far the file is from what physics demands.

Legend: n cells; d dimensions; G_ij = du_i/dx_j [1/s]; Delta = filter width [m]; tau = deviatoric SGS stress [m^2/s^2];
Q = orthogonal matrix. A frame that is turned by Q sees Q G Q^T, and must find Q tau Q^T.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ModelRefusedError

Closure = Callable[[Tensor, Tensor], Tensor]

# Factors that no power of two divides, so that another unit changes every digit.
OTHER_TIME, OTHER_LENGTH = 0.7, 1.3


def full_tensor(components: Tensor, num_dims: int) -> Tensor:
    """Return symmetric matrices (n, d, d) from their components xx, xy, ..., shape (n, d(d+1)/2)."""
    rows, columns = torch.triu_indices(num_dims, num_dims)
    matrices = components.new_zeros(len(components), num_dims, num_dims)
    matrices[:, rows, columns] = components
    matrices[:, columns, rows] = components
    return matrices


def measure_pointwise_residuals(closure: Closure, velocity_gradient: Tensor, filter_width: Tensor) -> dict[str, float]:
    """Measure how well a closure keeps the exact properties, each as a root mean square over that of the stress.

    Parameters
    ----------
    closure : callable    velocity gradient (n, d*d) [1/s] and filter width (n,) [m] to stress (n, d(d+1)/2) [m^2/s^2]
    velocity_gradient : Tensor, shape (n, d*d) [1/s]    of real cells, row by row
    filter_width : Tensor, shape (n,) [m]

    Returns
    -------
    dict    `galilean_invariance` (gradients from differences of a velocity before and after a constant one is added),
            `rotation` and `reflection` (a random one for each cell, by any angle), `trace`, `uniform_flow` (the stress
            of no gradient), `change_of_units` (metres and seconds counted in others). 0 is exact; float32 gives 1e-8 to
            1e-5 [-]. Symmetry is in the form: the file gives one number for tau_ij and tau_ji

    Raises
    ------
    ModelRefusedError    if the closure returns zeros or non-finite values for these cells
    """
    num_dims = math.isqrt(velocity_gradient.shape[1])
    with torch.no_grad():
        stress = closure(velocity_gradient, filter_width)
        scale = _rms(stress)
        if not (torch.isfinite(stress).all() and scale > 0):
            raise ModelRefusedError("the closure returns zeros or non-finite values for real cells; train it again")
        still, moved = (_seen_gradient(velocity_gradient, filter_width, wind) for wind in (False, True))
        in_other_units = closure(velocity_gradient * OTHER_TIME, filter_width * OTHER_LENGTH)
        residuals = {
            "galilean_invariance": _rms(closure(moved, filter_width) - closure(still, filter_width)),
            "trace": _rms(full_tensor(stress, num_dims).diagonal(dim1=1, dim2=2).sum(1)),
            "uniform_flow": _rms(closure(torch.zeros_like(velocity_gradient), filter_width)),
            "change_of_units": _rms(in_other_units / (OTHER_TIME * OTHER_LENGTH) ** 2 - stress),
        }
        for name, sign in (("rotation", 1), ("reflection", -1)):
            turn = random_turns(len(stress), num_dims, sign)
            turned = closure(_turned_gradient(velocity_gradient, turn), filter_width)
            expected = turn @ full_tensor(stress.double(), num_dims) @ turn.mT
            residuals[name] = _rms(full_tensor(turned.double(), num_dims) - expected)
    return {name: residual / scale for name, residual in residuals.items()}


def random_turns(count: int, num_dims: int, sign: int) -> Tensor:
    """Return orthogonal matrices (count, d, d), float64: rotations for sign 1, reflections for sign -1.

    Notes
    -----
    Evenly distributed, and the same at every call (tests/unit/export/test_certificate_pointwise.py). Of the factors of
    a Gaussian matrix Q R with the signs of R's diagonal put into Q: Mezzadri 2007, arXiv:math-ph/0609050.
    """
    gaussian = torch.randn(count, num_dims, num_dims, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrices, triangles = torch.linalg.qr(gaussian)
    matrices = matrices * triangles.diagonal(dim1=1, dim2=2).sign()[:, None, :]
    matrices[:, :, 0] *= (sign * torch.linalg.det(matrices).sign())[:, None]
    return matrices


def _turned_gradient(velocity_gradient: Tensor, turn: Tensor) -> Tensor:
    gradient = velocity_gradient.double().reshape(turn.shape)
    return (turn @ gradient @ turn.mT).reshape(velocity_gradient.shape).to(velocity_gradient.dtype)


def _seen_gradient(velocity_gradient: Tensor, filter_width: Tensor, wind: bool) -> Tensor:
    """The gradient as a host finds it, by differences over a cell, in a flow as fast as it is steep."""
    num_cells, num_dims = len(filter_width), math.isqrt(velocity_gradient.shape[1])
    gradient = velocity_gradient.reshape(num_cells, num_dims, num_dims)
    width = filter_width[:, None, None]
    change = 0.5 * width * gradient
    speed = (gradient * width).square().sum((1, 2)).mean().sqrt() if wind else gradient.new_zeros(())
    return (((speed + change) - (speed - change)) / width).reshape(velocity_gradient.shape)


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())
