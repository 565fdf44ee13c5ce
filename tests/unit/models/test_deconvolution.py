"""The deconvolved quadratic term: exact where the flow is resolved, symmetric and conservative for any weights."""

import math
from types import SimpleNamespace

import pytest
import torch

from hpcsurrogate.core.config import DeconvolutionModel, Filter, FiniteVolumeHost, Flow, SpectralHost
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.export.script import script_module
from hpcsurrogate.models.build import build_model
from hpcsurrogate.models.deconvolution import DeconvolutionNet, flux_divergence
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.finite_volume import FiniteVolumeSolver
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import fold_closure, make_host
from tests.unit.models.test_quadratic_stencil import assert_close, mirror_x, noise, quarter_turn, transpose

DOUBLE = torch.float64
LENGTHS = (2 * math.pi, 2 * math.pi)


def network(shape=(16, 16), lengths=LENGTHS, viscosity=0.02, seed=0):
    """A network with random transfer functions."""
    spacing = tuple(length / n for length, n in zip(lengths, shape, strict=True))
    net = DeconvolutionNet(shape, spacing, viscosity, knots=8, velocity_rms=0.5).double()
    with torch.no_grad():
        net.values += 0.3 * torch.randn(8, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    return net


@pytest.mark.parametrize("shape, lengths", [((16, 16), LENGTHS), ((20, 16), (3.0, 4.0))])
def test_untrained_it_returns_the_exact_commutator_of_a_resolved_flow(shape, lengths):
    """With modes up to a quarter of the grid's, every product is resolved: what the host misses is its own error."""
    flow = Flow(domain=lengths, viscosity=0.02, drag=0.1)
    host = make_host(FiniteVolumeHost(kind="finite_volume", grid=shape, time_step=0.01), flow, DOUBLE)
    fine = Grid((48, 48), lengths, DOUBLE)
    stream_hat = torch.fft.rfft2(noise(2, 48, 48))
    mx, my = (k * length / (2 * math.pi) for k, length in zip(fine.k, lengths, strict=True))
    stream_hat = stream_hat * ((mx.abs() < shape[0] / 4 - 0.5) & (my < shape[1] / 4 - 0.5))
    velocity = torch.fft.irfft2(torch.stack((1j * fine.ky * stream_hat, -1j * fine.kx * stream_hat), 1), s=(48, 48))
    graining = CoarseGraining(flow, fine, host, Filter(kind="face_average"))
    net = network(shape, lengths)
    with torch.no_grad():
        net.values.zero_()  # a = b = 1 and no damping
        found = host.project(net(graining.velocity(velocity)))
    assert_close(found, graining.commutator(velocity))


def test_takes_out_the_fluxes_of_the_host():
    grid = Grid((12, 16), (3.0, 5.0), DOUBLE)
    solver = FiniteVolumeSolver(grid, Flow(domain=grid.lengths, viscosity=0.02))
    velocity = noise(2, 2, 12, 16)
    assert_close(flux_divergence(velocity, *grid.spacing), -solver.advection(velocity))


def test_in_place_of_the_fluxes_of_the_host_it_is_the_same_in_the_mean_of_two_stages():
    flow = Flow(domain=(3.0, 5.0), viscosity=0.02)
    host = make_host(FiniteVolumeHost(kind="finite_volume", grid=(12, 16), time_step=0.01), flow, DOUBLE)
    net, velocity = network((12, 16), flow.domain), host.project(noise(2, 2, 12, 16))
    folded, left = fold_closure(host, net)
    assert left is None
    state = host.encode(velocity)
    even, odd, *later = (folded.solver.rhs(state, stage) for stage in range(4))
    assert_close(0.5 * (even + odd), host.solver.rhs(state, 0, net))
    assert_close(torch.stack(later), torch.stack((even, odd)))
    # Where no product is aliased, so is every stage, and with it the step.
    smooth = state * (host.grid.k2.sqrt() < 0.25 * math.pi / max(host.grid.spacing))
    assert_close(folded.step(smooth), host.step(smooth, net))


def test_beside_it_another_closure_is_added():
    flow = Flow(domain=LENGTHS, viscosity=0.02)
    host = make_host(FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01), flow, DOUBLE)
    folded, _ = fold_closure(host, network())
    velocity, other = host.project(noise(2, 2, 16, 16)), torch.sin
    held = host.decode(folded.solver.rhs(host.encode(velocity), held=other(velocity)))
    for found in (folded.tendency(velocity, other), held):
        assert_close(found, folded.tendency(velocity) + host.project(other(velocity)))


def test_aliases_cancel_between_even_and_odd_stages():
    """Of a flow below 0.88 kmax no product is aliased along both axes, and the mean is the exact product."""
    net, grid = network(), Grid((16, 16), LENGTHS, DOUBLE)
    velocity_hat = torch.fft.rfft2(noise(2, 2, 16, 16)) * (grid.k2.sqrt() < 0.88 * 8)
    to_points, from_points, curl, linear = net.tables(16, 16)
    u, v = fine_values(to_points[0] * velocity_hat).unbind(1)
    products_hat = coarse_modes(torch.stack((u * v, u**2 - v**2), 1), (16, 16))
    exact = linear * velocity_hat + from_points[0] * (curl * products_hat).sum(1, keepdim=True)
    even, odd = (net.advection_hat(velocity_hat, 16, stage) for stage in (0, 1))
    assert_close(0.5 * (even + odd), exact)
    assert (even - exact).abs().max() > 0.1 * exact.abs().max()


def fine_values(coefficients):
    """Point values on a grid three times as fine, where no product of two is aliased; of half-spectra over all axes."""
    shape = coefficients.shape[2:]
    for axis, points in enumerate(shape[:-1], start=2):
        positive, negative = coefficients.split((points // 2, points - points // 2), axis)
        between = positive.new_zeros(()).expand(*(2 * n if i == axis else n for i, n in enumerate(coefficients.shape)))
        coefficients = torch.cat((positive, between, negative), axis)
    fine = [3 * points for points in shape[:-1]] + [6 * (shape[-1] - 1)]
    return torch.fft.irfftn(coefficients, s=fine, dim=tuple(range(2, coefficients.ndim)), norm="forward")


def coarse_modes(values, shape):
    """Half-spectra of such values on the coarse grid of even numbers of points."""
    coefficients = torch.fft.rfftn(values, dim=tuple(range(2, values.ndim)), norm="forward")
    for axis, points in enumerate(shape[:-1], start=2):
        ends = coefficients.split((points // 2, 2 * points, points - points // 2), axis)
        coefficients = torch.cat((ends[0], ends[2]), axis)
    return coefficients[..., : shape[-1] // 2 + 1]


@pytest.mark.parametrize("other", [{"order": 4}, {"advection": "upwind"}, {"closure_calls": "step"}])
def test_is_added_where_the_fluxes_are_others_or_the_closure_is_held(other):
    config = FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01, **other)
    host, net = make_host(config, Flow(domain=LENGTHS, viscosity=0.02), DOUBLE), network()
    assert fold_closure(host, net) == (host, net)


@pytest.mark.parametrize("symmetry", [transpose, mirror_x, quarter_turn, lambda u: torch.roll(u, (3, 5), (2, 3))])
def test_turns_mirrors_and_moves_with_the_flow(symmetry):
    net, velocity = network(), noise(2, 2, 16, 16)
    assert_close(net(symmetry(velocity)), symmetry(net(velocity)))


def test_keeps_momentum_and_leaves_a_uniform_flow_alone():
    net, velocity = network((16, 12), (3.0, 4.0)), noise(2, 2, 16, 12)
    force = net(velocity)
    assert force.mean((2, 3)).abs().max() < 1e-13 * force.abs().max()
    uniform = torch.tensor([3.0, -2.0], dtype=DOUBLE).reshape(1, 2, 1, 1).expand(1, 2, 16, 12)
    # Round-off of products of order ten, differentiated.
    assert net(uniform).abs().max() < 1e-12


def test_a_moving_frame_only_carries_the_flow_along():
    """Host and network together, untrained: d/dt (u + U) = d/dt u - U . grad u, exactly, as in the equations."""
    flow = Flow(domain=LENGTHS, viscosity=0.02)
    host = make_host(FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01), flow, DOUBLE)
    net = network()
    with torch.no_grad():
        net.values.zero_()
        # Without Nyquist modes, which no phase shift can carry, and the corners, which take no part in the products.
        kept = host.grid.resolved & (host.grid.k2.sqrt() < math.pi / min(host.grid.spacing))
        velocity_hat = torch.fft.rfft2(host.project(noise(1, 2, 16, 16))) * kept
        velocity = torch.fft.irfft2(velocity_hat, s=(16, 16))
        frame = torch.tensor([0.7, -0.4], dtype=DOUBLE).reshape(1, 2, 1, 1)
        carried = host.tendency(velocity + frame, net) - host.tendency(velocity, net)
    gradient_along = 0.7 * 1j * host.grid.kx - 0.4 * 1j * host.grid.ky
    assert_close(carried, -torch.fft.irfft2(gradient_along * velocity_hat, s=(16, 16)))


def test_damps_the_short_waves_at_its_start_and_never_feeds_them():
    """A weak shear wave feels viscosity, exactly that of the equations, and the damping."""
    net = DeconvolutionNet((16, 16), (0.25, 0.25), 0.02, knots=16, velocity_rms=0.5).double()
    flow = Flow(domain=(4.0, 4.0), viscosity=0.02)
    host = make_host(FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01), flow, DOUBLE)
    rates = []
    for mode in range(1, 8):
        wave = torch.cos(2 * math.pi * mode / 16 * torch.arange(16, dtype=DOUBLE)).expand(16, 16)
        velocity = 1e-9 * torch.stack((wave, torch.zeros_like(wave)))[None]  # u of y alone
        rates.append(-((velocity * host.tendency(velocity, net)).sum() / velocity.square().sum()).item())
        rates[-1] -= 0.02 * (2 * math.pi * mode / 4) ** 2
    assert rates == sorted(rates) and rates[0] > -1e-12
    # R (7/8)^8 with R = START u_rms / h = 1.5, to the error of a cubic between knots.
    assert rates[-1] == pytest.approx(1.5 * (7 / 8) ** 8, rel=0.03)


def test_other_grids_of_the_same_cells_and_the_exported_form():
    net = network()
    velocity = noise(1, 2, 16, 16)
    twice = velocity.repeat(1, 1, 2, 1)
    # The grid that the tables were made for, and one that they are made for on the way.
    assert_close(net(twice), net(velocity).repeat(1, 1, 2, 1))
    scripted = script_module(net)
    for field in (velocity, noise(2, 2, 12, 20), noise(1, 2, 9, 7)):
        assert_close(scripted(field), net(field))


def test_learns_transfer_functions_that_made_the_data():
    """Only the products with b tell a from b; with a known, least squares on the output find b and d."""
    teacher, student = network(seed=1), network(seed=2)
    with torch.no_grad():
        student.values[:, 0] = teacher.values[:, 0]
    velocity = noise(4, 2, 16, 16)
    target = teacher(velocity).detach()
    optimizer = torch.optim.LBFGS([student.values], lr=1, max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (student(velocity) - target).square().mean() / target.square().mean()
        loss.backward()
        student.values.grad[:, 0] = 0
        return loss

    first = closure().item()
    optimizer.step(closure)
    # The last knot is seen by the corner modes alone, so the functions are judged by what they do.
    assert closure().item() < 1e-5 * first


def test_is_built_for_the_host_whose_fluxes_it_replaces():
    model, flow = DeconvolutionModel(kind="deconvolution", knots=9), Flow(viscosity=0.01, domain=(3.0, 4.0))
    host = FiniteVolumeHost(kind="finite_volume", grid=(16, 20), time_step=0.01)
    net = build_model(model, host, flow, SimpleNamespace(velocity_rms=0.4, commutator_rms=1.0))
    assert (net.nx, net.ny, net.hx, net.hy) == (16, 20, 3 / 16, 0.2)
    assert net.rate_scale.item() == pytest.approx(0.4 / 0.2) and net.viscosity == 0.01
    spectral = SpectralHost(kind="spectral", grid=(16, 16), time_step=0.01)
    others = [{"order": 4}, {"order": 6}, {"advection": "upwind"}]
    for wrong in (spectral, *(host.model_copy(update=other) for other in others)):
        with pytest.raises(ConfigError, match="deconvolution replaces the central fluxes of second order"):
            build_model(model, wrong, flow, None)
