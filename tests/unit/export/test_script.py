"""Exported code has no loops: those of a known length, over axes say, are written out."""

import pytest
import torch
from torch import Tensor, nn

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.export.script import script_module
from hpcsurrogate.physics.differences import gradient_magnitude, speed, staggered_divergence, staggered_gradient


class SquaredGradientForce(nn.Module):
    """Loops over rows and columns, and functions that loop themselves."""

    def __init__(self, num_dims: int):
        super().__init__()
        self.spacing = [0.1, 0.2, 0.3][:num_dims]

    def forward(self, velocity: Tensor) -> Tensor:
        num_dims = len(self.spacing)
        gradient = staggered_gradient(velocity, self.spacing)
        stress: list[Tensor] = []
        for row in range(num_dims):
            for column in range(row, num_dims):
                stress.append(gradient[row * num_dims + column] * gradient[column * num_dims + row])
        scale = gradient_magnitude(velocity, self.spacing, True) + speed(velocity, True)
        return staggered_divergence(stress, self.spacing) / (1 + scale).unsqueeze(1)


@pytest.mark.parametrize("num_dims", [2, 3])
def test_loops_over_axes_are_written_out_and_change_nothing(num_dims):
    module = SquaredGradientForce(num_dims)
    velocity = torch.randn(2, num_dims, *(6, 8, 4)[:num_dims], generator=torch.Generator().manual_seed(0))
    scripted = script_module(module)
    assert "for " not in scripted.code and "while " not in scripted.code
    assert torch.equal(scripted(velocity), module(velocity))


class SumOverTheInputsAxes(nn.Module):
    """How many axes an input has is not known before it comes."""

    def forward(self, velocity: Tensor) -> Tensor:
        total = torch.zeros_like(velocity)
        for axis in range(velocity.ndim):
            total = total + velocity.roll(1, axis)
        return total


def test_a_loop_of_unknown_length_is_refused_here_and_not_by_the_hosts():
    with pytest.raises(ModelRefusedError, match="SumOverTheInputsAxes: forward has a loop whose length depends"):
        script_module(SumOverTheInputsAxes())
