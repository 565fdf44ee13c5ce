"""The eight symmetries of the square acting on stencils of a staggered vector field, as constant matrices.

Legend: an element of D4 is (transpose, flip_x, flip_y), applied in this order. A stencil pair is a u stencil of
4 x 5 points and the transpose of a v stencil of 5 x 4, since on the staggered layout u lies half a cell off the
centres along x and v along y; both are embedded in a 5 x 5 window.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

Element = tuple[bool, bool, bool]

ELEMENTS: list[Element] = list(itertools.product((False, True), repeat=3))
IDENTITY = 0
EVEN, ODD = 4, 5  # points of a stencil along its even and its odd direction
PAIR_SIZE = 2 * EVEN * ODD


def compose_table() -> Tensor:
    """Index of the product a b (b applied first) for elements a and b; shape (8, 8), int64."""

    def matrix(element: Element) -> Tensor:
        transpose, flip_x, flip_y = element
        flips = torch.diag(torch.tensor([-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0]))
        return flips @ (torch.tensor([[0.0, 1.0], [1.0, 0.0]]) if transpose else torch.eye(2))

    matrices = [matrix(element) for element in ELEMENTS]
    table = torch.empty(8, 8, dtype=torch.long)
    for a, b in itertools.product(range(8), repeat=2):
        product = matrices[a] @ matrices[b]
        table[a, b] = next(i for i, m in enumerate(matrices) if torch.equal(m, product))
    return table


def relative_table() -> Tensor:
    """Index of g^-1 h for elements g and h, all that the kernel of a group convolution depends on; (8, 8), int64."""
    table = compose_table()
    inverse = (table == IDENTITY).long().argmax(dim=1)
    return table[inverse]


def transform_vector(u: Tensor, v: Tensor, element: Element) -> tuple[Tensor, Tensor]:
    """A pair of stencils, u (..., a, b) and v (..., b, a), moved by `element`; signs follow the components."""
    transpose, flip_x, flip_y = element
    if transpose:
        u, v = v.transpose(-2, -1), u.transpose(-2, -1)
    if flip_x:
        u, v = -u.flip(-2), v.flip(-2)
    if flip_y:
        u, v = u.flip(-1), -v.flip(-1)
    return u, v


def orientation_matrix(half_cell: int) -> Tensor:
    """All orientations of a stencil pair as one linear map.

    Parameters
    ----------
    half_cell : int    where the even direction lies in the 5 points of its window: -1 for stencils that stand on
                       centres and read faces (offsets -2..1), +1 for those on faces that read centres (-1..2)

    Returns
    -------
    Tensor, shape (PAIR_SIZE, 8 * 2 * 5 * 5)    a pair as a row vector, times this, gives the (2, 5, 5) windows of its
                                                eight orientations
    """
    basis = torch.eye(PAIR_SIZE).reshape(PAIR_SIZE, 2, EVEN, ODD)
    u, v = basis[:, 0], basis[:, 1].transpose(-2, -1)
    pad = (0, 1) if half_cell < 0 else (1, 0)
    windows = []
    for element in ELEMENTS:
        turned_u, turned_v = transform_vector(u, v, element)
        windows.append(torch.stack((F.pad(turned_u, (0, 0, *pad)), F.pad(turned_v, pad)), dim=1))
    return torch.stack(windows, dim=1).reshape(PAIR_SIZE, -1)
