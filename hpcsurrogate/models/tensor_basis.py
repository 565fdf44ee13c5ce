"""The SGS stress of a cell from its velocity gradient alone, as a sum over an integrity basis of tensors.

    tau_dev = Delta^2 |G|^2 sum_i c_i(invariants) T_i       (c_i: a small network with tanh)

Legend: n cells, d = 2 or 3 dimensions; G_ij = du_i/dx_j [1/s], |G| its Frobenius norm; S, W = symmetric (trace taken
off) and antisymmetric part of G / |G| [-]; Delta = filter width [m]; T_i = products of S and W, symmetric, trace-free.

Pope 1975 (doi:10.1017/S0022112075003382) showed that every isotropic function of S and W is such a sum: ten tensors and
five invariants in three dimensions, two and two in two. Ling, Kurzawski and Templeton 2016 (doi:10.1017/jfm.2016.615)
let a network give the coefficients. By construction, for any weights: equivariant under all rotations and reflections,
Galilean invariant, homogeneous of degree 2 in G and in Delta, and zero where G is zero.
"""

import math

import torch
from torch import Tensor, nn

from hpcsurrogate.models.cell_stress import REACH, force_of_cells, gradient_in_cells
from hpcsurrogate.models.isotropic_stress import (
    invariants_3d,
    isotropic_stress,
    squared,
    still_vector,
    strain_and_spin,
    times_vector,
)
from hpcsurrogate.models.quick_layers import quick_tanh

# Under |G|^2 [1/s^2], so that nothing is divided by zero; a gradient with so small a norm counts as none.
SMALLEST_SQUARE = torch.finfo(torch.float32).tiny
NUM_INVARIANTS = {2: 2, 3: 5}
NUM_TENSORS = {2: 2, 3: 10}
# Of the last layer's first weights: the network starts near no closure at all.
FIRST_OUTPUT = 0.1


def tensor_basis_2d(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Invariants and tensors in two dimensions: S, and S W - W S.

    Parameters
    ----------
    gradient : Tensor, shape (4, n) [-]    G / |G|, row by row; cells come last, where arithmetic is fast

    Returns
    -------
    Tensor, shape (2, n) [-] and Tensor, shape (2, 3, n) [-]    tr S^2, tr W^2; components xx, xy, yy of each tensor
    """
    ux, uy, vx, vy = gradient.unbind(0)
    normal, shear, spin = 0.5 * (ux - vy), 0.5 * (uy + vx), 0.5 * (uy - vx)
    invariants = torch.stack((2 * (normal * normal + shear * shear), -2 * spin * spin))
    across, along = -2 * shear * spin, 2 * normal * spin
    tensors = torch.stack((normal, shear, -normal, across, along, -across))
    return invariants, tensors.reshape(2, 3, -1)


def tensor_basis_3d(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Pope's five invariants and ten tensors in three dimensions, one by one; isotropic_stress.py sums them for less.

    Parameters
    ----------
    gradient : Tensor, shape (9, n) [-]    G / |G|, row by row

    Returns
    -------
    Tensor, shape (5, n) [-] and Tensor, shape (10, 6, n) [-]    tr S^2, tr W^2, tr S^3, tr W^2 S, tr W^2 S^2;
                                                                 components xx, xy, xz, yy, yz, zz of each tensor
    """
    xx, xy, xz, yx, yy, yz, zx, zy, zz = gradient.unbind(0)
    mean = (xx + yy + zz) / 3
    full = torch.stack((xx - mean, xy, xz, yx, yy - mean, yz, zx, zy, zz - mean)).reshape(3, 3, -1)
    s, w = 0.5 * (full + full.transpose(0, 1)), 0.5 * (full - full.transpose(0, 1))
    ss, ww, sw = product(s, s), product(w, w), product(s, w)
    ssw, sww, ssww = product(s, sw), product(sw, w), product(ss, ww)
    # The transpose of a product of S and W is the product in the other order, with one minus sign for each W.
    one_sided = torch.stack((sw, -ssw, sww, product(w, sww), product(sw, ss), ssww, product(w, ssww)))
    two_sided = one_sided + one_sided.transpose(1, 2)
    tensors = torch.cat((s.unsqueeze(0), two_sided[:1], ss.unsqueeze(0), ww.unsqueeze(0), two_sided[1:]))
    invariants = trace(torch.stack((ss, ww, product(s, ss), sww, ssww)))
    xx, xy, xz, _, yy, yz, _, _, zz = tensors.flatten(1, 2).unbind(1)
    mean = trace(tensors) / 3
    return invariants, torch.stack((xx - mean, xy, xz, yy - mean, yz, zz - mean), 1)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product of each cell; shape (3, 3, n) in and out. Many times faster than a batch of small matrices."""
    return a[:, 0:1] * b[0:1] + a[:, 1:2] * b[1:2] + a[:, 2:3] * b[2:3]


def trace(tensors: Tensor) -> Tensor:
    """Sum of the diagonal; shape (m, 3, 3, n) in, (m, n) out."""
    return tensors[:, 0, 0] + tensors[:, 1, 1] + tensors[:, 2, 2]


class TensorBasisStress(nn.Module):
    """Velocity gradient and filter width of cells in, deviatoric SGS stress out, both physical.

    Parameters
    ----------
    num_dims : int         2 or 3
    channels : int         of the hidden layers
    hidden_layers : int    at least 1

    Notes
    -----
    All of the module's head holds to round-off, and the derivative is finite, and zero, where G is zero
    (tests/unit/models/test_tensor_basis.py). With constant coefficients it is, in two dimensions, Smagorinsky's model
    and the deviatoric part of the gradient model.
    """

    def __init__(self, num_dims: int, channels: int, hidden_layers: int):
        super().__init__()
        self.num_dims = num_dims
        self.smallest_square = SMALLEST_SQUARE
        widths = [NUM_INVARIANTS[num_dims], *[channels] * hidden_layers, NUM_TENSORS[num_dims]]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        with torch.no_grad():
            for parameter in self.layers[-1].parameters():
                parameter.mul_(FIRST_OUTPUT)

    def forward(self, velocity_gradient: Tensor, filter_width: Tensor) -> Tensor:
        """Deviatoric stress (n, d(d+1)/2) [m^2/s^2] of gradients (n, d*d) [1/s], row by row, and widths (n,) [m]."""
        return self.of_columns(velocity_gradient.t(), filter_width).t().contiguous()

    def of_columns(self, gradient: Tensor, filter_width: Tensor) -> Tensor:
        """The same with cells last, (d*d, n) and (n,) or () to (d(d+1)/2, n): as fields lie, nothing is reordered."""
        square = gradient.square().sum(0)
        unit = gradient / square.clamp_min(self.smallest_square).sqrt()
        if self.num_dims == 2:
            invariants, tensors = tensor_basis_2d(unit)
            stress = (self._coefficients(invariants).unsqueeze(1) * tensors).sum(0)
        else:
            strain, spin = strain_and_spin(unit)
            squared_strain, v = squared(strain), still_vector(spin)
            invariants = invariants_3d(strain, squared_strain, v, times_vector(strain, v))
            stress = isotropic_stress(self._coefficients(invariants), strain, squared_strain, spin)
        return filter_width.square() * square * stress

    def _coefficients(self, invariants: Tensor) -> Tensor:
        """One of each tensor, shape (2 or 10, n), cells last as in the tensors."""
        features = invariants
        for i, layer in enumerate(self.layers):
            if i > 0:
                features = quick_tanh(features)
            features = torch.addmm(layer.bias.unsqueeze(1), layer.weight, features)
        return features


class TensorBasisNet(nn.Module):
    """The force of `TensorBasisStress` on a grid: velocity in, acceleration out, both physical.

    Parameters
    ----------
    spacing : tuple of float [m]       grid spacing along each axis, two or three
    staggered : bool                   layout of the velocity
    channels, hidden_layers : int      of `TensorBasisStress`

    Attributes
    ----------
    stress : TensorBasisStress    what hosts that have the gradient of a cell, on whatever mesh, can use alone
    filter_width : Tensor [m]     Delta; a buffer that training sets to the width of the data's filter; at first the
                                  side of the square or cube as large as a cell
    reach : int                   cells away from a cell that its acceleration depends on

    Notes
    -----
    Equivariant under the symmetries of the grid, homogeneous of degree 2, free of net momentum, and its stress reaches
    no farther than the neighbours (tests/unit/models/test_tensor_basis.py).
    """

    def __init__(self, spacing: tuple[float, ...], staggered: bool, channels: int, hidden_layers: int):
        super().__init__()
        self.spacing = [float(h) for h in spacing]
        self.num_components = len(spacing) * (len(spacing) + 1) // 2
        self.staggered = staggered
        self.reach = REACH
        self.stress = TensorBasisStress(len(spacing), channels, hidden_layers)
        width = math.prod(spacing) ** (1 / len(spacing))
        # In float64, so that an artifact in float64 works at the width itself and not at what float32 makes of it.
        self.register_buffer("filter_width", torch.tensor(width, dtype=torch.float64))

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, d, nx, ny[, nz]) [m/s^2] of a velocity of the same shape [m/s]."""
        gradient = gradient_in_cells(velocity, self.spacing, self.staggered)
        by_component = gradient.transpose(0, 1)
        cells = by_component.flatten(1)  # for one field no copy
        stress = self.stress.of_columns(cells, self.filter_width.to(cells.dtype))
        stress = stress.reshape_as(by_component[: self.num_components]).transpose(0, 1)
        return force_of_cells(stress, self.spacing, self.staggered)
