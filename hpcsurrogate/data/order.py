"""The order of samples: an endless sequence of shuffled epochs, any place of which is calculated and not stored.

Legend
    N       number of samples; position p of the sequence lies in epoch p // N
    a, b    a number below a b is (left, right) = divmod(number, b); a b is at least N, by less than a

A Feistel network shuffles range(a b): its rounds add to one half a random number that only the other half, the epoch
and the round decide, so that each can be undone. A number that comes out at N or above is sent through again until it
lies below ("cycle walking"), which leaves a shuffle of range(N).
"""

import math

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: its multiples are spread evenly
_MIXER = 0xBF58476D1CE4E5B9
_HALF = np.uint64(32)


def random_words(seed: int, stream: int, counters: np.ndarray) -> np.ndarray:
    """Random 64-bit words, one for each counter: a pure function of its arguments.

    Parameters
    ----------
    seed : int              any, taken modulo 2^64
    stream : int            another one gives unrelated words
    counters : ndarray, shape (n,), int64 or uint64

    Returns
    -------
    ndarray, shape (n,), uint64    (tests/unit/data/test_order.py: every bit is set half of the time)
    """
    key = _scrambled(np.array([seed % 2**64], np.uint64)) + np.uint64((stream * _GOLDEN) % 2**64)
    return _scrambled(_scrambled(key) + counters.astype(np.uint64) * np.uint64(_GOLDEN))


class SampleOrder:
    """Shuffled epochs one after the other; position p holds sample `at(p)`.

    Parameters
    ----------
    num_samples : int    N, at least 1 and below 2^62
    seed : int

    Notes
    -----
    Every epoch holds each sample once, in another order each, and is a pure function of (seed, position): nothing
    is remembered, and no memory grows with N (tests/unit/data/test_order.py).
    """

    def __init__(self, num_samples: int, seed: int):
        self.num_samples, self.seed = num_samples, seed
        self._left_size = math.isqrt(num_samples - 1) + 1
        self._right_size = -(-num_samples // self._left_size)
        # Below, halves are so small that a round changes little; 12 rounds still prefer some orders of 6 samples.
        self._rounds = 16 if num_samples < 1024 else 8

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Samples at some positions of the endless sequence.

        Parameters
        ----------
        positions : ndarray, shape (n,), int64    at least 0

        Returns
        -------
        ndarray, shape (n,), int64    in range(N)
        """
        epochs, numbers = np.divmod(np.asarray(positions, np.int64), self.num_samples)
        keys = random_words(self.seed, 0, epochs)
        numbers = self._shuffle(numbers.astype(np.uint64), keys)
        while len(outside := np.flatnonzero(numbers >= np.uint64(self.num_samples))):
            numbers[outside] = self._shuffle(numbers[outside], keys[outside])
        return numbers.astype(np.int64)

    def _shuffle(self, numbers: np.ndarray, keys: np.ndarray) -> np.ndarray:
        sizes = np.uint64(self._left_size), np.uint64(self._right_size)
        halves = list(np.divmod(numbers, sizes[1]))
        for round_number in range(self._rounds):
            changed, other = round_number % 2, 1 - round_number % 2
            words = halves[other] * np.uint64(_GOLDEN) + keys
            words ^= words >> _HALF
            words *= np.uint64(_MIXER)
            # The upper 32 bits, which depend on all others, as a fraction of the size; then the sum modulo the size.
            moved = halves[changed] + ((words >> _HALF) * sizes[changed] >> _HALF)
            moved -= sizes[changed] * (moved >= sizes[changed])
            halves[changed] = moved
            keys = keys + np.uint64(_MIXER)  # another function every round
        return halves[0] * sizes[1] + halves[1]


def _scrambled(words: np.ndarray) -> np.ndarray:
    """A fixed shuffle of the 64-bit words in which each bit of a word depends on all bits: the mixer of SplitMix64."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(_MIXER)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
