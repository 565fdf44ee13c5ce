"""Scores of runs whose agreement is known."""

from dataclasses import replace

import pytest
import torch

from hpcsurrogate.couple.observation import Observation
from hpcsurrogate.couple.scoring import last_quarter, score_run

TIMES = torch.arange(9, dtype=torch.float64) / 4


def make_observation(weights) -> Observation:
    """Vorticity a + w b with a, b orthogonal of equal norm: its correlation with a is 1 / sqrt(1 + w^2)."""
    x = 2 * torch.pi * torch.arange(8, dtype=torch.float64) / 8
    a, b = torch.cos(x)[:, None].expand(8, 8), torch.sin(x)[:, None].expand(8, 8)
    ones = torch.ones_like(weights)
    vorticity = a + weights[..., None, None] * b
    values = torch.linspace(0, 1, 16, dtype=torch.float64).expand(*weights.shape, 2, 16)
    return Observation(
        energy=2 * ones,
        enstrophy=3 * ones,
        spectrum=ones[..., None].expand(*weights.shape, 4),
        quantiles=values,
        rates=torch.zeros(*weights.shape, 4, dtype=torch.float64),
        velocity=torch.stack((vorticity, vorticity), -3),
        vorticity=vorticity,
    )


@pytest.fixture
def reference():
    return make_observation(torch.zeros(9, 2, dtype=torch.float64))


def test_decorrelation_is_found_per_start(reference):
    """Start 0 falls from 1 to 0.8 between 0.75 s and 1 s and passes 0.9 half way; start 1 never loses the flow."""
    weights = torch.zeros(9, 2, dtype=torch.float64)
    weights[4:, 0] = 0.75
    score = score_run(make_observation(weights), reference, TIMES, threshold=0.9)
    assert score.decorrelation_times == pytest.approx([0.875, 2.0], abs=1e-12)
    assert score.decorrelation_time == pytest.approx(1.4375)
    assert score.reached_end and score.stable and score.blow_up_time is None
    assert score.energy_error == score.enstrophy_error == score.spectrum_log_error == 0.0


def test_errors_are_relative_and_of_the_last_quarter(reference):
    run = make_observation(torch.zeros(9, 2, dtype=torch.float64))
    run.energy[6:] *= 1.5
    run.enstrophy[:6] *= 7  # before the last quarter: not counted
    run = replace(run, spectrum=10 * run.spectrum)
    score = score_run(run, reference, TIMES, threshold=0.9)
    assert score.energy_error == pytest.approx(0.5)
    assert score.enstrophy_error == 0.0
    assert score.spectrum_log_error == pytest.approx(1.0)


def test_a_blown_up_start_makes_the_run_unstable(reference):
    run = make_observation(torch.zeros(9, 2, dtype=torch.float64))
    for part in (run.vorticity, run.energy, run.enstrophy):
        part[5:, 1] = torch.nan
    score = score_run(run, reference, TIMES, threshold=0.9)
    assert not score.stable and score.blow_up_time == 1.25
    assert score.decorrelation_times == pytest.approx([2.0, 1.0]), "to the last finite time"
    assert score.energy_error is None and score.spectrum_log_error is None


def test_last_quarter_is_never_empty():
    assert [last_quarter(n).indices(n)[:2] for n in (2, 4, 9, 81)] == [(1, 2), (3, 4), (6, 9), (60, 81)]
