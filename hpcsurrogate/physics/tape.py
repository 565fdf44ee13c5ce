"""Elementwise arithmetic that can be written down once and run again on the same arrays.

On small grids a solver spends more time on making views and arrays than on numbers. `Tape` offers the operations of
`Arithmetic`, keeps each with its operands and its result, and `replay` runs them again after the inputs have changed.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor


class Arithmetic:
    """The operations, carried out at once, differentiable. Those that accumulate change their first argument."""

    def add(self, a: Tensor, b: Tensor, scale: float = 1.0) -> Tensor:
        return torch.add(a, b, alpha=scale)

    def subtract(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.sub(a, b)

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.mul(a, b)

    def magnitude(self, a: Tensor) -> Tensor:
        return torch.abs(a)

    def accumulate(self, total: Tensor, a: Tensor, scale: float) -> Tensor:
        return total.add_(a, alpha=scale)

    def accumulate_product(self, total: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
        return total.addcmul_(a, b, value=scale)

    def release(self, *arrays: Tensor) -> None:
        """Promise that these results are not read any more."""


class Tape(Arithmetic):
    """The same, without gradients, and kept: results stay where they are, released ones are used again."""

    def __init__(self):
        self._calls: list[Callable[[], Tensor]] = []
        self._taken: dict[int, Tensor] = {}  # address -> storage of a result, flat, that is still read
        self._free: list[Tensor] = []

    def replay(self) -> None:
        for call in self._calls:
            call()

    def release(self, *arrays: Tensor) -> None:
        for array in arrays:
            storage = self._taken.pop(array.data_ptr(), None)
            if storage is not None:
                self._free.append(storage)

    def _keep(self, call: Callable[[], Tensor]) -> Tensor:
        self._calls.append(call)
        return call()

    def _new(self, like: Tensor) -> Tensor:
        """An array of that shape: in as few places of memory as possible, which then stay in the cache."""
        size = like.numel()
        fitting = [place for place, storage in enumerate(self._free) if storage.numel() >= size]
        storage = self._free.pop(fitting[-1]) if fitting else like.new_empty(size)
        self._taken[storage.data_ptr()] = storage
        return storage[:size].view(like.shape)

    def add(self, a: Tensor, b: Tensor, scale: float = 1.0) -> Tensor:
        return self._keep(partial(torch.add, a, b, alpha=scale, out=self._new(a)))

    def subtract(self, a: Tensor, b: Tensor) -> Tensor:
        return self._keep(partial(torch.sub, a, b, out=self._new(a)))

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return self._keep(partial(torch.mul, a, b, out=self._new(a)))

    def magnitude(self, a: Tensor) -> Tensor:
        return self._keep(partial(torch.abs, a, out=self._new(a)))

    def accumulate(self, total: Tensor, a: Tensor, scale: float) -> Tensor:
        return self._keep(partial(total.add_, a, alpha=scale))

    def accumulate_product(self, total: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
        return self._keep(partial(total.addcmul_, a, b, value=scale))
