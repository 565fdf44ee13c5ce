"""The order of samples: a shuffle of every size, uniform, another one each epoch, in no memory."""

import itertools
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsurrogate.data.order import SampleOrder, random_words


def epoch_of(order, number):
    size = order.num_samples
    return order.at(np.arange(number * size, (number + 1) * size))


def excess(counts, expected):
    """Chi-square in standard deviations above its mean; of independent, uniform counts below 5 but for 1 in 10^5."""
    freedom = counts.size - 1
    return ((counts - expected) ** 2 / expected).sum() / np.sqrt(2 * freedom) - np.sqrt(freedom / 2)


@pytest.mark.parametrize("sizes", [range(1, 130), (255, 256, 257, 1023, 1024, 1025, 65536, 99991)])
def test_an_epoch_holds_every_sample_once(sizes):
    for size in sizes:
        for number in (0, 7):
            assert np.array_equal(np.sort(epoch_of(SampleOrder(size, 5), number)), np.arange(size)), size


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20_000), st.integers(-(2**70), 2**70), st.integers(0, 2**30))
def test_an_epoch_of_any_size_seed_and_number_holds_every_sample_once(size, seed, number):
    assert np.array_equal(np.sort(epoch_of(SampleOrder(size, seed), number)), np.arange(size))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 2**61), st.integers(0, 2**64), st.lists(st.integers(0, 2**62), min_size=1, unique=True))
def test_a_place_depends_on_seed_and_position_alone(size, seed, positions):
    order = SampleOrder(size, seed)
    together = order.at(np.array(positions))
    assert [order.at(np.array([position]))[0] for position in positions] == together.tolist()
    assert together.min() >= 0 and together.max() < size
    by_epoch = {}
    for position, sample in zip(positions, together.tolist(), strict=True):
        by_epoch.setdefault(position // size, []).append(sample)
    assert all(len(set(samples)) == len(samples) for samples in by_epoch.values())


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_every_permutation_of_a_small_set_is_equally_likely(size):
    permutations = {tuple(p): index for index, p in enumerate(itertools.permutations(range(size)))}
    orders = SampleOrder(size, 7).at(np.arange(100 * len(permutations) * size)).reshape(-1, size)
    counts = np.bincount([permutations[tuple(order)] for order in orders.tolist()], minlength=len(permutations))
    assert excess(counts, 100) < 5


@pytest.mark.parametrize("size", [7, 12, 100, 1023, 1024])
def test_every_sample_is_equally_likely_at_every_place_over_seeds(size):
    counts = np.zeros((size, size))
    num_seeds = min(2000, 2_000_000 // size**2 + 10)
    for seed in range(num_seeds):
        counts[np.arange(size), epoch_of(SampleOrder(size, seed), seed % 3)] += 1
    if num_seeds < 40:  # too few in a cell for a chi-square: put neighbouring places and samples together
        counts = counts[:1000, :1000].reshape(20, 50, 20, 50).sum((1, 3))
        assert excess(counts, 2500 * num_seeds / size) < 5
    else:
        assert excess(counts, num_seeds / size) < 5


@pytest.mark.parametrize("size", [12, 100, 10_007, 1_000_000])
def test_neighbours_in_the_order_have_nothing_to_do_with_each_other(size):
    epochs = np.stack([epoch_of(SampleOrder(size, 3), number) for number in range(min(3000, max(1, 300_000 // size)))])
    here, next_one = epochs[:, :-1].ravel(), epochs[:, 1:].ravel()
    num_pairs = here.size
    # Without replacement neighbours repel each other a little: the correlation is -1 / (N - 1), scattered by
    # 1 / sqrt(pairs).
    correlation = np.corrcoef(here, next_one)[0, 1]
    assert abs(correlation + 1 / (size - 1)) < 5 / np.sqrt(num_pairs)
    # All differences but zero are equally likely, also from one epoch to the next at the same place.
    steps = (next_one - here) % size - 1
    bins = min(size - 1, 50)
    expected = np.bincount(np.arange(size - 1) * bins // (size - 1)) * num_pairs / (size - 1)
    assert excess(np.bincount(steps * bins // (size - 1), minlength=bins), expected) < 5


def test_epochs_and_seeds_give_other_orders():
    size = 10_000
    orders = [epoch_of(SampleOrder(size, seed), number) for seed in (0, 1) for number in (0, 1, 2)]
    for one, other in itertools.combinations(orders, 2):
        # Two random orders agree in one place on average, in more than ten once in 10^8.
        assert np.count_nonzero(one == other) <= 10


def test_random_words_are_fair_and_streams_are_unrelated():
    words = [random_words(seed, stream, np.arange(20_000)) for seed, stream in ((0, 0), (0, 1), (1, 0))]
    bits = [np.unpackbits(row.view(np.uint8).reshape(-1, 8), axis=1).astype(np.int8) for row in words]
    # 20,000 fair coins: a share off by more than 0.02 is more than 5 standard deviations.
    for row in bits:
        assert np.abs(row.mean(axis=0) - 0.5).max() < 0.02
    for one, other in itertools.combinations(bits, 2):
        assert np.abs((one == other).mean(axis=0) - 0.5).max() < 0.02
        assert np.abs((one[:-1] == other[1:]).mean(axis=0) - 0.5).max() < 0.02


def test_a_hundred_million_samples_cost_neither_memory_nor_time():
    positions = np.arange(64) + 10**9
    tracemalloc.start()
    order = SampleOrder(10**8, 0)
    order.at(positions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000  # bytes; one array of 10^8 numbers has 8 * 10^8
    times = []
    for _ in range(20):
        started = time.perf_counter()
        order.at(positions)
        times.append(time.perf_counter() - started)
    assert min(times) < 1e-3  # measured 0.06 ms
