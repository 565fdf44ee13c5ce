"""Fourier transforms of fields that several processes share: slabs along x in space, slabs along ky in the spectrum.

Legend: P processes; X, Y points along x and kept rows along ky held here, of nx and R in all; M kept columns along kz.
Rows and columns that the dealiasing rule cuts are neither kept nor sent: R = 2m + 1 and M = m + 1 with m < n / 3, or
m < n / 2. Coefficient fields have shape (..., nx, Y, M), with kz slowest and ky fastest in memory as in transforms.py;
physical ones (..., X, ny, nz).

One transform is a transform over the two axes that are whole here, one exchange between all processes, and a transform
over the axis that is whole there. A right-hand side of the solver has eight, so that a process sends 8 (P - 1)
messages, all of them together 8 (1 - 1/P) nx R M complex numbers: 28 (1 - 1/P) bytes a point in float64 and half of
that in float32 under the 2/3 rule. A closure adds three transforms, forcing of constant power P numbers.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.exchange import Exchange, gather_numbers, shares
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.transforms import largest_wave, spectrum_order

Rows = list[tuple[slice, slice]]  # where a block's rows lie along ky of the whole field, and in the block


class SlabTransform:
    """What `LocalTransform` does, for a field of which every process of a world holds a part. Collective.

    Parameters
    ----------
    grid : Grid       of three dimensions
    world : World     the processes that share the field
    dealias : str     of the solver: "two_thirds" or "shift"

    Attributes
    ----------
    k : tuple of three Tensors    wavenumbers of the coefficients held here, shaped to broadcast against them [rad/m]
    x : range                     indices of the points along x held here

    Raises
    ------
    ConfigError    if there is no slab for every process, or its part holds more numbers than MPI can count

    Notes
    -----
    The solver on one process and on several agrees to round-off, and the same number of processes gives the same bits
    (tests/parallel/test_slab_transform.py). Slabs may differ by one in width. Memory beside the fields, of this
    process's part: two buffers of one coefficient field, and one of a field without its cut columns. Not
    differentiable.
    """

    def __init__(self, grid: Grid, world: World, dealias: str = "two_thirds"):
        self.grid, self._world = grid, world
        nx, ny, nz = grid.shape
        largest_y, self._columns = largest_wave(ny, dealias), largest_wave(nz, dealias) + 1
        kept_rows = [*range(largest_y + 1), *range(ny - largest_y, ny)]
        if world.size > min(nx, len(kept_rows)):
            raise ConfigError(
                f"simulate.ranks_per_realisation: {world.size} ranks cannot share {nx} x {ny} x {nz} points;"
                f" at most {min(nx, len(kept_rows))} of them have a slab"
            )
        of_ranks = [[kept_rows[i] for i in share] for share in shares(len(kept_rows), world.size)]
        self._slabs = shares(nx, world.size)
        self.x, mine = self._slabs[world.rank], of_ranks[world.rank]
        self.k = (grid.k[0], grid.k[1][:, mine], grid.k[2][..., : self._columns])
        self._rows = [_pieces(rows) for rows in of_ranks]
        # Memory order of the blocks: (M, X of the process of this slab, Y of the process of these rows).
        self._near_shapes = [(self._columns, len(self.x), len(rows)) for rows in of_ranks]
        self._far_shapes = [(self._columns, len(slab), len(mine)) for slab in self._slabs]
        complex_dtype = torch.complex64 if grid.dtype == torch.float32 else torch.complex128
        near, far = ([m * x * y for m, x, y in shapes] for shapes in (self._near_shapes, self._far_shapes))
        self._exchange = Exchange(world, near, far, complex_dtype, grid.device)
        self._turned_shape = (self._columns, len(mine), nx)
        # The cut rows stay zero.
        self._padded = torch.zeros(len(self.x), self._columns, ny, dtype=complex_dtype, device=grid.device)

    def to_physical(self, fields_hat: Sequence[Tensor]) -> list[Tensor]:
        """Coefficient fields (..., nx, Y, M) -> physical fields (..., X, ny, nz) held here, one by one."""
        return [_each(self._physical, field_hat) for field_hat in fields_hat]

    def to_spectral(self, fields: Sequence[Tensor]) -> list[Tensor]:
        """Physical fields -> coefficient fields; the inverse."""
        return [_each(self._spectral, field) for field in fields]

    def sum(self, value: Tensor) -> Tensor:
        """Sum over all processes that share the field, the same bits on each."""
        return gather_numbers(self._world, value).sum(0)

    def max(self, value: Tensor) -> Tensor:
        """Largest over all processes that share the field; NaN if one has NaN."""
        return gather_numbers(self._world, value).amax(0)

    def _physical(self, field_hat: Tensor) -> Tensor:
        along_x = torch.fft.ifft(field_hat, dim=-3).movedim(-1, -3)  # (M, nx, Y)
        for block, shape, slab in zip(self._exchange.far, self._far_shapes, self._slabs, strict=True):
            block.view(shape).copy_(along_x[:, slab.start : slab.stop])
        self._exchange.swap_to_near()
        for block, shape, rows in zip(self._exchange.near, self._near_shapes, self._rows, strict=True):
            for whole, part in rows:
                self._padded[..., whole] = block.view(shape)[..., part].movedim(0, 1)
        along_xy = torch.fft.ifft(self._padded, dim=-1)  # (X, M, ny)
        return torch.fft.irfft(along_xy.mT, n=self.grid.shape[2], dim=-1)

    def _spectral(self, field: Tensor) -> Tensor:
        along_z = torch.fft.rfft(field, dim=-1).narrow(-1, 0, self._columns)
        along_yz = torch.fft.fft(along_z, dim=-2).movedim(-1, -3)  # (M, X, ny)
        for block, shape, rows in zip(self._exchange.near, self._near_shapes, self._rows, strict=True):
            for whole, part in rows:
                block.view(shape)[..., part] = along_yz[..., whole]
        self._exchange.swap_to_far()
        # With x fastest, as the FFT along x reads it without a copy of its own.
        along_yz = torch.empty(self._turned_shape, dtype=self._padded.dtype, device=self._padded.device)
        for block, shape, slab in zip(self._exchange.far, self._far_shapes, self._slabs, strict=True):
            along_yz[..., slab.start : slab.stop].copy_(block.view(shape).mT)
        return spectrum_order(torch.fft.fft(along_yz, dim=-1).movedim(-3, -1).movedim(0, 1))


def _pieces(rows: list[int]) -> Rows:
    """The runs of neighbouring rows in an ascending list: at most two, above and below the cut ones."""
    edges = [i for i, row in enumerate(rows) if i == 0 or row != rows[i - 1] + 1]
    return [
        (slice(rows[first], rows[last - 1] + 1), slice(first, last)) for first, last in pairwise([*edges, len(rows)])
    ]


def _each(transform: Callable[[Tensor], Tensor], field: Tensor) -> Tensor:
    """Apply a transform of three axes to every element of the batch axes before them."""
    return transform(field) if field.ndim == 3 else torch.stack([_each(transform, part) for part in field])
