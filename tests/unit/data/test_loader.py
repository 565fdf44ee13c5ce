"""The loader: right windows, the same order for any number of ranks, every validation snapshot predicted once."""

import numpy as np
import pytest
import torch

from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.data.catalogue import shard_name
from hpcsurrogate.data.loader import WindowLoader
from hpcsurrogate.parallel.world import World

LENGTHS = (7, 5)


def loader_of(directory, rank=0, size=1, window=2, batch_size=4, seed=3, realisations=(0, 1)):
    return WindowLoader(directory, realisations, window, batch_size, World(rank=rank, size=size), seed)


def position(window_tcxy, arrays):
    """(realisation, first snapshot) of a window, found by its values; fails if it is no window of the data."""
    for realisation, fields in arrays.items():
        for first in range(len(fields["velocity"]) - len(window_tcxy) + 1):
            if np.array_equal(fields["velocity"][first : first + len(window_tcxy)], window_tcxy):
                return realisation, first
    raise AssertionError("a window that is not in the data")


def positions(batches, arrays):
    return [position(window.numpy(), arrays) for batch in batches for window in batch["velocity"]]


def test_an_epoch_holds_windows_of_single_realisations_each_at_most_once(write_shards):
    directory, arrays = write_shards(LENGTHS)
    loader = loader_of(directory)
    batches = list(loader.epoch(0))
    assert len(batches) == len(loader) == 2  # 5 + 3 windows of three snapshots
    assert batches[0]["velocity"].shape == batches[0]["commutator"].shape == (4, 3, 2, 6, 4)
    assert batches[0]["velocity"].dtype == torch.float32
    seen = positions(batches, arrays)
    assert sorted(seen) == [(0, first) for first in range(5)] + [(1, first) for first in range(3)]
    realisation, first = seen[0]
    np.testing.assert_array_equal(batches[0]["commutator"][0], arrays[realisation]["commutator"][first : first + 3])


def test_the_order_depends_on_seed_and_epoch_alone(write_shards):
    directory, arrays = write_shards(LENGTHS)
    order = positions(loader_of(directory).epoch(1), arrays)
    assert positions(loader_of(directory).epoch(1), arrays) == order
    assert positions(loader_of(directory).epoch(2), arrays) != order
    assert positions(loader_of(directory, seed=4).epoch(1), arrays) != order


@pytest.mark.parametrize("size", [2, 4])
def test_the_joined_batches_of_all_ranks_are_those_of_one(write_shards, size):
    directory, _ = write_shards(LENGTHS)
    ranks = [list(loader_of(directory, rank, size).epoch(1)) for rank in range(size)]
    alone = list(loader_of(directory).epoch(1))
    assert {len(batches) for batches in ranks} == {len(alone)}
    for step, batch in enumerate(alone):
        joined = torch.cat([batches[step]["velocity"] for batches in ranks])
        assert torch.equal(joined, batch["velocity"])


def test_a_resumed_epoch_goes_on_where_it_was(write_shards):
    directory, arrays = write_shards(LENGTHS)
    whole = positions(loader_of(directory).epoch(5), arrays)
    assert positions(loader_of(directory).epoch(5, start=1), arrays) == whole[4:]


def test_the_windows_that_fill_no_batch_change_from_epoch_to_epoch(write_shards):
    directory, arrays = write_shards(LENGTHS)
    loader = loader_of(directory, batch_size=6)
    left_out = [frozenset(positions(loader.epoch(epoch), arrays)) for epoch in range(6)]
    assert all(len(seen) == 6 for seen in left_out) and len(set(left_out)) > 1


@pytest.mark.parametrize(("window", "size"), [(0, 1), (0, 3), (2, 1), (2, 3), (2, 12)])
def test_validation_predicts_every_snapshot_once_over_all_ranks(write_shards, window, size):
    """With sizes that the ranks do not divide, and with more ranks than windows."""
    directory, arrays = write_shards(LENGTHS)
    loaders = [loader_of(directory, rank, size, window=window, batch_size=size) for rank in range(size)]
    seen = [place for loader in loaders for place in positions(loader.validation(), arrays)]
    # A single snapshot is its own target; of a longer window all but the first are.
    first_target = min(window, 1)
    targets = [(number, first + i) for number, first in seen for i in range(first_target, window + 1)]
    expected = [(number, index) for number, length in enumerate(LENGTHS) for index in range(first_target, length)]
    assert sorted(targets) == expected


def test_a_global_mean_from_sums_is_exact(write_shards):
    directory, arrays = write_shards(LENGTHS)
    total = count = 0.0
    for rank in range(3):
        for batch in loader_of(directory, rank, 3, window=0, batch_size=6).validation():
            total += batch["velocity"].double().sum().item()
            count += batch["velocity"].numel()
    everything = np.concatenate([arrays[number]["velocity"] for number in arrays]).astype(np.float64)
    assert count == everything.size
    assert total / count == pytest.approx(everything.mean(), abs=1e-14)  # round-off of 576 numbers of order one


def test_what_cannot_be_is_said_in_one_line(write_shards):
    directory, _ = write_shards(LENGTHS)
    with pytest.raises(ConfigError, match="batch_size 4 is no multiple of the 3 ranks"):
        loader_of(directory, size=3)
    with pytest.raises(ConfigError, match="batch_size 9 exceeds the 8 windows"):
        len(loader_of(directory, batch_size=9))
    with pytest.raises(ConfigError, match="realisation 1 has 5 snapshots, a window needs 6"):
        loader_of(directory, window=5)
    with pytest.raises(DataError, match="no realisation 2"):
        loader_of(directory, realisations=(2,))
    path = directory / shard_name(0)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="SHA-256"):
        loader_of(directory)
