"""The quick hyperbolic tangent."""

import pytest
import torch

from hpcsurrogate.models.activation import quick_tanh


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_hyperbolic_tangent(dtype):
    x = torch.cat((torch.linspace(-30, 30, 6001), torch.tensor([0.0, 20.0, -20.0, 1e30, -1e30]))).to(dtype)
    x.requires_grad_()
    ours, theirs = quick_tanh(x), torch.tanh(x)
    assert (ours - theirs).abs().max() <= 2 * torch.finfo(dtype).eps
    assert ours[x == 0].eq(0).all()
    (our_slope,) = torch.autograd.grad(ours.sum(), x, retain_graph=True)
    (their_slope,) = torch.autograd.grad(theirs.sum(), x)
    assert (our_slope - their_slope).abs().max() <= 4 * torch.finfo(dtype).eps
