"""The two training losses. Both are dimensionless; over the data that scales them, 1 means: like no closure at all.

Legend
    b, c, x, y    batch, velocity component, grid axes
    L             length of a window in snapshot intervals
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hpcsurrogate.physics.hosts import AnyHost

Closure = Callable[[Tensor], Tensor]


def apriori_loss(
    closure: Closure, host: AnyHost, velocity_bcxy: Tensor, target_bcxy: Tensor, target_rms: float
) -> Tensor:
    """Mean squared error of the closure's divergence-free part, over the mean square of the target.

    The gradient part of a closure is absorbed by the pressure, so it is projected out before it can cost anything.

    Parameters
    ----------
    closure : callable              velocity_bcxy -> acceleration_bcxy [m/s^2]
    host : a host                   gives the discrete projection
    velocity_bcxy : Tensor, shape (b, 2, nx, ny) [m/s]
    target_bcxy : Tensor, shape (b, 2, nx, ny) [m/s^2]
    target_rms : float [m/s^2]      root mean square of the target over the training split

    Returns
    -------
    Tensor, shape () [-]    0 where closure and target differ by a gradient only (tests/unit/train/test_losses.py)
    """
    error_bcxy = host.project(closure(velocity_bcxy) - target_bcxy)
    return error_bcxy.square().mean() / target_rms**2


def snapshot_errors(
    host: AnyHost, velocity_blcxy: Tensor, steps_per_snapshot: int, closure: Closure | None = None
) -> Tensor:
    """Run the host from the first snapshot of each window and compare it with every later one.

    Parameters
    ----------
    host : a host                   differentiable stepping
    velocity_blcxy : Tensor, shape (b, L + 1, 2, nx, ny) [m/s]
    steps_per_snapshot : int [-]    host steps in one snapshot interval
    closure : callable or None      called inside the host; None for the bare host

    Returns
    -------
    Tensor, shape (L,) [m^2/s^2]    mean squared velocity error at each snapshot, averaged over the batch;
                                    back-propagates through every step of the window
    """
    state = host.encode(velocity_blcxy[:, 0])
    errors = []
    for snapshot in range(1, velocity_blcxy.shape[1]):
        for _ in range(steps_per_snapshot):
            state = host.step(state, closure)
        errors.append((host.decode(state) - velocity_blcxy[:, snapshot]).square().mean())
    return torch.stack(errors)


def unrolled_loss(errors_l: Tensor, bare_errors_l: Tensor) -> Tensor:
    """Mean over the snapshots of the squared error relative to that of the host without closure.

    The error grows by orders of magnitude along a window; dividing by the bare host's own error lets every lead time
    count alike, whatever the flow, the interval and the host.

    Parameters
    ----------
    errors_l : Tensor, shape (L,) [m^2/s^2]         of the host with its closure
    bare_errors_l : Tensor, shape (>= L,) [m^2/s^2]  of the host without one, a constant of the data

    Returns
    -------
    Tensor, shape () [-]    1 for a closure that returns zero (tests/unit/train/test_losses.py)
    """
    return (errors_l / bare_errors_l[: errors_l.shape[0]]).mean()
