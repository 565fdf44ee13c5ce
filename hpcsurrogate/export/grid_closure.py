"""The module that becomes an artifact of kind `grid`: a network, its guard, and the classical closure behind it.

All hosts call this one, so that guard and fallback are the same in Python, C++ and Fortran.

Legend: b batch, c component (x, y), x and y the grid axes; a cell holds one value of each component.
"""

import math
from typing import Dict, List  # noqa: UP035 TorchScript reads the annotations of attributes in this form alone

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
    network : Module         velocity (b, 2, nx, ny) [m/s] to acceleration (b, 2, nx, ny) [m/s^2]; an attribute `reach`
                             says how many cells away its output depends on
    fallback : FallbackDescription
    validity : ValidityRange
    layout : str             "staggered" or "collocated"
    spacing : (float, float) hx, hy [m]

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
        spacing: tuple[float, float],
    ):
        super().__init__()
        self.network = network
        self.staggered = layout == "staggered"
        self.hx, self.hy = (float(h) for h in spacing)
        self.fallback = SmagorinskyForce(fallback.constant, fallback.width, spacing, self.staggered)
        self.fastest = validity.velocity_magnitude[1] * SLACK
        self.steepest = validity.gradient_magnitude[1] * SLACK
        reach = getattr(network, "reach", None)
        self.reach: int = WHOLE_FIELD if reach is None else reach
        self.facts, self.golden = {}, []

    def forward(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, 2, nx, ny) [m/s^2] of a velocity (b, 2, nx, ny) [m/s] by the network alone."""
        return self.network(velocity)

    @torch.jit.export
    def classical(self, velocity: Tensor) -> Tensor:
        """Acceleration (b, 2, nx, ny) [m/s^2] of a velocity (b, 2, nx, ny) [m/s] by the classical closure alone."""
        return self.fallback(velocity)

    @torch.jit.export
    def guarded(self, velocity: Tensor, halo: int = 0) -> tuple[Tensor, Tensor]:
        """Acceleration by the network, cell by cell by the classical closure where the network must not be asked.

        Parameters
        ----------
        velocity : Tensor, shape (b, 2, nx, ny) [m/s]    anything, NaN included
        halo : int    0 for a periodic field. Above 0 for a block of a larger field with so many cells of its
                      surroundings around it: of the result use what is `halo` cells inside. The outermost cells,
                      having no neighbours, are not judged, and only those inside are counted

        Returns
        -------
        Tensor, shape (b, 2, nx, ny) [m/s^2]    always finite
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
        nx, ny = velocity.shape[-2], velocity.shape[-1]
        return output, cells[:, :, halo : nx - halo, halo : ny - halo].sum(dim=(1, 2, 3))

    def within_range(self, velocity: Tensor, halo: int) -> Tensor:
        """Whether speed and gradient of a cell are finite and not above the trained ones; (b, nx, ny), bool."""
        slow = speed(velocity, self.staggered) <= self.fastest
        inside = slow & (gradient_magnitude(velocity, self.hx, self.hy, self.staggered) <= self.steepest)
        if halo > 0:
            return F.pad(inside[:, 1:-1, 1:-1].to(velocity.dtype), [1, 1, 1, 1], value=1.0) > 0
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
        velocity : Tensor, shape (b, 2, nx, ny) [m/s]
        inside : Tensor, shape (b, nx, ny), bool         from `within_range`
        output : Tensor, shape (b, 2, nx, ny) [m/s^2]    of the network for `harmless(velocity, inside)`

        Returns
        -------
        Tensor, shape (b, 2, nx, ny) [m/s^2]    always finite
        Tensor, shape (3, b, nx, ny), bool      cells that fell back: outside, not finite, failed

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
        """Cells whose network output depends on one of `cells`, (b, nx, ny), bool."""
        if self.reach < 0:
            return cells.any(2, keepdim=True).any(1, keepdim=True).expand_as(cells)
        for _ in range(self.reach):
            cells = cells | cells.roll(1, -2) | cells.roll(-1, -2)
        for _ in range(self.reach):
            cells = cells | cells.roll(1, -1) | cells.roll(-1, -1)
        return cells
