"""The two training losses. Both are dimensionless; over the data that scales them, 1 means: like no closure at all.

Legend
    b, d          batch; velocity components, as many as grid axes
    L             length of a window in snapshot intervals
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hpcsurrogate.physics.hosts import AnyHost, fold_damping

Closure = Callable[[Tensor], Tensor]


def apriori_loss(closure: Closure, host: AnyHost, velocity: Tensor, target: Tensor, target_rms: float) -> Tensor:
    """Mean squared error of the closure's divergence-free part, over the mean square of the target.

    The gradient part of a closure is absorbed by the pressure, so it is projected out before it can cost anything.

    Parameters
    ----------
    closure : callable              velocity -> acceleration [m/s^2]
    host : a host                   gives the discrete projection
    velocity : Tensor, shape (b, d, nx, ny[, nz]) [m/s]
    target : Tensor, shape (b, d, nx, ny[, nz]) [m/s^2]
    target_rms : float [m/s^2]      root mean square of the target over the training split

    Returns
    -------
    Tensor, shape () [-]    0 where closure and target differ by a gradient only (tests/unit/train/test_losses.py)
    """
    error = host.project(closure(velocity) - target)
    return error.square().mean() / target_rms**2


def snapshot_errors(
    host: AnyHost,
    velocity: Tensor,
    steps_per_snapshot: int,
    closure: Closure | None = None,
    back_propagation: int | None = None,
    recompute: bool = False,
) -> Tensor:
    """Run the host from the first snapshot of each window and compare it with every later one.

    Parameters
    ----------
    host : a host                   differentiable stepping
    velocity : Tensor, shape (b, L + 1, d, nx, ny[, nz]) [m/s]
    steps_per_snapshot : int [-]    host steps in one snapshot interval
    closure : callable or None      called inside the host; None for the bare host. One that is a linear damping becomes
                                    part of the host's linear term, as it will be used
    back_propagation : int, optional
        gradients flow back through at most so many intervals: the window is cut into parts of that length, and each
        starts from a state that counts as given (truncated back-propagation; R. J. Williams and J. Peng, Neural
        Computation 2, 490 (1990)). All of the window if not given
    recompute : bool
        of a step keep its first state alone, and run it again for its gradient: memory for one step instead of all,
        for one more forward run (A. Griewank and A. Walther, ACM Trans. Math. Softw. 26, 19 (2000))

    Returns
    -------
    Tensor, shape (L,) [m^2/s^2]    mean squared velocity error at each snapshot, averaged over the batch

    Notes
    -----
    Neither changes the values; `recompute` does not change the gradients either (tests/unit/train/test_losses.py).
    """
    host, closure = fold_damping(host, closure)
    step = host.step
    state = host.encode(velocity[:, 0])
    errors = []
    for snapshot in range(1, velocity.shape[1]):
        if back_propagation is not None and (snapshot - 1) % back_propagation == 0:
            state = state.detach()
        for _ in range(steps_per_snapshot):
            state = step(state, closure)
            if recompute and torch.is_grad_enabled():
                # Only from the second step on: the first fills what a solver keeps from step to step.
                step = partial(checkpoint, host.step, use_reentrant=False)
        errors.append((host.decode(state) - velocity[:, snapshot]).square().mean())
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
