"""The gradient model is the exact stress of a linear velocity, and keeps to cells of any shape."""

import pytest
import torch

from hpcsurrogate.models.gradient_stress import GradientStress


@pytest.mark.parametrize("sides", [(0.7, 0.7, 0.7), (2.0, 0.1, 0.5)])
def test_gradient_model_is_the_average_over_a_box_of_a_linear_velocity(sides):
    """Points spread evenly over a side of length D scatter by D^2 / 12: 40 of them by 1/1600 less."""
    slope = torch.tensor([[1.0, 2.0, -1.0], [0.5, -3.0, 2.0], [1.5, 0.2, 2.0]], dtype=torch.float64)
    line = (torch.arange(40, dtype=torch.float64) + 0.5) / 40 - 0.5
    velocity = torch.cartesian_prod(*(side * line for side in sides)) @ slope.T
    stress = torch.cov(velocity.T, correction=0)
    stress = stress - torch.eye(3, dtype=torch.float64) * stress.trace() / 3
    rows, columns = torch.triu_indices(3, 3)
    width = torch.tensor(sides, dtype=torch.float64).prod() ** (1 / 3)
    scaled = slope * torch.tensor(sides, dtype=torch.float64) / width
    found = GradientStress()(scaled.reshape(1, 9), width[None])[0]
    assert found.numpy() * (1 - 1 / 1600) == pytest.approx(stress[rows, columns].numpy(), abs=1e-12)
