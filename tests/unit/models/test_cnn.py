"""The plain periodic network: periodicity, momentum, scales, batches, dropout, script."""

import pytest
import torch

from hpcsurrogate.models.cnn import PeriodicCnn

ROUND_OFF = 1e-12  # float64, outputs of order 1


def noise(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network(kernel_size=5, **scales):
    torch.manual_seed(0)
    return PeriodicCnn(channels=6, hidden_layers=2, kernel_size=kernel_size, **scales).double()


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (5, -3)])
def test_equivariant_under_translations(shift, kernel_size):
    net, velocity = network(kernel_size), noise(2, 2, 12, 10)
    moved = net(torch.roll(velocity, shift, (-2, -1)))
    torch.testing.assert_close(moved, torch.roll(net(velocity), shift, (-2, -1)), rtol=0, atol=ROUND_OFF)


def test_momentum_is_conserved():
    force = network()(noise(3, 2, 12, 10))
    assert force.abs().max() > 0.01
    assert force.mean((-2, -1)).abs().max() < ROUND_OFF


def test_scales_make_input_and_output_physical():
    velocity = noise(2, 2, 12, 10)
    scaled = network(velocity_scale=4.0, force_scale=0.5)
    torch.testing.assert_close(scaled(4 * velocity), 0.5 * network()(velocity), rtol=0, atol=ROUND_OFF)
    assert {"velocity_scale", "force_scale"} <= scaled.state_dict().keys()


def test_a_batch_is_the_same_as_one_by_one():
    net, velocity = network(), noise(3, 2, 12, 10)
    alone = torch.cat([net(one) for one in velocity.split(1)])
    torch.testing.assert_close(net(velocity), alone, rtol=0, atol=ROUND_OFF)


def test_dropout_leaves_out_whole_channels_of_a_sample_while_training():
    torch.manual_seed(0)
    net = PeriodicCnn(channels=400, hidden_layers=1, kernel_size=3, dropout=0.25).double()
    seen = []
    net.layers[1].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    velocity = noise(50, 2, 4, 4)
    net(velocity), net.eval()(velocity)
    dropped, whole = seen
    left_out = (dropped == 0.0).flatten(2)
    assert torch.equal(left_out.all(2), left_out.any(2))
    # Of 20000 channels a quarter is left out, give or take sqrt(20000 * 0.25 * 0.75) = 61: five deviations are 1.5 %.
    assert left_out[:, :, 0].double().mean().item() == pytest.approx(0.25, abs=0.0155)
    kept = dropped != 0.0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75, rtol=0, atol=ROUND_OFF)  # the mean stays the same


def test_dropout_changes_training_alone():
    net, velocity = network(), noise(2, 2, 12, 10)
    torch.manual_seed(0)
    dropping = PeriodicCnn(channels=6, hidden_layers=2, kernel_size=5, dropout=0.5).double()
    assert dropping.state_dict().keys() == net.state_dict().keys()
    assert not torch.equal(dropping(velocity), dropping(velocity))
    assert torch.equal(dropping.eval()(velocity), net(velocity))
    state = torch.get_rng_state()
    dropping(velocity), net.train()(velocity)
    assert torch.equal(torch.get_rng_state(), state)  # nothing is drawn where nothing is dropped


def test_scripted_is_the_eager_network():
    net, velocity = network(), noise(2, 2, 12, 10)
    scripted = torch.jit.script(net)
    for _ in range(3):  # the first calls are profiled, the third runs optimised code
        torch.testing.assert_close(scripted(velocity), net(velocity), rtol=0, atol=ROUND_OFF)
