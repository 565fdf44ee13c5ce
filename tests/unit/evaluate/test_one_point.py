"""The floor of pointwise closures on stresses whose conditional mean is known."""

from types import SimpleNamespace

import pytest
import torch

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.evaluate.cells import cell_gradient, cell_stress, deviatoric, from_columns, to_columns
from hpcsurrogate.evaluate.one_point import one_point_floor
from hpcsurrogate.models.tensor_basis import tensor_basis_2d, tensor_basis_3d
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.stress_operators import SpectralOperators

SHAPES = {2: (48, 48), 3: (16, 16, 16)}
NUM_BATCHES = {2: 6, 3: 8}


def make_host(num_dims):
    grid = Grid(SHAPES[num_dims], (6.0,) * num_dims)
    return SimpleNamespace(grid=grid, operators=SpectralOperators(grid))


def smooth_velocity(grid, generator):
    """A random divergence-free field without the Nyquist modes."""
    d = grid.num_dims
    noise = torch.randn(1, d, *grid.shape, dtype=torch.float64, generator=generator)
    axes = tuple(range(-d, 0))
    modes = torch.fft.rfftn(noise, dim=axes) * grid.resolved * torch.exp(-grid.k2 / 20)
    along = sum(k * modes[:, i] for i, k in enumerate(grid.k)) * grid.inverse_k2
    modes = modes - torch.stack([k * along for k in grid.k], 1)
    return torch.fft.irfftn(modes, s=grid.shape, dim=axes)


def pointwise_stress(host, velocity):
    """A stress of the gradient with coefficients that vary with the invariants, and with |G| other than by |G|^2."""
    d = host.grid.num_dims
    gradient = cell_gradient(host.operators, velocity)
    columns = to_columns(gradient)
    square = columns.square().sum(0)
    invariants, tensors = (tensor_basis_2d if d == 2 else tensor_basis_3d)(columns / square.sqrt())
    strength = square / (1 + 0.3 * square)
    stress = strength * ((1 + invariants[0]) * tensors[0] - 0.7 * tensors[1])
    return from_columns(stress, gradient)


def batches(host, seed, noise, signal=1.0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(NUM_BATCHES[host.grid.num_dims]):
        velocity = smooth_velocity(host.grid, generator)
        stress = signal * pointwise_stress(host, velocity)
        if noise:
            added = torch.randn(stress.shape, dtype=torch.float64, generator=generator)
            stress = stress + noise * added
        yield SimpleNamespace(velocity=velocity, sgs_stress=stress)


def splits(host, noise, signal=1.0):
    return [list(batches(host, seed, noise, signal)) for seed in range(3)]


@pytest.mark.parametrize("num_dims", [2, 3])
def test_a_pointwise_stress_is_found_and_finer_bins_find_it_better(num_dims):
    """14 k cells in 2-D and 33 k in 3-D allow few bins: what is left of the error is their width."""
    host = make_host(num_dims)
    floor = one_point_floor(host, *splits(host, 0.0))
    errors = list(floor.validation_errors.values())
    assert floor.bins > 1
    assert floor.relative_error < (0.04 if num_dims == 2 else 0.09)
    assert floor.validation_errors[floor.bins] < 0.5 * errors[0]


@pytest.mark.parametrize("num_dims", [2, 3])
def test_the_floor_is_the_noise_that_no_gradient_tells(num_dims):
    """rms of noise over rms of all; the fit itself adds the square root of coefficients over cells, 2 to 5 %."""
    host = make_host(num_dims)
    data = splits(host, 0.2)
    floor = one_point_floor(host, *data)
    stresses = torch.cat([cell_stress(host.operators, b.sgs_stress.unbind(1)) for b in data[2]])
    signal = torch.cat([pointwise_stress(host, b.velocity) for b in data[2]])
    exact = deviatoric(stresses, num_dims)
    expected = ((exact - deviatoric(signal, num_dims)).norm() / exact.norm()).item()
    assert expected < floor.relative_error + 1e-3 and floor.relative_error == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("num_dims", [2, 3])
def test_noise_alone_is_not_mistaken_for_a_closure(num_dims):
    host = make_host(num_dims)
    floor = one_point_floor(host, *splits(host, 1.0, signal=0.0))
    assert 0.99 < floor.relative_error < 1.02


def test_without_training_cells_there_is_no_floor():
    with pytest.raises(DataError, match="prepare.split"):
        one_point_floor(make_host(2), [], [], [])
