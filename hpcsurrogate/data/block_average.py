"""The mean of a correlated series, and how sure it is.

Averages of blocks longer than the correlation time are as good as independent (Flyvbjerg and Petersen, J. Chem. Phys.
91, 461, 1989).
"""

from dataclasses import dataclass

import numpy as np

LONG_ENOUGH = 5  # correlation times in a block, with which the error comes out 10 % too small for exponential decay


@dataclass(frozen=True)
class BlockAverage:
    """Means over a series of c quantities.

    Attributes
    ----------
    mean : ndarray, shape (c,), float64
    error : ndarray, shape (c,), float64               standard error of the mean
    block_length : int                                 rows
    correlation_time : ndarray, shape (c,), float64    [rows] integrated; 0.5 where rows are independent
    """

    mean: np.ndarray
    error: np.ndarray
    block_length: int
    correlation_time: np.ndarray

    @property
    def is_sure(self) -> bool:
        """Whether blocks are long enough for their averages to be independent."""
        return bool((LONG_ENOUGH * self.correlation_time <= self.block_length).all())


def block_average(series: np.ndarray, num_blocks: int) -> BlockAverage:
    """Average a series in blocks of equal length.

    Parameters
    ----------
    series : ndarray, shape (n, c)    at equal distances in time
    num_blocks : int                  at least 2; rows that are left over, fewer than these, are the first ones

    Returns
    -------
    BlockAverage

    Raises
    ------
    ValueError    if there are fewer rows than blocks

    Notes
    -----
    Errors are those of an autoregressive series, known in closed form (tests/unit/data/test_block_average.py).
    """
    length = len(series) // num_blocks
    if length == 0:
        raise ValueError(f"{len(series)} rows do not make {num_blocks} blocks")
    kept = np.asarray(series, dtype=np.float64)[len(series) - length * num_blocks :]
    blocks = kept.reshape(num_blocks, length, -1).mean(axis=1)
    mean, error = blocks.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(num_blocks)
    return BlockAverage(mean, error, length, np.array([correlation_time(column) for column in kept.T]))


def correlation_time(series: np.ndarray) -> float:
    """Return the integrated correlation time, 1/2 + the sum of the autocorrelation over all lags above zero [rows].

    The sum ends at the first lag of six times itself (Sokal, Monte Carlo methods in statistical mechanics, 1997,
    eq. 3.19): further ones bring only noise.

    Parameters
    ----------
    series : ndarray, shape (n,)    a constant one has 0.5
    """
    fluctuation = series - series.mean()
    spectrum = np.fft.rfft(fluctuation, 2 * len(series))
    covariance = np.fft.irfft(np.abs(spectrum) ** 2)[: len(series)]
    if covariance[0] <= np.finfo(np.float64).eps * len(series) * np.square(series).sum():
        return 0.5
    time = np.cumsum(covariance / covariance[0]) - 0.5
    enough = np.arange(len(series)) >= 6 * time
    return float(time[enough.argmax()] if enough.any() else time[-1])
