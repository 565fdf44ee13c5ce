"""A law of cells that the network can express is found again from its samples, and small cells count little."""

import numpy as np
import pytest
import torch

from hpcsurrogate.core.config import TensorBasisModel
from hpcsurrogate.core.config_cells import CellTraining
from hpcsurrogate.data.cells import CellSamples
from hpcsurrogate.train.cells import Cells, fit_cells

SETTINGS = CellTraining(
    model=TensorBasisModel(kind="tensor_basis", channels=8), epochs=15, batch_size=128, learning_rate=1e-2
)


def stress_of(gradient, width):
    """Smagorinsky plus the gradient model, and a trace: the network sees it as a constant times two of its tensors."""
    g = gradient.reshape(-1, 3, 3)
    g = g - np.trace(g, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)
    strain = 0.5 * (g + g.transpose(0, 2, 1))
    size = np.linalg.norm(g, axis=(1, 2))
    rows, columns = np.triu_indices(3)
    tensor = g @ g.transpose(0, 2, 1) / 12 - 0.05 * size[:, None, None] * strain + 7.0 * np.eye(3)
    return (width**2)[:, None] * tensor[:, rows, columns]


def cells(seed, num_cells=4000):
    random = np.random.default_rng(seed)
    gradient = random.standard_normal((num_cells, 9))
    gradient[:, 8] = -gradient[:, 0] - gradient[:, 4]
    width = random.uniform(0.5, 2.0, num_cells)
    return Cells.of(CellSamples(gradient, width, stress_of(gradient, width), random.uniform(0.1, 1, num_cells)))


def test_a_law_is_found_again():
    training, validation = cells(0), cells(1)
    network, history = fit_cells(SETTINGS, training, validation, seed=0)
    # Measured: 0.7 with either term alone, Smagorinsky fitted, and 0.007 after these 480 steps; rounding may differ.
    assert validation.error(network) < 0.05
    assert validation.error(network) == pytest.approx(min(row["validation"] for row in history), rel=1e-5)


def test_training_is_repeated_bit_for_bit():
    short = SETTINGS.model_copy(update={"epochs": 2})
    first, second = (fit_cells(short, cells(0), cells(1), seed=3)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_error_is_one_without_a_closure_and_weighs_by_volume():
    some = cells(2)
    assert some.error(lambda gradient, width: torch.zeros_like(some.stress)) == pytest.approx(1.0, rel=1e-6)
    # Right in half of the volume alone, where the stress is as strong: the square of the error is a half.
    volume = torch.cat([some.volume, some.volume[:1].expand(2) * 0 + some.volume.sum() / 2])
    same = some.stress[:1].expand(len(volume), 6)
    both = Cells(some.gradient[:1].expand(len(volume), 9), some.width[:1].expand(len(volume)), same, volume)
    right = torch.cat([torch.zeros(len(some.volume)), torch.ones(2)])[:, None] * same
    assert both.error(lambda gradient, width: right) == pytest.approx(0.5**0.5, rel=1e-5)


def test_the_trace_is_taken_off():
    trace = cells(0).stress[:, [0, 3, 5]].sum(1)
    assert trace.abs().max() < 1e-4  # round-off of float32 of stresses up to some tens
