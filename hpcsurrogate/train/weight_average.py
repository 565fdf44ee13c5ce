"""An exponential moving average of the weights, which often validates better than the weights of any single step.

Legend: w weights, a their average, d decay, n updates so far.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

NUM_UPDATES = "num_updates"  # stands among the names of parameters, none of which is called so


class WeightAverage:
    """a <- d_n a + (1 - d_n) w after every step, with d_n = min(d, (1 + n) / (10 + n)).

    Parameters
    ----------
    module : nn.Module    its parameters as they are now are the first average
    decay : float [-]     d, in (0, 1)

    Notes
    -----
    The decay grows from 1/10 so that the weights of the start are soon forgotten: with a fixed 0.999 they would still
    be 90 % of the average after 100 steps. Equal weights on two ranks give equal bits, and what `state_dict` returned
    goes on with equal bits (tests/unit/train/test_weight_average.py).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._num_updates = 0
        self._average = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the weights of `module` into the average; once after every optimizer step."""
        decay = min(self.decay, (1 + self._num_updates) / (10 + self._num_updates))
        self._num_updates += 1
        for name, parameter in module.named_parameters():
            self._average[name].lerp_(parameter, 1.0 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The average by name of parameter, and `num_updates`, int64; the tensors are the object's own."""
        return self._average | {NUM_UPDATES: torch.tensor(self._num_updates)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` returned. Raises KeyError if a parameter is missing."""
        self._num_updates = int(state[NUM_UPDATES])
        for name, average in self._average.items():
            average.copy_(state[name])

    @contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """Context in which the parameters of `module` hold the average; afterwards they are as before, bit for bit."""
        before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
        _set_parameters(module, self._average)
        try:
            yield
        finally:
            _set_parameters(module, before)


@torch.no_grad()
def _set_parameters(module: nn.Module, values: dict[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        parameter.copy_(values[name])
