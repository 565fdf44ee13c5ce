"""Parts of a batch: numbered over the ranks, copied out of the batch, summed in one order."""

import numpy as np
import pytest
import torch

from hpcsurrogate.core.config import CnnModel, Train
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.world import World
from hpcsurrogate.train.shards import Shards, aligned


def shards_of(rank=0, size=1, **settings):
    return Shards.of(Train(model=CnnModel(kind="cnn"), **settings), World(rank, size))


@pytest.mark.parametrize("settings", [{"exact": True, "virtual_shards": 8}, {"accumulate": 2}])
def test_the_parts_of_all_ranks_joined_are_the_batch(settings):
    batch = torch.arange(48.0).reshape(16, 3)
    seen = {}
    for rank, share in enumerate(batch.chunk(4)):
        shards = shards_of(rank, 4, **settings)
        assert shards.total == 8
        parts = dict(shards.split({"velocity": share, "filter_width": share[:, 0]}))
        assert list(parts) == list(shards.own)
        seen |= parts
    assert torch.equal(torch.cat([seen[number]["velocity"] for number in range(8)]), batch)
    assert torch.equal(torch.cat([seen[number]["filter_width"] for number in range(8)]), batch[:, 0])


def test_in_exact_mode_a_part_does_not_lie_in_the_batch():
    batch = torch.zeros(8, 3)
    for _, part in shards_of(exact=True).split({"velocity": batch}):
        part["velocity"].add_(1.0)
        assert part["velocity"].data_ptr() % 64 == 0
    assert not batch.any()
    assert aligned({"velocity": batch[1:]})["velocity"].data_ptr() % 64 == 0


def test_sums_depend_on_the_order_of_the_parts_alone():
    # Largest first the small ones are lost, one after the other; joined first they are not.
    values = [np.array([1e16, 1.0]), *(np.array([1.0, 1e16]) for _ in range(7))]
    expected = values[0].copy()
    for value in values[1:]:
        expected = expected + value
    found = shards_of(exact=True).sum_in_order(2, lambda number: values[number])
    assert np.array_equal(found, expected)
    assert found[0] != np.sum([value[0] for value in values[::-1]])


def test_a_part_is_named_by_its_rank_where_a_rank_has_one_and_by_its_number_too_where_it_has_several():
    assert shards_of(size=4).describe(3) == "rank 3"
    assert shards_of(size=4, exact=True).describe(3) == "rank 1, part 3 of 8"


@pytest.mark.parametrize(
    "size, settings, match",
    [
        (3, {"exact": True}, "train.virtual_shards: 8 is no multiple of the 3 ranks"),
        (2, {"exact": True, "accumulate": 2}, "train.accumulate: 2 cannot be had with train.exact"),
        (1, {"exact": True, "precision": "bfloat16"}, "train.precision: bfloat16 cannot be had"),
        (1, {"exact": True, "gradient_compression": "float16"}, "train.gradient_compression: float16 cannot be had"),
    ],
)
def test_what_cannot_be_exact_is_refused(size, settings, match):
    with pytest.raises(ConfigError, match=match):
        shards_of(size=size, **settings)


def test_batches_that_do_not_fall_into_parts_are_refused():
    shards_of(size=2, accumulate=3).require_divides("train.apriori.batch_size", 12)
    with pytest.raises(ConfigError, match="train.apriori.batch_size: 16 is no multiple of 6, ranks times"):
        shards_of(size=2, accumulate=3).require_divides("train.apriori.batch_size", 16)
    with pytest.raises(ConfigError, match="train.unrolled.batch_size: 12 is no multiple of 8, train.virtual_shards"):
        shards_of(size=2, exact=True).require_divides("train.unrolled.batch_size", 12)
