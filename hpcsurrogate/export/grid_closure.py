"""The module that becomes an artifact of kind `grid`: a network, its guard, and the classical closure behind it.

All hosts call this one, so that guard and fallback are the same in Python, C++ and Fortran.

Legend: b batch, c component, d = 2 or 3 of them, x, y and z the grid axes; a cell holds one value of each component.
"""

import math
from typing import Any, Dict, List  # noqa: UP035 TorchScript reads the annotations of attributes in this form alone

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsurrogate.core.metadata import FallbackDescription, ValidityRange
from hpcsurrogate.export.fallback import FALLBACK_REACH, SmagorinskyForce
from hpcsurrogate.physics.differences import gradient_magnitude, speed

WHOLE_FIELD = -1
# Round-off between the range that was measured on the training data and the same measured again on another processor.
SLACK = 1 + 1e-5


def halo_of(network: nn.Module) -> int | None:
    """Return the cells away from a cell that its guarded output depends on; None if on the whole field.

    Parameters
    ----------
    network : Module    its `reach` says how far its own output depends on the input; without one, on the whole field

    Notes
    -----
    One more than the network's reach, since what it is given of a cell depends on the gradient there. A block cut out
    with so many cells around it gives what the whole field gives (tests/unit/export/test_grid_closure.py).
    """
    reach = getattr(network, "reach", None)
    return None if reach is None else max(reach + 1, FALLBACK_REACH)


class GridClosure(nn.Module):
    """A network with the classical closure for all cells that it must not answer for.

    Parameters
    ----------
    network : Module         velocity (b, d, nx, ny[, nz]) [m/s] to acceleration of the same shape [m/s^2]; an attribute
                             `reach` says how many cells away its output depends on
    fallback : FallbackDescription
    validity : ValidityRange
    layout : str             "staggered" or "collocated"
    spacing : tuple of float h along each axis [m]

    Attributes
    ----------
    facts, golden            filled when the file is written: `ArtifactMetadata.facts()`; the inputs and the output
    """

    facts: Dict[str, str]  # noqa: UP006
    golden: List[Tensor]  # noqa: UP006

    def __init__(
        self,
        network: nn.Module,
        fallback: FallbackDescription,
        validity: ValidityRange,
        layout: str,
        spacing: tuple[float, ...],
    ):
        super().__init__()
        self.network = network
        self.staggered = layout == "staggered"
        self.spacing = [float(h) for h in spacing]
        self.num_dims = len(self.spacing)
        self.margin = [1, 1] * self.num_dims
        self.fallback = SmagorinskyForce(fallback.constant, fallback.width, spacing, self.staggered)
        self.fastest = validity.velocity_magnitude[1] * SLACK
        self.steepest = validity.gradient_magnitude[1] * SLACK
        reach = getattr(network, "reach", None)
        self.reach: int = WHOLE_FIELD if reach is None else reach
        self.facts, self.golden = {}, []

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, d, nx, ny[, nz]) [m/s^2] of a velocity of the same shape [m/s] by the network alone."""
        return self.network(velocity)

    @torch.jit.export
    def classical(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, d, nx, ny[, nz]) [m/s^2] of a velocity [m/s] by the classical closure alone."""
        return self.fallback(velocity)

    @torch.jit.export
    def guarded(self, velocity: Tensor, halo: int = 0) -> tuple[Tensor, Tensor]:
        """Acceleration by the network, cell by cell by the classical closure where the network must not be asked.

        Parameters
        ----------
        velocity : Tensor, shape (b, d, nx, ny[, nz]) [m/s]    anything, NaN included
        halo : int    0 for a periodic field. Above 0 for a block of a larger field with so many cells of its
                      surroundings around it: of the result use what is `halo` cells inside. The outermost cells,
                      having no neighbours, are not judged, and only those inside are counted

        Returns
        -------
        Tensor, shape (b, d, nx, ny[, nz]) [m/s^2]    always finite
        Tensor, shape (3,), int64               cells that got the classical closure because the input is above the
                                                trained range; because a value within the network's reach is not
                                                finite; because the network's output is not. No cell counts twice

        Notes
        -----
        The same bits as `forward` if all cells are within the range (tests/unit/export/test_grid_closure.py). The
        network is given at most the trained speed of cells outside, so that their neighbours keep a sound answer.
        """
        inside = self.within_range(velocity, halo)
        if bool(inside.all()):
            output = self.network(velocity)
            if math.isfinite(float(output.sum())):
                return output, torch.zeros(3, dtype=torch.int64, device=velocity.device)
        else:
            output = self.network(self.harmless(velocity, inside))
        output, cells = self.with_fallback(velocity, inside, output)
        for axis in range(2, self.num_dims + 2):
            cells = cells.narrow(axis, halo, cells.shape[axis] - 2 * halo)
        return output, cells.flatten(1).sum(1)

    def within_range(self, velocity: Tensor, halo: int) -> Tensor:
        """Whether speed and gradient of a cell are finite and not above the trained ones; (b, nx, ny[, nz]), bool."""
        slow = speed(velocity, self.staggered) <= self.fastest
        inside = slow & (gradient_magnitude(velocity, self.spacing, self.staggered) <= self.steepest)
        if halo > 0:
            judged = inside.to(velocity.dtype)
            for axis in range(1, self.num_dims + 1):
                judged = judged.narrow(axis, 1, judged.shape[axis] - 2)
            return F.pad(judged, self.margin, value=1.0) > 0
        return inside

    def harmless(self, velocity: Tensor, inside: Tensor) -> Tensor:
        """What the network is given: no component above the trained speed in cells outside, zero for NaN and inf."""
        limited = torch.nan_to_num(velocity, 0.0, 0.0, 0.0).clamp(-self.fastest, self.fastest)
        usable = inside & torch.isfinite(velocity).all(1)
        return torch.where(usable.unsqueeze(1), velocity, limited)

    def with_fallback(self, velocity: Tensor, inside: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Replace the network's output where it must not stand; of a block too.

        Parameters
        ----------
        velocity : Tensor, shape (b, d, nx, ny[, nz]) [m/s]
        inside : Tensor, shape (b, nx, ny[, nz]), bool         from `within_range`
        output : Tensor, shape (b, d, nx, ny[, nz]) [m/s^2]    of the network for `harmless(velocity, inside)`

        Returns
        -------
        Tensor, shape (b, d, nx, ny[, nz]) [m/s^2]    always finite
        Tensor, shape (3, b, nx, ny[, nz]), bool      cells that fell back: outside, not finite, failed

        Notes
        -----
        Without a branch that depends on the data, which a compiled form could not take.
        """
        not_finite = self._within_reach(~torch.isfinite(velocity).all(1))
        outside = ~(inside | not_finite)
        failed = ~(torch.isfinite(output).all(1) | not_finite | outside)
        fallen = (outside | not_finite | failed).unsqueeze(1)
        return torch.where(fallen, self.fallback(velocity), output), torch.stack((outside, not_finite, failed))

    def _within_reach(self, cells: Tensor) -> Tensor:
        """Cells whose network output depends on one of `cells`, (b, nx, ny[, nz]), bool."""
        reached = cells
        for axis in range(1, self.num_dims + 1):
            if self.reach < 0:
                reached = reached.any(axis, keepdim=True)
            else:
                for _ in range(self.reach):
                    reached = reached | reached.roll(1, axis) | reached.roll(-1, axis)
        return reached.expand_as(cells)


class ReplacingGridClosure(GridClosure):
    """A closure that a host with FFTs can also take in place of its own fluxes, which saves both the work on them."""

    @torch.jit.export
    def advection_hat(self, velocity_hat: Tensor, last: int, stage: int) -> Tensor:
        """`forward` and the host's own -div(u u) in one, by the network alone.

        Parameters
        ----------
        velocity_hat : Tensor, shape (b, d, nx[, ny], last // 2 + 1), complex    `rfftn` of the velocity, not scaled
        last : int                                                               points along the last axis
        stage : int                                                              of the host's step: even, or odd

        Returns
        -------
        Tensor, shape of the velocity, complex    `rfftn` of the acceleration, not projected. The mean of an even and an
                                                  odd stage is the sum that it stands for
        """
        return self.network.advection_hat(velocity_hat, last, stage)


def grid_closure(network: nn.Module, *others: Any) -> GridClosure:
    """Return the closure of a network, with all that the network offers; parameters as of GridClosure."""
    kind = ReplacingGridClosure if hasattr(network, "advection_hat") else GridClosure
    return kind(network, *others)
