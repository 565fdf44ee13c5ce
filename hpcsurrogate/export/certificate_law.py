"""Measured residuals of the exact properties of a fluid's law: how far the file is from what physics demands.

Legend: n cells; G_ij = du_i/dx_j; D = symmetric part of G less its trace; sigma = stress. A frame that is turned by Q
sees Q G Q^T, and must find Q sigma Q^T.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.export.certificate_pointwise import full_tensor, random_turns
from hpcsurrogate.models.viscous_law import contraction, strain_rate

SLOW = 1e-4  # so much slower than the runs, a fluid is Newton's
NUM_COMPONENTS = 6  # of the stress; the columns behind are its error
NUM_DIMS = 3


def measure_law_residuals(
    law: Callable[[Tensor, Tensor, Tensor], Tensor], density: Tensor, temperature: Tensor, velocity_gradient: Tensor
) -> dict[str, float]:
    """Measure how well a law keeps the exact properties, each as a root mean square over that of the deviator.

    Parameters
    ----------
    law : callable                      density (n,), temperature (n,), gradient (n, 9) to (n, 12), stress first
    density, temperature : Tensor, shape (n,), float64       of real cells; at least one is sheared
    velocity_gradient : Tensor, shape (n, 9), float64

    Returns
    -------
    dict    `rotation` and `reflection` (a random one for each cell), `spin` (a rotation of the fluid as a whole is
            added), `dissipation` (where sigma : D < 0), `newtonian_at_rest` (twice a slow gradient, twice the deviator,
            over that). 0 is exact [-]

    Raises
    ------
    ModelRefusedError    if the law returns no deviator, or what is not finite, for these cells
    """

    def stress_of(gradient: Tensor) -> Tensor:
        return law(density, temperature, gradient)[:, :NUM_COMPONENTS]

    with torch.no_grad():
        stress = stress_of(velocity_gradient)
        scale = _rms(_deviator(stress))
        if not (torch.isfinite(stress).all() and scale > 0):
            raise ModelRefusedError("the law returns zeros or non-finite values for real cells; train it again")
        gradient = velocity_gradient.reshape(-1, NUM_DIMS, NUM_DIMS)
        residuals = {}
        for name, sign in (("rotation", 1), ("reflection", -1)):
            turn = random_turns(len(stress), NUM_DIMS, sign)
            turned = full_tensor(stress_of((turn @ gradient @ turn.mT).flatten(1)), NUM_DIMS)
            residuals[name] = _rms(turned - turn @ full_tensor(stress, NUM_DIMS) @ turn.mT) / scale
        half = random_turns(len(stress), NUM_DIMS, 1) * gradient.square().sum((1, 2)).sqrt()[:, None, None]
        residuals["spin"] = _rms(stress_of((gradient + half - half.mT).flatten(1)) - stress) / scale
        strain = strain_rate(velocity_gradient)
        size = contraction(strain, strain).sqrt().clamp_min(torch.finfo(stress.dtype).tiny)
        work = contraction(stress, strain) / size
        residuals["dissipation"] = _rms(work.clamp_max(0)) / scale
        once, twice = (_deviator(stress_of(factor * SLOW * velocity_gradient)) for factor in (1, 2))
        residuals["newtonian_at_rest"] = _rms(twice - 2 * once) / _rms(twice)
    return residuals


def _deviator(stress: Tensor) -> Tensor:
    mean = stress[:, (0, 3, 5)].mean(1, keepdim=True)
    return stress - mean * stress.new_tensor((1.0, 0, 0, 1, 0, 1))


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())
