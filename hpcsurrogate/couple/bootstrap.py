"""How sure a mean over starts is: realisations are drawn again with replacement, then starts in each that was drawn.

Starts of one realisation follow one recorded flow, and their runs may share recorded time: together they tell less than
as many starts of realisations of their own. Of intervals of 95 %, so many hold the true mean (normal values, eight
starts in each realisation; first where all starts are independent, then where those of a realisation all agree):

                            2 realisations    4 realisations    8 realisations
    starts alone drawn      92 %   31 %       92 %   39 %       94 %   46 %
    realisations, starts    94 %   51 %       97 %   81 %       99 %   88 %

What a few realisations do not show, no drawing finds: below `ENOUGH_REALISATIONS` the verdict says so.
"""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
ENOUGH_REALISATIONS = 8
Array = np.ndarray


def bootstrap_weights(realisations: Sequence[int]) -> Array:
    """Return the weights of the starts in each draw; always the same for the same starts.

    As they are the same for all runs, differences and ratios of two runs are bootstrapped in pairs.

    Parameters
    ----------
    realisations : sequence of int, length b    that each start is in

    Returns
    -------
    ndarray, shape (`RESAMPLES`, b)    rows that sum to one

    Notes
    -----
    The variance of a mean so drawn is that of the means of realisations plus that within them, and intervals hold the
    mean as often as they say if there are realisations enough (tests/unit/couple/test_bootstrap.py). A. C. Davison and
    D. V. Hinkley, Bootstrap Methods and their Application (1997), section 3.8; with replacement at both levels.
    """
    generator = np.random.default_rng(0)
    of_start, num_starts = np.unique(realisations, return_inverse=True, return_counts=True)[1:]
    number = len(num_starts)
    drawn = generator.multinomial(number, np.full(number, 1 / number), RESAMPLES)
    weights = np.empty((RESAMPLES, len(of_start)))
    for realisation, size in enumerate(num_starts):
        within = generator.multinomial(size * drawn[:, realisation], np.full(size, 1 / size))
        weights[:, of_start == realisation] = within
    return weights / weights.sum(axis=1, keepdims=True)


def interval(values: Array) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrapped values, shape (r,)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
