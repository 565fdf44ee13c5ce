"""The quick hyperbolic tangent and the quick linear layer."""

import pytest
import torch

from hpcsurrogate.models.quick_layers import quick_linear, quick_tanh


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_cells", [0, 1, 15, 16, 37, 8192])
def test_it_is_a_linear_layer_for_any_number_of_cells(num_cells, dtype):
    generator = torch.Generator().manual_seed(0)
    features, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=dtype) for shape in ((num_cells, 24), (40, 24), (40,))
    )
    ours, theirs = quick_linear(features, weight, bias), torch.nn.functional.linear(features, weight, bias)
    assert ours.shape == theirs.shape and ours.is_contiguous()
    # Sums of 25 products of order one.
    assert torch.allclose(ours, theirs, rtol=0, atol=100 * torch.finfo(dtype).eps)
