"""Symmetries and conservation of the quadratic stencil network, exact for any weights."""

import pytest
import torch

from hpcsurrogate.models.quadratic_stencil import QuadraticStencilNet

ROUND_OFF = 1e-12  # float64, relative to the largest value of the output


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(seed=0, spacing=0.1):
    """A network with random weights; the output stencils are as large as the others, so that errors show."""
    torch.manual_seed(seed)
    net = QuadraticStencilNet(spacing, channels=3, output_channels=2).double()
    with torch.no_grad():
        net.output.mul_(100)
    return net


def transpose(velocity):
    """Mirror at the diagonal: x and y, and u and v, change places."""
    return velocity.flip(1).transpose(-2, -1)


def mirror_x(velocity):
    """x -> -x on the staggered layout: u stands on faces i + 1, so that its mirror image starts one face later."""
    u, v = velocity.unbind(1)
    return torch.stack((-torch.roll(u.flip(-2), -1, -2), v.flip(-2)), dim=1)


def mirror_y(velocity):
    return transpose(mirror_x(transpose(velocity)))


def quarter_turn(velocity):
    return mirror_x(transpose(velocity))


def assert_close(computed, expected):
    scale = expected.abs().max().item()
    assert scale > 0.1
    torch.testing.assert_close(computed, expected, rtol=0, atol=ROUND_OFF * scale)


def test_mirror_images_keep_the_discrete_divergence():
    # The maps of this file are symmetries of the staggered grid, checked by the divergence, a scalar at centres.
    velocity = noise(1, 2, 8, 8)

    def divergence(velocity):
        u, v = velocity.unbind(1)
        return u - torch.roll(u, 1, -2) + v - torch.roll(v, 1, -1)

    torch.testing.assert_close(divergence(mirror_x(velocity)), divergence(velocity).flip(-2), rtol=0, atol=1e-13)
    torch.testing.assert_close(divergence(mirror_y(velocity)), divergence(velocity).flip(-1), rtol=0, atol=1e-13)
    torch.testing.assert_close(divergence(transpose(velocity)), divergence(velocity).mT, rtol=0, atol=1e-13)


@pytest.mark.parametrize("symmetry", [transpose, mirror_x, mirror_y, quarter_turn])
def test_equivariant_under_the_symmetries_of_the_square(symmetry):
    net, velocity = network(), noise(2, 2, 12, 10)
    assert_close(net(symmetry(velocity)), symmetry(net(velocity)))


@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (5, -3)])
def test_equivariant_under_translations(shift):
    net, velocity = network(), noise(2, 2, 12, 10)
    assert_close(net(torch.roll(velocity, shift, (-2, -1))), torch.roll(net(velocity), shift, (-2, -1)))


def test_homogeneous_of_degree_2():
    net, velocity = network(), noise(2, 2, 12, 12)
    assert_close(net(3 * velocity), 9 * net(velocity))


def test_half_of_the_products_tell_a_flow_from_its_reverse():
    # a b is even in the velocity, |a| b is odd: only the second can dissipate whichever way the flow goes.
    net, velocity = network(), noise(2, 2, 12, 12)
    even, odd = (net(velocity) + net(-velocity)) / 2, (net(velocity) - net(-velocity)) / 2
    assert even.abs().max() > 0.1 and odd.abs().max() > 0.1


def test_scales_with_the_spacing():
    velocity = noise(1, 2, 8, 8)
    assert_close(network(spacing=0.05)(velocity), 2 * network(spacing=0.1)(velocity))


def test_momentum_is_conserved_and_rest_stays_at_rest():
    net = network()
    force = net(noise(3, 2, 12, 12))
    assert force.sum((-2, -1)).abs().max() < 1e-9 * force.abs().sum((-2, -1)).max()
    at_rest = net(torch.zeros(1, 2, 8, 8, dtype=torch.float64))
    assert torch.equal(at_rest, torch.zeros_like(at_rest))


def test_a_uniform_flow_feels_nothing():
    velocity = torch.tensor([0.7, -0.4], dtype=torch.float64)[:, None, None].expand(1, 2, 8, 8)
    assert network()(velocity).abs().max() < 1e-10


def test_a_batch_is_the_same_as_one_by_one():
    net, velocity = network(), noise(3, 2, 12, 10)
    assert_close(net(velocity), torch.cat([net(one) for one in velocity.split(1)]))


def test_smallest_grid_works_and_every_weight_gets_a_gradient():
    net = network()
    net(noise(1, 2, 4, 4)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


def test_scripted_is_the_eager_network():
    net, velocity = network(), noise(2, 2, 12, 10)
    scripted = torch.jit.script(net)
    for _ in range(3):  # the first calls are profiled, the third runs optimised code
        assert_close(scripted(velocity), net(velocity))
