"""The training losses. All are dimensionless; of the squared errors, over the data that scales them, 1 means: like no
closure at all.

Legend
    b, d          batch; velocity components, as many as grid axes
    L             length of a window in snapshot intervals
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hpcsurrogate.evaluate.cells import cell_stress, deviatoric
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import AnyHost, fold_closure
from hpcsurrogate.physics.spectra import energy_spectrum

Closure = Callable[[Tensor], Tensor]
# Of the fullest shell: far above the square of float32's round-off, far below what a resolved flow holds in a shell.
SPECTRUM_FLOOR = 1e-10


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


def stress_loss(
    stress: Callable[[Tensor], Tensor], host: AnyHost, velocity: Tensor, target: Tensor, target_rms: float
) -> Tensor:
    """Mean squared error of the deviatoric SGS stress at cell centres, over the mean square of the whole target.

    Parameters
    ----------
    stress : callable               velocity -> stress at centres, (b, d(d+1)/2, nx, ny[, nz]) [m^2/s^2]
    host : a host                   its operators bring the target to centres
    velocity : Tensor, shape (b, d, nx, ny[, nz]) [m/s]
    target : Tensor, shape (b, d(d+1)/2, nx, ny[, nz]) [m^2/s^2]    where the host's layout puts a stress
    target_rms : float [m^2/s^2]    root mean square of a component of the target over the training split

    Returns
    -------
    Tensor, shape () [-]    0 where stress and target differ by a pressure only (tests/unit/train/test_stress_loss.py)
    """
    exact = cell_stress(host.operators, target.unbind(1))
    error = deviatoric(stress(velocity) - exact, host.grid.num_dims)
    return error.square().mean() / target_rms**2


def squared_error(velocity: Tensor, target: Tensor) -> Tensor:
    """Mean square of the difference, shape () [m^2/s^2], of two velocities of one shape [m/s]."""
    return (velocity - target).square().mean()


def spectrum_error(velocity: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """Mean squared difference of the logarithms of two energy spectra, over samples and shells.

    The logarithm lets a shell near the cut-off count as much as one that holds most of the energy. It is taken of each
    sample's own spectrum, so that the value of a batch is the mean of those of its parts, on whatever ranks they are.

    Parameters
    ----------
    velocity, target : Tensor, shape (b, d, nx, ny[, nz]) [m/s]    of one layout, collocated or staggered
    grid : Grid

    Returns
    -------
    Tensor, shape () [-]    (ln 4)^2 for a velocity of twice the target's size

    Notes
    -----
    Counted are the shells below the Nyquist wavenumber of every axis, which are whole. Zero for equal fields, unchanged
    where either field is moved, turned by 90 degrees or reflected; finite in float32 where a shell is empty, and
    differentiable (tests/unit/train/test_spectrum_error.py).
    """
    wavenumber, spectrum = energy_spectrum(velocity, grid)
    _, truth = energy_spectrum(target, grid)
    # By half a shell's width round-off cannot let the shell of the Nyquist modes in.
    whole = wavenumber < math.pi / max(grid.spacing) - math.pi / max(grid.lengths)
    floor = (SPECTRUM_FLOOR * truth.amax(-1, keepdim=True)).clamp_min(torch.finfo(truth.dtype).tiny)
    ratio = (spectrum + floor) / (truth + floor)
    return ratio[:, whole].log().square().mean()


def snapshot_errors(
    host: AnyHost,
    velocity: Tensor,
    steps_per_snapshot: int,
    closure: Closure | None = None,
    back_propagation: int | None = None,
    recompute: bool = False,
    measure: Callable[[Tensor, Tensor], Tensor] = squared_error,
) -> Tensor:
    """Run the host from the first snapshot of each window and compare it with every later one.

    Parameters
    ----------
    host : a host                   differentiable stepping
    velocity : Tensor, shape (b, L + 1, d, nx, ny[, nz]) [m/s]
    steps_per_snapshot : int [-]    host steps in one snapshot interval
    closure : callable or None      called inside the host; None for the bare host. What a host can take into its own
                                    terms becomes part of them, as it will be used
    back_propagation : int, optional
        gradients flow back through at most so many intervals: the window is cut into parts of that length, and each
        starts from a state that counts as given (truncated back-propagation; R. J. Williams and J. Peng, Neural
        Computation 2, 490 (1990)). All of the window if not given
    recompute : bool
        of a step keep its first state alone, and run it again for its gradient: memory for one step instead of all,
        for one more forward run (A. Griewank and A. Walther, ACM Trans. Math. Softw. 26, 19 (2000))
    measure : callable              predicted and true velocity (b, d, nx, ny[, nz]) -> error, a mean over the batch

    Returns
    -------
    Tensor, shape (L,) and that of an error    the error at each snapshot; mean squared velocity error [m^2/s^2] if
                                               not told otherwise

    Notes
    -----
    Neither changes the values; `recompute` does not change the gradients either (tests/unit/train/test_losses.py).
    """
    host, closure = fold_closure(host, closure)
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
        errors.append(measure(host.decode(state), velocity[:, snapshot]))
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
