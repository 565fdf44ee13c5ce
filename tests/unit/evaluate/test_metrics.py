"""Running scores against the same scores computed at once by numpy."""

import numpy as np
import pytest
import torch

from hpcsurrogate.core.errors import DataError, ShapeError
from hpcsurrogate.evaluate.metrics import LeastSquares, PairScore, PositiveFraction


def pairs():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(10, 2, 6, dtype=torch.float64, generator=generator) + 0.4
    return 0.7 * truth + 0.3 * torch.randn(truth.shape, dtype=torch.float64, generator=generator) - 2, truth


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_pair_score_equals_numpy_whatever_the_batches(batch):
    model, truth = pairs()
    score = PairScore()
    for part, exact in zip(model.split(batch), truth.split(batch), strict=True):
        score.add(part, exact)
    m, t = model.numpy().ravel(), truth.numpy().ravel()
    assert score.correlation == pytest.approx(np.corrcoef(m, t)[0, 1], rel=1e-12)
    assert score.relative_error == pytest.approx(np.sqrt(np.mean((m - t) ** 2) / np.mean(t**2)), rel=1e-12)


def test_float32_batches_are_summed_in_float64():
    # 10 million ones and a half of them wrong by 1e-3: float32 sums would have lost the small part.
    score = PairScore()
    for _ in range(10):
        truth = torch.ones(1_000_000)
        score.add(truth + 1e-3, truth)
    assert score.relative_error == pytest.approx(1e-3, rel=1e-3)  # float32 holds 1.001 to 1e-7, 1e-4 of the difference


def test_a_model_that_does_not_vary_has_no_correlation():
    _, truth = pairs()
    for constant in (0.0, 0.1):
        score = PairScore()
        score.add(torch.full_like(truth, constant), truth)
        assert score.correlation is None
    score = PairScore()
    score.add(torch.zeros_like(truth), truth)
    assert score.relative_error == 1


def test_finite_tells_of_a_single_nan():
    model, truth = pairs()
    score = PairScore()
    score.add(model, truth)
    assert score.finite
    model[3, 1, 2] = torch.nan
    score.add(model, truth)
    assert not score.finite


def test_scores_without_data_and_of_unlike_shapes_are_refused():
    with pytest.raises(DataError, match="truth is zero"):
        _ = PairScore().relative_error
    with pytest.raises(DataError, match="no sample"):
        _ = PositiveFraction().fraction
    with pytest.raises(DataError, match="model is zero"):
        _ = LeastSquares().coefficient
    with pytest.raises(ShapeError, match="one shape"):
        PairScore().add(torch.zeros(2, 3), torch.zeros(3, 2))


def test_positive_fraction_counts_over_batches():
    score = PositiveFraction()
    score.add(torch.tensor([1.0, -1.0, 0.0]))
    score.add(torch.tensor([[2.0], [3.0]]))
    assert score.fraction == 3 / 5


def test_least_squares_recovers_a_coefficient_and_matches_numpy():
    model, truth = pairs()
    exact, fitted = LeastSquares(), LeastSquares()
    for part, target in zip(model.split(4), truth.split(4), strict=True):
        exact.add(part, -2.5 * part)
        fitted.add(part, target)
    assert exact.coefficient == pytest.approx(-2.5, rel=1e-12)
    expected = np.linalg.lstsq(model.numpy().reshape(-1, 1), truth.numpy().ravel(), rcond=None)[0][0]
    assert fitted.coefficient == pytest.approx(expected, rel=1e-12)
