"""What the two losses measure, in both hosts and double precision."""

import math

import pytest
import torch
from torch import nn

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, SpectralHost
from hpcsurrogate.models.damping import DampingNet
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


# --- memory and length of the back-propagation, in two and three dimensions -------------------------------------------

THREE_D = SpectralHost(kind="spectral", grid=(8, 8, 8), time_step=0.01)


class Drag(nn.Module):
    """A closure with weights that is no linear damping: quadratic drag, and a learned share of the speed's mean."""

    def __init__(self):
        super().__init__()
        self.strength = nn.Parameter(torch.tensor([0.3, 0.2], dtype=torch.float64))

    def forward(self, velocity):
        speed = velocity.square().sum(1, keepdim=True).sqrt()
        return -(self.strength[0] * speed + self.strength[1] * speed.mean()) * velocity


@pytest.fixture(params=[*HOSTS, THREE_D], ids=["staggered", "collocated", "3-D"])
def any_host(request):
    num_dims = len(request.param.grid)
    return make_host(request.param, Flow(domain=(2 * math.pi,) * num_dims, viscosity=0.01), dtype=torch.float64)


def windows(host, length, seed=1):
    """Two windows of unrelated, divergence-free snapshots."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2 * (length + 1), host.grid.num_dims, *host.grid.shape)
    velocity = host.project(torch.randn(shape, dtype=torch.float64, generator=generator))
    return velocity.unflatten(0, (2, length + 1))


def gradient_of(host, velocity, closure, **settings):
    errors = snapshot_errors(host, velocity, 2, closure, **settings)
    (gradient,) = torch.autograd.grad(errors.sum(), list(closure.parameters())[0])
    return errors.detach(), gradient


@pytest.mark.parametrize("make", [Drag, "damping"], ids=["drag", "damping"])
def test_recomputed_steps_have_the_same_gradients(any_host, make):
    """The same operations on the same numbers, once more: errors bit for bit."""
    closure = Drag() if make is Drag else DampingNet(any_host.grid.spacing, 6).double()
    velocity = windows(any_host, 3)
    kept, recomputed = (gradient_of(any_host, velocity, closure, recompute=flag) for flag in (False, True))
    assert torch.equal(kept[0], recomputed[0])
    # Only the order of the sum over the steps may differ.
    assert torch.allclose(kept[1], recomputed[1], rtol=1e-12, atol=0)


def test_recomputing_keeps_a_step_s_memory_instead_of_a_window_s(any_host):
    """Counted in what autograd keeps: with twice the steps twice as much, but only the states of it if recomputed."""
    closure = Drag()

    def kept_bytes(length, recompute):
        sizes = {}

        def note(tensor):
            sizes[tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            snapshot_errors(any_host, windows(any_host, length), 4, closure, recompute=recompute)
        return sum(nbytes for _, nbytes in sizes)

    growth = [kept_bytes(6, recompute) - kept_bytes(3, recompute) for recompute in (False, True)]
    # Four calls of the closure a step keep at least four fields each; of a recomputed one the state is left.
    assert growth[1] < growth[0] / 5


def test_truncated_gradients_are_those_of_the_parts(any_host):
    """Cut after every second interval: the gradient of each part is that of a window that starts from its state."""
    closure, velocity = Drag(), windows(any_host, 4)
    errors, gradient = gradient_of(any_host, velocity, closure, back_propagation=2)
    whole, full_gradient = gradient_of(any_host, velocity, closure)
    assert torch.equal(errors, whole), "the values do not depend on where gradients are cut"
    assert not torch.allclose(gradient, full_gradient, rtol=1e-6)
    with torch.no_grad():
        state = any_host.encode(velocity[:, 0])
        for _ in range(4):
            state = any_host.step(state, closure)
        second = velocity[:, 2:].clone()
        second[:, 0] = any_host.decode(state)
    parts = gradient_of(any_host, velocity[:, :3], closure)[1] + gradient_of(any_host, second, closure)[1]
    # The state of the second part has gone to the grid and back: round-off, carried through four steps.
    assert torch.allclose(gradient, parts, rtol=1e-10)
    assert torch.equal(gradient_of(any_host, velocity, closure, back_propagation=4)[1], full_gradient)
