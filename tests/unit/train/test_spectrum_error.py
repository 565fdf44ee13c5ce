"""The spectrum's part of the unrolled loss: what it measures, and that it is the same however a batch is shared."""

import math

import numpy as np
import pytest
import torch

from hpcsurrogate.core.config import FiniteVolumeHost, Flow, SpectralHost
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host
from hpcsurrogate.train.losses import snapshot_errors, spectrum_error
from hpcsurrogate.train.phases import UnrolledPhase
from hpcsurrogate.train.stage import open_data

BOX = 2 * math.pi
HOSTS = {
    "staggered": FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01),
    "collocated": SpectralHost(kind="spectral", grid=(16, 16), time_step=0.01),
    "staggered 3-D": FiniteVolumeHost(kind="finite_volume", grid=(8, 8, 8), time_step=0.01),
    "collocated 3-D": SpectralHost(kind="spectral", grid=(8, 8, 8), time_step=0.01),
}


@pytest.fixture(params=HOSTS.values(), ids=HOSTS.keys())
def host(request):
    flow = Flow(domain=(BOX,) * len(request.param.grid), viscosity=0.01)
    return make_host(request.param, flow, dtype=torch.float64)


def velocities(host, samples=4, seed=1):
    """Divergence-free noise: energy in every shell."""
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, host.grid.num_dims, *host.grid.shape)
    return host.project(torch.randn(shape, dtype=torch.float64, generator=generator))


def test_equal_fields_have_no_error_and_twice_the_velocity_has_log_four_squared(host):
    velocity = velocities(host)
    assert spectrum_error(velocity, velocity, host.grid).item() == 0.0
    # The floor, 1e-10 of the fullest shell, stands in both spectra; the emptiest shell has a hundredth of that energy.
    doubled = spectrum_error(2 * velocity, velocity, host.grid).item()
    assert doubled == pytest.approx(math.log(4) ** 2, rel=1e-7)
    assert spectrum_error(velocity / 2, velocity, host.grid).item() == pytest.approx(math.log(4) ** 2, rel=1e-7)


def test_only_the_damped_shell_counts_and_as_one_of_all_that_are_whole():
    """Waves of numbers 1 to 7 on 16 points: shells 1 to 7. Wave 5 at a third of its amplitude has a ninth of E(5)."""
    grid = Grid((16, 16), (BOX, BOX))
    x = grid.coordinates()[0].expand(16, 16)
    waves = torch.stack([torch.cos(number * x + number) for number in range(1, 8)])
    weight = torch.ones(7, dtype=torch.float64)
    weight[4] = 1 / 3
    target, velocity = (
        torch.stack((torch.zeros(16, 16, dtype=torch.float64), (w[:, None, None] * waves).sum(0)))[None]
        for w in (torch.ones(7, dtype=torch.float64), weight)
    )
    # The floor changes a shell's ratio by 1e-10 of it, times 9.
    assert spectrum_error(velocity, target, grid).item() == pytest.approx(math.log(9) ** 2 / 7, rel=1e-8)


def test_waves_beyond_the_whole_shells_do_not_count():
    """Corner modes and those of the Nyquist wavenumber, of which a grid holds half: no shell of theirs is whole."""
    grid = Grid((16, 16), (BOX, BOX))
    x, y = (c.expand(16, 16) for c in grid.coordinates())
    host = make_host(HOSTS["collocated"], Flow(domain=(BOX, BOX), viscosity=0.01), dtype=torch.float64)
    velocity = velocities(host)
    beyond = torch.stack((torch.cos(7 * x + 7 * y), -torch.cos(7 * x + 7 * y)))
    nyquist = torch.stack((torch.cos(8 * y), torch.cos(8 * x)))
    # Round-off of the transforms, 1e-16 of each amplitude, squared as the error is.
    assert spectrum_error(velocity + beyond + nyquist, velocity, grid).item() < 1e-24


def test_moving_turning_and_reflecting_one_of_the_fields_changes_nothing(host):
    velocity, target = velocities(host), velocities(host, seed=2)
    expected = spectrum_error(velocity, target, host.grid).item()
    components = list(range(host.grid.num_dims))
    turned = torch.rot90(velocity, 1, (2, 3))[:, [1, 0, *components[2:]]]
    turned[:, 0] *= -1
    for changed in (velocity.roll((3, 5), (2, 3)), turned, velocity.flip(2), -velocity):
        # Sums over the modes of a shell in another order: round-off.
        assert spectrum_error(changed, target, host.grid).item() == pytest.approx(expected, rel=1e-10)
    assert expected > 0.01, "two unrelated fields differ in their spectra"


def test_the_gradient_equals_its_finite_difference(host):
    velocity, target = velocities(host), velocities(host, seed=2)
    direction = velocities(host, seed=3)
    velocity.requires_grad_()
    (gradient,) = torch.autograd.grad(spectrum_error(velocity, target, host.grid), velocity)
    step = 1e-5  # central difference: error step^2 = 1e-10 of a smooth function, round-off 1e-16 / 1e-5 = 1e-11
    above, below = (spectrum_error(velocity.detach() + s * direction, target, host.grid) for s in (step, -step))
    assert (gradient * direction).sum().item() == pytest.approx(((above - below) / (2 * step)).item(), rel=1e-6)


def test_float32_is_finite_where_shells_or_fluids_are_empty():
    """A smooth flow leaves round-off in its last shells, whose logarithm means nothing: below the floor it counts 0."""
    grid = Grid((32, 32), (BOX, BOX), torch.float32)
    x, y = grid.coordinates()
    smooth = torch.stack((torch.sin(x) * torch.cos(y), -torch.cos(x) * torch.sin(y)))[None]
    noisy = smooth + 1e-7 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(1))
    for velocity, target in ((noisy, smooth), (smooth, noisy), (0 * smooth, 0 * smooth), (0 * smooth, smooth)):
        velocity = velocity.clone().requires_grad_()
        error = spectrum_error(velocity, target, grid)
        (gradient,) = torch.autograd.grad(error, velocity)
        assert torch.isfinite(error) and torch.isfinite(gradient).all()
    # Noise of 1e-7 has 1e-14 of the energy, a hundredth of a thousandth of it in a shell: far below the floor, 1e-10.
    assert spectrum_error(noisy, smooth, grid).item() < 1e-6


def test_a_batch_has_the_mean_of_its_parts(host):
    """What ranks and accumulated parts rely on: they average the losses of equal parts."""
    velocity, target = velocities(host), velocities(host, seed=2)
    parts = [spectrum_error(v, t, host.grid).item() for v, t in zip(velocity.split(1), target.split(1), strict=True)]
    assert spectrum_error(velocity, target, host.grid).item() == pytest.approx(np.mean(parts), rel=1e-12)
    assert np.ptp(parts) > 1e-3 * np.mean(parts), "the parts differ, so that the mean says something"


def test_snapshot_errors_take_the_measure_of_each_snapshot(host):
    """A window that the host itself has run, every velocity after the first doubled."""
    state = host.encode(velocities(host))
    snapshots = [host.decode(state)]
    for _ in range(3):
        state = host.step(state)
        snapshots.append(2 * host.decode(state))
    window = torch.stack(snapshots, dim=1)

    def measure(velocity, target):
        return torch.stack((torch.ones((), dtype=torch.float64), spectrum_error(velocity, target, host.grid)))

    errors = snapshot_errors(host, window, 1, measure=measure)
    assert errors.shape == (3, 2)
    assert torch.allclose(errors[:, 1], torch.full((3,), math.log(4) ** 2, dtype=torch.float64), rtol=1e-7, atol=0)


# --- in the unrolled phase: a tiny Kolmogorov flow, windows of two snapshots ------------------------------------------


def brake(velocity):
    """A closure that takes too much out of every wave."""
    return -2.0 * velocity


def losses_of(make_run, **settings):
    """Loss of a batch of windows and validation loss, in double precision."""
    unrolled = {"iterations": 4, "batch_size": 4, "snapshots": [2]}
    weight = settings.pop("spectrum_weight", 0.0)
    experiment, paths = make_run(unrolled=unrolled | {"spectrum_weight": weight}, **settings)
    host = make_host(experiment.host, experiment.flow, dtype=torch.float64)
    with open_data(experiment, paths, World()) as data:
        phase = UnrolledPhase(experiment, data, World(), host)
        phase.prepare()
        batches = phase.batches(0)
        batch = next(batches)[2]
        batches.close()
        return batch["velocity"], phase.loss(brake, batch).item(), phase.validation_loss(brake), host


def test_the_loss_has_the_spectrum_s_mean_over_the_window_times_its_weight(make_run):
    velocity, plain, plain_validation, host = losses_of(make_run)
    _, weighted, validation, _ = losses_of(make_run, spectrum_weight=0.5)
    _, twice, twice_validation, _ = losses_of(make_run, spectrum_weight=1.0)
    errors = snapshot_errors(
        host, velocity.double(), 2, brake, measure=lambda ours, truth: spectrum_error(ours, truth, host.grid)
    )
    assert weighted - plain == pytest.approx(0.5 * errors.mean().item(), rel=1e-10)
    # Linear in the weight, to the round-off of a difference; and a fluid held back by 2 / s for 0.2 s has lost energy:
    # most of its shells at least a tenth.
    assert twice - plain == pytest.approx(2 * (weighted - plain), rel=1e-10)
    assert twice_validation - plain_validation == pytest.approx(2 * (validation - plain_validation), rel=1e-10)
    assert min(twice - plain, twice_validation - plain_validation) > math.log(1.1) ** 2


def test_the_validation_is_the_same_in_any_parts(make_run):
    """Five windows in one part or in four of unequal size: each counts once."""
    _, _, whole, _ = losses_of(make_run, spectrum_weight=0.5)
    _, _, parts, _ = losses_of(make_run, spectrum_weight=0.5, accumulate=4)
    assert parts == pytest.approx(whole, rel=1e-12)
