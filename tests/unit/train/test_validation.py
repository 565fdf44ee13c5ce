"""Means over the validation split: each window counts once, whoever does it."""

import numpy as np
import torch

from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.shards import Shards
from hpcsurrogate.train.validation import validation_means

ERRORS = torch.rand(11, 2, generator=torch.Generator().manual_seed(3))


class Windows:
    """Eleven windows in batches of two; shards have unequal numbers of them."""

    def validation(self, shard, num_shards):
        yield from ({"velocity": batch} for batch in ERRORS[shard::num_shards].split(2) if len(batch))


def means(world, num_own):
    def values(batch):
        return batch["velocity"].double().mean(dim=0).numpy()

    return validation_means(Windows(), Shards(world, num_own, True), 2, values)


def test_every_window_counts_once():
    # Round-off of eleven numbers of order one, added in another order.
    np.testing.assert_allclose(means(World(), 4), ERRORS.double().mean(dim=0), rtol=1e-15)
    np.testing.assert_allclose(means(World(), 16), ERRORS.double().mean(dim=0), rtol=1e-15)


def test_four_ranks_get_the_bits_of_one():
    sent = []

    class Rank(World):
        def sum(self, array):
            sent.append(array)
            return array

    for rank in range(4):
        means(Rank(rank, 4), 2)
    joined = sum(sent)  # as MPI does it: every number beside zeros

    class Last(World):
        def sum(self, array):
            return joined

    assert np.array_equal(means(Last(3, 4), 2), means(World(), 8))
