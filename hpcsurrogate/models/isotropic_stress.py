"""Sums over Pope's ten tensors without the ten: the stress of a cell in three dimensions, cheap enough for a solver.

The tensors are products of S and W. With W v = 0, so that W W = v v^T - |v|^2 I, and [A, W] = A W - W A, the sum
sum_i c_i T_i is, but for its trace,

    (c1 - 2 |v|^2 c6) S + (c3 - 2 |v|^2 c9) S S + (c2 + |v|^2 c7) [S, W] + (|v|^2 c10 - c5) [S S, W]
    - c8 S [S, W] S + p v^T + v p^T,      p = c4 v / 2 + c6 S v + c9 S S v + W (c7 S v + c10 S S v)

Legend: n cells; S symmetric without trace, as rows xx, xy, xz, yy, yz, zz; W antisymmetric, as w = (xy, xz, yz);
v = (yz, -xz, xy) of W; T_i and the invariants in the order of `tensor_basis_3d`, which holds them one by one. Cells
come last, where arithmetic is fast.
"""

import torch
from torch import Tensor


def strain_and_spin(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """S (6, n) and w (3, n) of gradients (9, n), row by row."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = gradient.unbind(0)
    mean = (xx + yy + zz) / 3
    strain = torch.stack((xx - mean, 0.5 * (xy + yx), 0.5 * (xz + zx), yy - mean, 0.5 * (yz + zy), zz - mean))
    return strain, 0.5 * torch.stack((xy - yx, xz - zx, yz - zy))


def still_vector(spin: Tensor) -> Tensor:
    """The vector v (3, n) that W turns into nothing, with W W = v v^T - |v|^2 I; w (3, n) in."""
    return torch.stack((spin[2], -spin[1], spin[0]))


def invariants_3d(strain: Tensor, squared_strain: Tensor, v: Tensor, strained_v: Tensor) -> Tensor:
    """tr S^2, tr W^2, tr S^3, tr W^2 S, tr W^2 S^2, shape (5, n) [-], of S, S S, v and S v."""
    length, square = dot(v, v), squared_strain[0] + squared_strain[3] + squared_strain[5]
    of_both = dot(strained_v, strained_v) - length * square
    return torch.stack((square, -2 * length, trace_of_product(strain, squared_strain), dot(v, strained_v), of_both))


def isotropic_stress(coefficients: Tensor, strain: Tensor, squared_strain: Tensor, spin: Tensor) -> Tensor:
    """Sum over the ten tensors.

    Parameters
    ----------
    coefficients : Tensor, shape (10, n)
    strain, squared_strain : Tensor, shape (6, n) [-]    S and S S
    spin : Tensor, shape (3, n) [-]                      w

    Returns
    -------
    Tensor, shape (6, n) [-]    without trace

    Notes
    -----
    Equal to the sum over `tensor_basis_3d` to round-off (tests/unit/models/test_isotropic_stress.py); the stress of
    32^3 cells takes less than half the time.
    """
    c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 = coefficients.unbind(0)
    v = still_vector(spin)
    once = times_vector(strain, v)
    twice = times_vector(strain, once)
    length, turned = dot(v, v), commutator(strain, spin)
    p = c6 * once + c9 * twice + (0.5 * c4) * v + spin_of(spin, c7 * once + c10 * twice)
    stress = (c1 - 2 * length * c6) * strain + (c3 - 2 * length * c9) * squared_strain
    stress = stress + (c2 + length * c7) * turned + (length * c10 - c5) * commutator(squared_strain, spin)
    stress = stress - c8 * sandwich(strain, turned) + symmetric_outer(p, v)
    xx, xy, xz, yy, yz, zz = stress.unbind(0)
    mean = (xx + yy + zz) / 3
    return torch.stack((xx - mean, xy, xz, yy - mean, yz, zz - mean))


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Scalar product of vectors (3, n), shape (n,)."""
    x, y, z = (a * b).unbind(0)
    return x + y + z


def trace_of_product(a: Tensor, b: Tensor) -> Tensor:
    """tr(A B) of symmetric matrices (6, n), shape (n,)."""
    xx, xy, xz, yy, yz, zz = (a * b).unbind(0)
    return xx + yy + zz + 2 * (xy + xz + yz)


def squared(a: Tensor) -> Tensor:
    """A A of symmetric matrices; shape (6, n) in and out."""
    xx, xy, xz, yy, yz, zz = a.unbind(0)
    xy2, xz2, yz2 = xy * xy, xz * xz, yz * yz
    diagonal = xx * xx + xy2 + xz2, xy2 + yy * yy + yz2, xz2 + yz2 + zz * zz
    others = xy * (xx + yy) + xz * yz, xz * (xx + zz) + xy * yz, yz * (yy + zz) + xy * xz
    return torch.stack((diagonal[0], others[0], others[1], diagonal[1], others[2], diagonal[2]))


def times_vector(a: Tensor, vector: Tensor) -> Tensor:
    """A x of symmetric matrices (6, n) and vectors (3, n), shape (3, n)."""
    xx, xy, xz, yy, yz, zz = a.unbind(0)
    x, y, z = vector.unbind(0)
    return torch.stack((xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z))


def spin_of(spin: Tensor, vector: Tensor) -> Tensor:
    """W x of w (3, n) and vectors (3, n), shape (3, n)."""
    xy, xz, yz = spin.unbind(0)
    x, y, z = vector.unbind(0)
    return torch.stack((xy * y + xz * z, yz * z - xy * x, -xz * x - yz * y))


def commutator(a: Tensor, spin: Tensor) -> Tensor:
    """A W - W A of symmetric matrices (6, n) and w (3, n): symmetric, without trace, shape (6, n)."""
    xx, xy, xz, yy, yz, zz = a.unbind(0)
    w_xy, w_xz, w_yz = spin.unbind(0)
    by_xy, by_xz, by_yz = w_xy * xy, w_xz * xz, w_yz * yz
    diagonal = -2 * (by_xy + by_xz), 2 * (by_xy - by_yz), 2 * (by_xz + by_yz)
    in_xy = w_xy * (xx - yy) - w_yz * xz - w_xz * yz
    in_xz = w_xz * (xx - zz) + w_yz * xy - w_xy * yz
    in_yz = w_yz * (yy - zz) + w_xz * xy + w_xy * xz
    return torch.stack((diagonal[0], in_xy, in_xz, diagonal[1], in_yz, diagonal[2]))


def sandwich(a: Tensor, b: Tensor) -> Tensor:
    """A B A of symmetric matrices; shape (6, n) in and out."""
    xx, xy, xz, yy, yz, zz = a.unbind(0)
    b_xx, b_xy, b_xz, b_yy, b_yz, b_zz = b.unbind(0)
    # Columns of A B.
    x_x, y_x, z_x = times_vector(a, torch.stack((b_xx, b_xy, b_xz))).unbind(0)
    x_y, y_y, z_y = times_vector(a, torch.stack((b_xy, b_yy, b_yz))).unbind(0)
    x_z, y_z, z_z = times_vector(a, torch.stack((b_xz, b_yz, b_zz))).unbind(0)
    first = x_x * xx + x_y * xy + x_z * xz, x_x * xy + x_y * yy + x_z * yz, x_x * xz + x_y * yz + x_z * zz
    second = y_x * xy + y_y * yy + y_z * yz, y_x * xz + y_y * yz + y_z * zz
    return torch.stack((first[0], first[1], first[2], second[0], second[1], z_x * xz + z_y * yz + z_z * zz))


def symmetric_outer(a: Tensor, b: Tensor) -> Tensor:
    """a b^T + b a^T of vectors (3, n), shape (6, n)."""
    ax, ay, az = a.unbind(0)
    bx, by, bz = b.unbind(0)
    others = ax * by + ay * bx, ax * bz + az * bx, ay * bz + az * by
    return torch.stack((2 * ax * bx, others[0], others[1], 2 * ay * by, others[2], 2 * az * bz))
