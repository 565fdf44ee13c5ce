"""The eight symmetries of the square acting on stencils of a staggered vector field.

Legend: an element of D4 is (transpose, flip_x, flip_y), applied in this order; a stencil stands on index offsets
-2..2 around a cell centre. On the staggered layout u[i] lies half a cell right of centre i, so a u stencil is even
along x (offsets -2..1) and odd along y (-2..2); a v stencil is its transpose.
"""

import torch
from torch import Tensor

ELEMENTS = [(t, fx, fy) for t in (False, True) for fx in (False, True) for fy in (False, True)]
IDENTITY = 0


def compose_index() -> Tensor:
    """Table (8, 8): index of the product a b of elements a and b, b applied first; int64."""
    import itertools

    def matrix(element: tuple[bool, bool, bool]) -> Tensor:
        transpose, flip_x, flip_y = element
        flips = torch.diag(torch.tensor([-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0]))
        return flips @ (torch.tensor([[0.0, 1.0], [1.0, 0.0]]) if transpose else torch.eye(2))

    matrices = [matrix(element) for element in ELEMENTS]
    table = torch.empty(8, 8, dtype=torch.long)
    for a, b in itertools.product(range(8), range(8)):
        product = matrices[a] @ matrices[b]
        table[a, b] = next(i for i, m in enumerate(matrices) if torch.equal(m, product))
    return table


def transform_scalar(stencil: Tensor, element: tuple[bool, bool, bool]) -> Tensor:
    """A stencil (..., n, n) on points that map onto themselves (odd n on centres), moved by `element`."""
    transpose, flip_x, flip_y = element
    out = stencil.transpose(-2, -1) if transpose else stencil
    axes = [axis for axis, flip in ((-2, flip_x), (-1, flip_y)) if flip]
    return out.flip(axes) if axes else out


def transform_vector(u: Tensor, v: Tensor, element: tuple[bool, bool, bool]) -> tuple[Tensor, Tensor]:
    """A pair of stencils, u (..., a, b) and v (..., b, a), moved by `element`; signs follow the components."""
    transpose, flip_x, flip_y = element
    if transpose:
        u, v = v.transpose(-2, -1), u.transpose(-2, -1)
    if flip_x:
        u, v = -u.flip(-2), v.flip(-2)
    if flip_y:
        u, v = u.flip(-1), -v.flip(-1)
    return u, v
