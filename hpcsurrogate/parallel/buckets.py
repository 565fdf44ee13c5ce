"""Gradients that travel between ranks in one message, and the three ways to sum them.

A bucket is filled with the gradients of a step's parts, sent off by `start`, and `finish` leaves their average over
parts and ranks in the parameters' `grad`. What a way of summing sends second, `go_on` sends.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpcsurrogate.parallel.engine import Engine, Handle
from hpcsurrogate.parallel.fixed_point import to_integers, to_numbers, units


class Bucket:
    """Gradients summed in their own type, in place.

    Parameters
    ----------
    parameters : sequence of nn.Parameter    of one type and device
    engine : Engine
    name : str           of its messages
    num_parts : int [-]  parts of a step on this rank
    num_rows : int [-]   parts whose gradients are kept one by one; 1 adds them up as they come

    Attributes
    ----------
    num_missing : int [-]    gradients of the last part that are still to come
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], engine: Engine, name: str, num_parts: int, num_rows: int = 1
    ):
        self.parameters = list(parameters)
        self._engine, self._name = engine, name
        self._num_addends = num_parts * engine.size
        self._sizes = [parameter.numel() for parameter in self.parameters]
        like = self.parameters[0]
        self._rows = torch.zeros(num_rows, sum(self._sizes), dtype=like.dtype, device=like.device)
        self._views = [self._split(row) for row in self._rows]
        self._handle: Handle
        self.num_missing = 0

    def begin(self) -> None:
        """Forget the last step; a parameter that gets no gradient counts as zero."""
        self._rows.zero_()
        self.num_missing = len(self.parameters)
        for parameter in self.parameters:
            parameter.grad = None

    def take(self, index: int, row: int) -> None:
        """Move the gradient of a parameter into a row, added to what is there."""
        parameter = self.parameters[index]
        self._views[row][index].add_(parameter.grad)
        parameter.grad = None

    def start(self) -> None:
        """Send the first message."""
        self._handle = self._engine.sum_async(self._rows[0], self._name)

    def go_on(self) -> None:
        """Nothing more to send."""

    def finish(self) -> None:
        """Wait for the sum and let the parameters have the average."""
        self._handle.wait()
        self._rows[0].div_(self._num_addends)
        self._give_back()

    def _give_back(self) -> None:
        """The average lies in row 0, at addresses that do not depend on ranks and parts, for what computes with it."""
        for parameter, view in zip(self.parameters, self._views[0], strict=True):
            parameter.grad = view

    def _split(self, row: Tensor) -> list[Tensor]:
        pieces = zip(row.split(self._sizes), self.parameters, strict=True)
        return [piece.view(parameter.shape) for piece, parameter in pieces]


class CompressedBucket(Bucket):
    """Gradients that travel in a type of 16 bits: the average is as precise as that type, and has its range."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], engine: Engine, name: str, num_parts: int, dtype: torch.dtype
    ):
        super().__init__(parameters, engine, name, num_parts)
        self._dtype = dtype

    def start(self) -> None:
        """Send this rank's share of the average: the sum over the ranks is no larger than the largest gradient."""
        self._message = (self._rows[0] / self._num_addends).to(self._dtype)
        self._handle = self._engine.sum_async(self._message, self._name)

    def finish(self) -> None:
        """Wait for the average and let the parameters have it."""
        self._handle.wait()
        self._rows[0].copy_(self._message)
        self._give_back()


class ExactBucket(Bucket):
    """Gradients summed as integers: the average depends on the set of all parts' gradients, not on where they are.

    First the ranks agree on the largest magnitude of each parameter's gradients, which sets the unit that these are
    counted in; then the integers travel. A parameter with a gradient that is not finite gets NaN on every rank.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], engine: Engine, name: str, num_parts: int):
        super().__init__(parameters, engine, name, num_parts, num_rows=num_parts)
        self._counts = torch.tensor(self._sizes, device=self._rows.device)

    def start(self) -> None:
        """Ask for the largest magnitudes."""
        pieces = self._rows.split(self._sizes, dim=1)
        largest = torch.stack([piece.abs().amax() for piece in pieces]).double()
        # A NaN would not survive the search for the largest everywhere.
        self._largest = largest.nan_to_num_(nan=torch.inf, posinf=torch.inf)
        self._handle = self._engine.max_async(self._largest, f"{self._name}.largest")

    def go_on(self) -> None:
        """Send the integers."""
        self._handle.wait()
        self._unit = units(self._largest, self._num_addends).repeat_interleave(
            self._counts, output_size=sum(self._sizes)
        )
        self._total = to_integers(self._rows[0], self._unit)
        for row in self._rows[1:]:
            self._total += to_integers(row, self._unit)
        self._handle = self._engine.sum_async(self._total, self._name)

    def finish(self) -> None:
        """Wait for the sum and let the parameters have the average."""
        self._handle.wait()
        self._rows[0].copy_(to_numbers(self._total, self._unit).div_(self._num_addends))
        self._give_back()
