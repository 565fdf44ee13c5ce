"""Small scales that a network estimates: what holds for any weights, and that the true ones make the true stress."""

import math

import pytest
import torch

from hpcsurrogate.core.config import Filter, FiniteVolumeHost, Flow, ScaleEstimationModel, SpectralHost
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.embed.archive import read_entries
from hpcsurrogate.embed.archive_code import check_code
from hpcsurrogate.evaluate.cells import deviatoric
from hpcsurrogate.export.script import script_module
from hpcsurrogate.models.build import build_model
from hpcsurrogate.models.scale_estimation import ScaleEstimationNet, stress_with
from hpcsurrogate.models.spectral_cells import spectral_gradient
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host

DOUBLE = torch.float64
ROUND_OFF = 1e-12  # float64, relative to the largest value
LENGTHS = (2 * math.pi, 3.0)
shapes = pytest.mark.parametrize("shape", [(12, 16), (10, 14)])  # with and without a mode at 1.5 k_c itself


def spacing_of(shape):
    return tuple(length / n for length, n in zip(LENGTHS, shape, strict=True))


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def network_of(shape):
    torch.manual_seed(0)
    return ScaleEstimationNet(spacing_of(shape), 4, 2, 3).double().requires_grad_(False)


def solenoidal(shape, fine, highest, seed=0):
    """A velocity (1, 2, *fine) of random modes, those along an axis of n coarse points up to `highest` n, exclusive."""
    grid = Grid(fine, LENGTHS, dtype=DOUBLE)
    modes = [torch.fft.fftfreq(n, 1 / n, dtype=DOUBLE).abs() for n in fine]
    kept = (modes[0] < highest * shape[0]).unsqueeze(1) & (modes[1] < highest * shape[1])
    stream = torch.fft.ifft2(torch.fft.fft2(noise(1, 1, *fine, seed=seed)) * kept).real
    slopes = spectral_gradient(stream, list(grid.spacing))
    return torch.stack((slopes[:, 1], -slopes[:, 0]), 1)


@shapes
def test_true_small_scales_make_the_true_stress(shape):
    """Of a velocity without modes beyond 1.5 k_c, on whatever finer grid it is given; the filter is another code."""
    fine = tuple(3 * n for n in shape)
    velocity = solenoidal(shape, fine, 0.75)
    flow = Flow(domain=LENGTHS, viscosity=1e-3)
    host = make_host(SpectralHost(kind="spectral", grid=shape, dealias="shift", time_step=0.1), flow, DOUBLE)
    graining = CoarseGraining(flow, Grid(fine, LENGTHS, dtype=DOUBLE), host, Filter(kind="sharp"))
    fields = graining.fields(velocity)
    twice = tuple(2 * n for n in shape)
    doubled = solenoidal_on(velocity, twice)
    gradient = spectral_gradient(doubled, [length / n for length, n in zip(LENGTHS, twice, strict=True)])
    vorticity = gradient[:, 2:3] - gradient[:, 1:2]
    found = stress_with(fields["velocity"], vorticity, list(spacing_of(shape)))
    exact = deviatoric(fields["sgs_stress"], 2)
    assert exact.abs().max() > 0.1
    torch.testing.assert_close(deviatoric(found, 2), exact, rtol=0, atol=ROUND_OFF * exact.abs().max().item())


def solenoidal_on(velocity, shape):
    """The same trigonometric polynomial on fewer points, which hold all its modes."""
    coefficients = torch.fft.fftshift(torch.fft.fft2(velocity, norm="forward"), dim=(2, 3))
    starts = [old // 2 - new // 2 for old, new in zip(velocity.shape[2:], shape, strict=True)]
    cut = coefficients[:, :, starts[0] : starts[0] + shape[0], starts[1] : starts[1] + shape[1]]
    return torch.fft.ifft2(torch.fft.ifftshift(cut, dim=(2, 3)), norm="forward").real


@shapes
def test_moves_with_the_flow_and_has_its_scales(shape):
    network, velocity = network_of(shape), solenoidal(shape, shape, 0.5)
    force = network(velocity)
    scale = force.abs().max().item()
    assert scale > 1e-3
    for other in (
        network(velocity.roll((3, 5), (2, 3))).roll((-3, -5), (2, 3)),
        network(velocity + 7.0),  # seen from a moving frame
        network(0.3 * velocity) / 0.09,
    ):
        torch.testing.assert_close(other, force, rtol=0, atol=100 * ROUND_OFF * scale)
    assert force.sum((2, 3)).abs().max() < ROUND_OFF * force.abs().sum()


@shapes
def test_deviatoric_and_without_the_modes_that_the_grid_cannot_hold(shape):
    stress = network_of(shape).cell_stress(solenoidal(shape, shape, 0.5))
    assert torch.equal(stress[:, 0], -stress[:, 2])
    coefficients = torch.fft.fft2(stress).abs()
    for axis in (2, 3):
        assert coefficients.select(axis, shape[axis - 2] // 2).max() < ROUND_OFF * coefficients.max()


def test_fluid_at_rest_and_uniform_flow_have_no_force():
    network = network_of((12, 16))
    for velocity in (torch.zeros(1, 2, 12, 16), torch.full((1, 2, 12, 16), 3.0)):
        assert network.float()(velocity).abs().max() < 1e-12


def test_every_weight_learns_from_the_stress():
    network = network_of((12, 16)).requires_grad_(True)
    network.cell_stress(solenoidal((12, 16), (12, 16), 0.5)).square().sum().backward()
    for name, parameter in network.named_parameters():
        # What is the same at all four points of all cells has no modes of the band: no gradient beyond round-off there.
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@shapes
def test_scripted_it_says_the_same_and_calls_what_a_closure_may(shape):
    network, velocity = network_of(shape), solenoidal(shape, shape, 0.5)
    scripted = script_module(network)
    torch.testing.assert_close(scripted(velocity), network(velocity), rtol=0, atol=ROUND_OFF)
    entries = read_entries(scripted.save_to_buffer(), "network", None)
    code = {name: text for name, text in entries.items() if name.endswith(".py")}
    assert code
    for name, text in code.items():
        check_code(text, name, "network")  # raises on an operator that no host lets in


def test_is_for_spectral_hosts_of_two_dimensions():
    model = ScaleEstimationModel(kind="scale_estimation", channels=4, hidden_layers=1)
    flow = Flow(viscosity=0.01)
    spectral = SpectralHost(kind="spectral", grid=(16, 16), time_step=0.01)
    assert build_model(model, spectral, flow, None).spacing == [math.pi / 8] * 2
    with pytest.raises(ConfigError, match="train.model.kind: scale_estimation is for a spectral host"):
        build_model(model, FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.01), flow, None)
