"""How far a closure is from treating all directions of the host's grid alike.

    error = rms over symmetries g of |C(g u) - g C(u)| / |C(u)|

u = velocity, C = closure, g = a rotation or reflection of the grid.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hpcsurrogate.core.config import Augmentation
from hpcsurrogate.data.augment import Augmenter, Draw
from hpcsurrogate.physics.hosts import AnyHost

VELOCITY, FORCE = "velocity", "sgs_force"


@torch.no_grad()
def equivariance_error(closure: Callable[[Tensor], Tensor], host: AnyHost, velocity: Tensor) -> float | None:
    """Return the error of a closure over all rotations and reflections that map the grid on itself.

    Parameters
    ----------
    closure : callable    velocity -> acceleration [m/s^2]
    host : AnyHost
    velocity : Tensor, shape (1, d, nx, ny[, nz]) [m/s]

    Returns
    -------
    float [-]    0 to round-off for an equivariant closure; None for one that is zero

    Notes
    -----
    All classical closures are equivariant; one that favours an axis is found out
    (tests/unit/evaluate/test_equivariance.py).
    """
    augmenter = Augmenter(Augmentation(), (VELOCITY, FORCE), host.grid.shape, host.grid.lengths, host.layout, seed=0)
    force = closure(velocity)
    norm = force.norm().item()
    if norm == 0:
        return None
    samples = {VELOCITY: _as_in_file(velocity), FORCE: _as_in_file(force)}
    squares = []
    for draw in grid_symmetries(host.grid.shape, host.grid.lengths):
        turned = {name: _as_tensor(values, velocity) for name, values in augmenter.apply(draw, samples).items()}
        squares.append(((closure(turned[VELOCITY]) - turned[FORCE]).norm().item() / norm) ** 2)
    return math.sqrt(sum(squares) / len(squares))


def grid_symmetries(shape: tuple[int, ...], lengths: tuple[float, ...]) -> list[Draw]:
    """List all rotations and reflections of a periodic grid but the identity; axes that differ stay where they are."""
    d = len(shape)
    still, cells = np.zeros((1, d)), np.zeros((1, d), np.int64)
    draws = []
    for axes in itertools.permutations(range(d)):
        fits = all((shape[a], lengths[a]) == (shape[b], lengths[b]) for b, a in enumerate(axes))
        for signs in itertools.product((1, -1), repeat=d):
            if fits and (axes != tuple(range(d)) or min(signs) < 0):
                draws.append(Draw(np.array([axes], np.int64), np.array([signs], np.int64), cells, still))
    return draws


def _as_in_file(field: Tensor) -> np.ndarray:
    return np.ascontiguousarray(field.movedim(1, -1).cpu().numpy())


def _as_tensor(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(values).movedim(-1, 1).contiguous().to(like.device, like.dtype)
