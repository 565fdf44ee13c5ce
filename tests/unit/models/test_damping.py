"""The learned damping: what it keeps, that a host may take it in, and that both ways of training find known rates."""

import math

import pytest
import torch

from hpcsurrogate.core.config import DampingModel, FiniteVolumeHost, Flow, SpectralHost
from hpcsurrogate.models.build import build_model
from hpcsurrogate.models.damping import DampingNet
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import fold_closure, make_host
from hpcsurrogate.train.losses import apriori_loss, snapshot_errors

SHAPES = [(16, 24), (8, 12, 10)]
DOUBLE = torch.float64


@pytest.fixture(params=SHAPES, ids=["2-D", "3-D"])
def grid(request):
    """Cells that are not square."""
    lengths = tuple(0.1 * (axis + 2) * n for axis, n in enumerate(request.param))
    return Grid(request.param, lengths, DOUBLE)


@pytest.fixture
def net(grid):
    torch.manual_seed(0)
    net = DampingNet(grid.spacing, 12, velocity_rms=0.7).to(DOUBLE)
    with torch.no_grad():
        net.values += 0.1 * torch.randn_like(net.values)
    return net


def noise(grid, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, grid.num_dims, *grid.shape, generator=generator, dtype=DOUBLE)


def test_a_wave_is_damped_at_its_own_rate(net, grid):
    """A plane wave is an eigenvector, and its rate is one of those that a host is told."""
    mode = (5, 7) if grid.num_dims == 2 else (3, 4, 4)
    waves = zip(mode, grid.coordinates(), grid.lengths, strict=True)
    phase = sum(2 * math.pi * m * x / length for m, x, length in waves)
    wave = torch.cos(phase).expand(1, grid.num_dims, *grid.shape)
    rates = net.damping_rates(grid)
    # Round-off of the transforms, 1e-16 of the largest rate.
    assert torch.allclose(net(wave), -rates[mode] * wave, rtol=0, atol=1e-14 * rates.max().item())


def test_takes_energy_and_keeps_momentum_and_divergence(net, grid):
    velocity = noise(grid)
    power = (velocity * net(velocity)).sum()
    assert power < 0
    assert (net.damping_rates(grid) >= 0).all() and net.damping_rates(grid).flatten()[0] == 0
    damping = net(velocity)
    assert damping.mean(tuple(range(2, velocity.ndim))).abs().max() < 1e-15 * damping.abs().max()
    host = make_host(SpectralHost(kind="spectral", grid=grid.shape, dealias="shift", time_step=0.1), flow(grid), DOUBLE)
    solenoidal = host.project(velocity)
    # The projection is a factor of each mode too, so the two commute to round-off.
    damping = net(solenoidal)
    assert torch.allclose(host.project(damping), damping, rtol=0, atol=1e-14 * damping.abs().max().item())


def test_turns_and_mirrors_with_the_flow():
    grid = Grid((12, 12, 12), (1.0, 1.0, 1.0), DOUBLE)
    net, velocity = DampingNet(grid.spacing, 8).to(DOUBLE), noise(grid)
    turned = torch.rot90(velocity, 1, (2, 4))
    assert torch.allclose(net(turned), torch.rot90(net(velocity), 1, (2, 4)), rtol=0, atol=1e-11)
    assert torch.allclose(net(velocity.flip(3)), net(velocity).flip(3), rtol=0, atol=1e-11)


def test_passes_through_the_values_at_its_knots_and_in_use_is_above_the_floor(net, grid):
    """Along the diagonal of the axes' largest wavenumbers, which ends in the corner."""
    spread = math.hypot(*(max(grid.spacing) / h for h in grid.spacing))  # of the corner, in units of kmax
    knots = torch.linspace(0, spread, 12, dtype=DOUBLE)
    shares = [knots / spread] * grid.num_dims
    # The cubic at t = 1 - 1e-16 times its slope, which is of order one.
    assert torch.allclose(net.rates(shares)[1:], (net.rate_scale * net.values.square())[1:], rtol=1e-12)
    floor = (math.sqrt(2) * knots / spread) ** 18 if grid.num_dims == 2 else torch.zeros_like(knots)
    highest = torch.maximum(net.values.square(), floor)
    assert torch.allclose(net.eval().rates(shares)[1:], (net.rate_scale * highest)[1:], rtol=1e-12)
    assert grid.num_dims == 3 or (highest > net.values.square()).any() and (highest > floor).any()


def test_starts_as_hyperviscosity_of_the_eighth_order():
    net = DampingNet((0.1, 0.1), 32, velocity_rms=0.6).to(DOUBLE)
    ratio = torch.linspace(0.5, 1.0, 50, dtype=DOUBLE)
    # Cubics with such slopes are of third order: knots 0.046 apart, where x^4 has the third derivative 24 x, miss up
    # to 0.046^3 * 24 x / 16 or so, 0.06 % of x^4 at x = 0.5, where it is the most, and twice that of its square.
    assert torch.allclose(net.rates([ratio, torch.zeros_like(ratio)]), 3.0 * ratio**8, rtol=3e-3)


def test_scripted_and_frozen_it_is_the_same(net, grid):
    scripted = torch.jit.freeze(torch.jit.script(net.eval()))
    assert torch.equal(scripted(noise(grid)), net(noise(grid)))


@pytest.mark.parametrize("kind", ["spectral", "finite_volume"])
@pytest.mark.parametrize("shape", SHAPES, ids=["2-D", "3-D"])
def test_in_the_host_s_linear_term_it_does_the_same(kind, shape):
    """Folded in, it is integrated exactly or by the host's own stages: steps differ by their error, of fifth order."""
    lengths = tuple(0.25 * n for n in shape)
    differences = []
    for dt in (0.02, 0.01):
        section = (SpectralHost if kind == "spectral" else FiniteVolumeHost)(kind=kind, grid=shape, time_step=dt)
        host = make_host(section, Flow(domain=lengths, viscosity=1e-3), DOUBLE)
        net = DampingNet(host.grid.spacing, 8).to(DOUBLE)
        damped, rest = fold_closure(host, net)
        assert rest is None
        state = host.encode(host.project(noise(host.grid)))
        with torch.no_grad():
            differences.append((damped.decode(damped.step(state)) - host.decode(host.step(state, net))).abs().max())
        velocity = host.project(noise(host.grid))
        assert torch.allclose(damped.tendency(velocity), host.tendency(velocity, net), rtol=0, atol=1e-10)
    # 2^5 = 32; steps that long do not show the last bit of the order. Equal to round-off is fine too.
    assert differences[1] < differences[0] / 16 or differences[0] < 1e-12


def flow(grid):
    return Flow(domain=grid.lengths, viscosity=1e-3)


def build(host_section, flow_section):
    torch.manual_seed(0)
    return build_model(DampingModel(kind="damping", knots=8), host_section, flow_section, None)


def train(net, loss, steps, rate):
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    return value.item()


def test_training_a_priori_finds_known_rates():
    """The target is a damping itself, of other strength and slope than the start's."""
    section = SpectralHost(kind="spectral", grid=(24, 24), dealias="shift", time_step=0.1)
    problem = Flow(viscosity=1e-3)
    host, net = make_host(section, problem), build(section, problem)
    ratio = host.grid.k2.sqrt() * host.grid.spacing[0] / math.pi
    truth = 2.0 * ratio**2
    noise_hat = torch.fft.rfft2(torch.randn(8, 2, 24, 24, generator=torch.Generator().manual_seed(2)))
    velocity = host.project(torch.fft.irfft2(noise_hat * (ratio < 1)))  # the rates of the corners are not as free
    target = torch.fft.irfft2(-truth * torch.fft.rfft2(velocity))
    scale = target.square().mean().sqrt().item()
    assert train(net, lambda: apriori_loss(net, host, velocity, target, scale), 300, 0.03) < 1e-3
    # The root of the truth is a straight line, which the cubics hold exactly; what is left is the training's.
    middle = (ratio > 0.3) & (ratio < 1) & host.grid.resolved
    assert torch.allclose(net.damping_rates(host.grid)[middle], truth[middle], rtol=0.15)


@pytest.mark.parametrize("shape", [(16, 16), (8, 8, 8)], ids=["2-D", "3-D"])
def test_training_through_the_solver_finds_known_rates(shape):
    """The data are runs of the host with rates that are known."""
    section = SpectralHost(kind="spectral", grid=shape, dealias="shift", time_step=0.02)
    problem = Flow(domain=(2 * math.pi,) * len(shape), viscosity=1e-3)
    host, net, known = make_host(section, problem), build(section, problem), build(section, problem)
    with torch.no_grad():
        known.values *= 1.6  # 2.6 times the rates of the start
    truth = host.with_damping(known.damping_rates(host.grid).detach())
    generator = torch.Generator().manual_seed(3)
    states = [host.encode(host.project(torch.randn(4, len(shape), *shape, generator=generator)))]
    with torch.no_grad():
        for _ in range(3):
            states.append(truth.step(truth.step(states[-1])))
        windows = torch.stack([host.decode(state) for state in states], 1)
        bare = snapshot_errors(host, windows, 2, net).mean()
    error = train(net, lambda: snapshot_errors(host, windows, 2, net).mean() / bare, 120, 0.03)
    assert error < 1e-2
    ratio = host.grid.k2.sqrt() * host.grid.spacing[0] / math.pi
    strong = (ratio > 0.75) & (ratio < 1.2) & host.grid.resolved
    found, rates = net.damping_rates(host.grid)[strong], known.damping_rates(host.grid)[strong]
    # The error is down by a factor of a hundred, that of the rates, its root, by ten: a tenth of the 2.6 they were off.
    assert torch.allclose(found, rates, rtol=0.2)
