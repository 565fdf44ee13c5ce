"""Running scores of a model against the truth: arrays come in one batch after the other, a few sums are kept."""

import math

import torch
from torch import Tensor

from hpcsurrogate.core.errors import DataError, ShapeError


class PairScore:
    """Correlation and relative error of all values seen so far.

    Notes
    -----
    Sums are kept in float64, so the result depends on neither the order nor the size of the batches beyond round-off
    (tests/unit/evaluate/test_metrics.py).
    """

    def __init__(self) -> None:
        self.count = 0
        self.sums = torch.zeros(6, dtype=torch.float64)

    def add(self, model: Tensor, truth: Tensor) -> None:
        """Take in one batch of values.

        Parameters
        ----------
        model, truth : Tensor, any shape, the same for both

        Raises
        ------
        ShapeError    if the shapes differ
        """
        if model.shape != truth.shape:
            raise ShapeError(f"score: model {tuple(model.shape)} and truth {tuple(truth.shape)} must have one shape")
        m, t = model.detach().double().flatten(), truth.detach().double().flatten()
        difference = m - t
        self.count += m.numel()
        self.sums += torch.stack((m.sum(), t.sum(), m @ m, t @ t, m @ t, difference @ difference)).cpu()

    @property
    def finite(self) -> bool:
        """Whether all values so far were finite numbers."""
        return bool(torch.isfinite(self.sums).all())

    @property
    def correlation(self) -> float | None:
        """Pearson correlation over all values [-]; None where the model does not vary (no closure, say)."""
        m, t, mm, tt, mt, _ = (self.sums / max(self.count, 1)).tolist()
        model_variance, truth_variance = mm - m * m, tt - t * t
        # What is left of a constant after the subtraction is round-off of its square.
        if model_variance <= 1e-14 * mm or truth_variance <= 1e-14 * tt:
            return None
        return (mt - m * t) / math.sqrt(model_variance * truth_variance)

    @property
    def relative_error(self) -> float:
        """Rms(model - truth) / rms(truth) [-].

        Raises
        ------
        DataError    if nothing was added or the truth is zero everywhere
        """
        if not self.sums[3] > 0:
            raise DataError("score: the truth is zero or not finite on every sample; check the prepared data")
        return math.sqrt(self.sums[5].item() / self.sums[3].item())


class PositiveFraction:
    """Fraction of all values seen so far that are above zero, such as points with backscatter."""

    def __init__(self) -> None:
        self.count = 0
        self.positive = 0

    def add(self, values: Tensor) -> None:
        """Take in one batch of values of any shape."""
        self.count += values.numel()
        self.positive += int((values > 0).sum())

    @property
    def fraction(self) -> float:
        """Fraction above zero [-].

        Raises
        ------
        DataError    if nothing was added
        """
        if self.count == 0:
            raise DataError("backscatter: no sample was added; check the prepared data")
        return self.positive / self.count


class LeastSquares:
    """Best coefficient c of truth = c * unit_model over all values seen so far, in closed form.

    Notes
    -----
    Recovers the coefficient of data made with it to round-off (tests/unit/evaluate/test_metrics.py).
    """

    def __init__(self) -> None:
        self.unit_truth = 0.0
        self.unit_unit = 0.0

    def add(self, unit_model: Tensor, truth: Tensor) -> None:
        """Take in one batch: the model with coefficient 1 and the truth, of one shape."""
        unit, target = unit_model.detach().double().flatten(), truth.detach().double().flatten()
        self.unit_truth += (unit @ target).item()
        self.unit_unit += (unit @ unit).item()

    @property
    def coefficient(self) -> float:
        """<unit truth> / <unit unit>.

        Raises
        ------
        DataError    if the model was zero on every sample
        """
        if not self.unit_unit > 0:
            raise DataError("least squares: the model is zero or not finite on every sample; check the prepared data")
        return self.unit_truth / self.unit_unit
