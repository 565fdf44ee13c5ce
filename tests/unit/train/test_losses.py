"""What the two losses measure, in both hosts and double precision."""

import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, SpectralHost
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.train.losses import apriori_loss, snapshot_errors, unrolled_loss

HOSTS = [
    FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01),
    SpectralHost(kind="spectral", grid=(16, 16), time_step=0.01),
]


@pytest.fixture(params=HOSTS, ids=lambda config: config.kind)
def host(request):
    return make_host(request.param, Flow(viscosity=0.01), dtype=torch.float64)


@pytest.fixture
def velocity_blcxy(host):
    """Two windows of four snapshots, unrelated to each other, divergence-free."""
    noise = torch.randn(2, 4, 2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return host.project(noise)


def test_apriori_loss_is_one_without_closure_and_zero_with_the_target(host, velocity_blcxy):
    velocity, target = velocity_blcxy[:, 0], velocity_blcxy[:, 1]
    rms = target.square().mean().sqrt().item()
    # The projection is idempotent to round-off, 1e-16 of each mode.
    assert apriori_loss(torch.zeros_like, host, velocity, target, rms).item() == pytest.approx(1.0, abs=1e-12)
    assert apriori_loss(lambda _: target, host, velocity, target, rms).item() == 0.0


def test_apriori_loss_does_not_see_a_gradient(host, velocity_blcxy):
    velocity, target = velocity_blcxy[:, 0], velocity_blcxy[:, 1]
    noise = torch.randn(2, 2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradient = noise - host.project(noise)
    # An acceleration of order 1 leaves round-off, 1e-16, squared.
    assert apriori_loss(lambda _: target + gradient, host, velocity, target, 1.0).item() < 1e-28


def test_snapshot_errors_vanish_on_the_host_s_own_trajectory(host, velocity_blcxy):
    state, snapshots = host.encode(velocity_blcxy[:, 0]), [velocity_blcxy[:, 0]]
    for _ in range(3):
        state = host.step(host.step(state))
        snapshots.append(host.decode(state))
    errors = snapshot_errors(host, torch.stack(snapshots, dim=1), steps_per_snapshot=2)
    assert errors.shape == (3,)
    assert torch.equal(errors, torch.zeros(3, dtype=torch.float64))


def test_unrolled_loss_is_one_for_a_closure_that_returns_zero(host, velocity_blcxy):
    bare = snapshot_errors(host, velocity_blcxy, 2)
    # Adding zeros to the right-hand side changes at most the order of additions.
    loss = unrolled_loss(snapshot_errors(host, velocity_blcxy, 2, torch.zeros_like), bare)
    assert loss.item() == pytest.approx(1.0, rel=1e-12)
    shorter = unrolled_loss(snapshot_errors(host, velocity_blcxy[:, :2], 2, torch.zeros_like), bare)
    assert shorter.item() == pytest.approx(1.0, rel=1e-12)


def test_gradient_through_the_window_equals_its_finite_difference(host, velocity_blcxy):
    bare = snapshot_errors(host, velocity_blcxy, 2)

    def loss(constant):
        return unrolled_loss(snapshot_errors(host, velocity_blcxy, 2, lambda velocity: -constant * velocity), bare)

    constant = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(constant), constant)
    step = 1e-4  # central difference: error step^2 = 1e-8 of a smooth function, round-off 1e-16 / 1e-4 = 1e-12
    difference = (loss(constant.detach() + step) - loss(constant.detach() - step)) / (2 * step)
    assert gradient.item() == pytest.approx(difference.item(), rel=1e-6)
