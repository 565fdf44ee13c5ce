"""Averages over the validation split, each window once, shared by all ranks."""

from collections.abc import Callable

import numpy as np

from hpcsurrogate.data.loader import WindowLoader
from hpcsurrogate.parallel import heartbeat
from hpcsurrogate.train.shards import Batch, Shards, aligned


def validation_means(
    loader: WindowLoader, shards: Shards, num_values: int, values_of: Callable[[Batch], np.ndarray]
) -> np.ndarray:
    """Average what `values_of` a batch of validation windows returns over all windows. Collective.

    Parameters
    ----------
    loader : WindowLoader
    shards : Shards         each part does one shard of the windows
    num_values : int [-]
    values_of : callable    batch -> its averages, shape (num_values,), float64

    Returns
    -------
    ndarray, shape (num_values,), float64    the same bits on every rank and, for a given number of parts, on any number
                                             of ranks (tests/unit/train/test_validation.py)
    """

    def sums_of(shard: int) -> np.ndarray:
        sums = np.zeros(num_values + 1)  # and the number of windows
        for number, batch in enumerate(loader.validation(shard, shards.total), start=1):
            heartbeat.beat(f"validation: batch {number} of shard {shard - shards.own[0] + 1} of {shards.num_own}")
            sums += len(batch["velocity"]) * np.append(values_of(aligned(batch)), 1.0)
        return sums

    totals = shards.sum_in_order(num_values + 1, sums_of)
    return totals[:-1] / totals[-1]
