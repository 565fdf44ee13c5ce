"""The average gradient over the parts of a step and the ranks, on its way while backward still runs.

The contract that trainers rely on: if the loss of every part is the mean over its samples and all parts of all ranks
have the same number, the result is the gradient of one rank on the joined batch
(tests/parallel/test_engine_gradients.py).
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.buckets import Bucket, CompressedBucket, ExactBucket
from hpcsurrogate.parallel.engine import Engine

Compression = Literal["none", "float16", "bfloat16"]

# Gradients that go in one message [bytes]: large enough to use the network, small enough to start early.
BUCKET_SIZE = {"cpu": 2**20, "cuda": 25 * 2**20}


class Gradients:
    """Averages the gradients of one module's parameters. Collective, but for `begin`.

    Parameters
    ----------
    engine : Engine
    parameters : iterable of nn.Parameter    those that want a gradient, in the same order on every rank
    num_parts : int [-]                      parts of a step on this rank, the same on every rank
    compression : "none", "float16" or "bfloat16"    type in which gradients travel between ranks
    exact : bool    whether the result shall depend on the set of all parts' gradients alone, bit for bit, and not on
                    how many ranks share them; keeps every part's gradient, and two messages follow each other

    Raises
    ------
    ConfigError    for compression together with `exact`, or a type that the engine does not sum

    Notes
    -----
    A step is `begin`, `backward` for each part, `finish`. All ranks then have the same bits, and with `exact` any
    number of ranks has them (tests/parallel/test_engine_exact.py).
    """

    def __init__(
        self,
        engine: Engine,
        parameters: Iterable[nn.Parameter],
        num_parts: int,
        compression: Compression = "none",
        exact: bool = False,
    ):
        if exact and compression != "none":
            raise ConfigError(f"train.gradient_compression: {compression} is not for train.exact; set it to none")
        self._num_parts, self._is_exact = num_parts, exact
        self._part: int | None = None
        self._num_started = 0
        self._buckets: list[Bucket] = []
        # Backward comes to the last parameters first.
        for number, together in enumerate(_in_buckets(list(parameters)[::-1])):
            arguments = (together, engine, f"gradients.{number}", num_parts)
            if exact:
                bucket = ExactBucket(*arguments)
            elif compression != "none" and engine.size > 1:
                bucket = CompressedBucket(*arguments, _dtype(compression, engine))
            else:
                bucket = Bucket(*arguments)
            self._buckets.append(bucket)
            for index, parameter in enumerate(together):
                parameter.register_post_accumulate_grad_hook(partial(self._arrived, bucket, index))

    def begin(self) -> None:
        """Start a step: set all gradients to None."""
        self._part, self._num_started = 0, 0
        for bucket in self._buckets:
            bucket.begin()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of the next part's loss; that of the last part sends off what is complete.

        Parameters
        ----------
        loss : Tensor, shape ()    mean over the part's samples, or a multiple of it

        Raises
        ------
        ValueError    if the step has had all its parts, or did not begin
        """
        if self._part is None or self._part == self._num_parts:
            raise ValueError(f"a step is begin(), {self._num_parts} times backward() and finish()")
        loss.backward()
        self._part += 1
        if self._part == self._num_parts:
            self._start(len(self._buckets))

    def finish(self) -> None:
        """Wait; every parameter's `grad` is then the average over parts and ranks, not finite if any addend was not.

        Raises
        ------
        RankLostError    if another rank was lost
        ValueError       if parts are missing
        """
        if self._part != self._num_parts:
            raise ValueError(f"part {self._part} of {self._num_parts} has had no backward()")
        for bucket in self._buckets:
            bucket.go_on()
        for bucket in self._buckets:
            bucket.finish()
        self._part = None

    def _arrived(self, bucket: Bucket, index: int, parameter: nn.Parameter) -> None:
        """What autograd calls when the gradient of a parameter is complete for this part."""
        if self._part is None:  # a backward pass outside a step
            return
        bucket.take(index, self._part if self._is_exact else 0)
        if self._part == self._num_parts - 1:
            bucket.num_missing -= 1
            num_complete = self._num_started
            while num_complete < len(self._buckets) and self._buckets[num_complete].num_missing == 0:
                num_complete += 1
            self._start(num_complete)

    def _start(self, end: int) -> None:
        """Send off the buckets before `end`, in the one order that all ranks keep."""
        for bucket in self._buckets[self._num_started : end]:
            bucket.start()
        self._num_started = max(self._num_started, end)


def _in_buckets(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Group neighbours of one type and device until they fill a bucket."""
    buckets: list[list[nn.Parameter]] = []
    kind, room = None, 0
    for parameter in parameters:
        size = parameter.numel() * parameter.element_size()
        if kind != (parameter.dtype, parameter.device) or size > room:
            buckets.append([])
            kind, room = (parameter.dtype, parameter.device), BUCKET_SIZE[parameter.device.type]
        buckets[-1].append(parameter)
        room -= size
    return buckets


def _dtype(compression: Compression, engine: Engine) -> torch.dtype:
    dtype = getattr(torch, compression)
    if dtype not in engine.dtypes:
        raise ConfigError(
            f"train.gradient_compression: train.engine {engine.name} cannot sum {compression}; set float16, or "
            "`train.engine: torch`"
        )
    return dtype
