"""Statistics: the numbers of numpy, whatever the order of merging; a channel that says nothing is an error."""

import functools

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.statistics import Moments, Statistics, summarise


@pytest.fixture
def snapshots():
    generator = np.random.default_rng(2)
    return (3.0 + generator.standard_normal((6, 2, 8, 4))).astype(np.float32)


def test_merged_moments_are_the_moments_of_everything(snapshots):
    parts = [{"velocity": Moments.of(snapshot)} for snapshot in snapshots]
    velocity = summarise(parts).fields["velocity"]
    by_component = np.moveaxis(snapshots.astype(np.float64), 1, 0).reshape(2, -1)
    # Sums of 192 numbers in float64: round-off is a few units in the sixteenth digit.
    np.testing.assert_allclose(velocity.mean, by_component.mean(1), rtol=1e-14)
    np.testing.assert_allclose(velocity.rms, np.sqrt(np.square(by_component).mean(1)), rtol=1e-14)
    assert velocity.minimum == tuple(by_component.min(1)) and velocity.maximum == tuple(by_component.max(1))
    assert velocity.count == by_component.shape[1] and summarise(parts).num_snapshots == 6
    np.testing.assert_allclose(summarise(parts).velocity_rms, np.sqrt(np.square(by_component).mean()), rtol=1e-14)


def test_the_order_of_merging_is_round_off(snapshots):
    parts = [Moments.of(snapshot) for snapshot in snapshots]
    one = functools.reduce(Moments.merge, parts)
    other = functools.reduce(Moments.merge, reversed(parts))
    np.testing.assert_allclose(one.total_square, other.total_square, rtol=1e-14)  # as above
    assert one.count == other.count and (one.maximum == other.maximum).all()


def test_statistics_are_read_back_equal(snapshots, tmp_path):
    statistics = summarise([{"velocity": Moments.of(snapshots[0]), "commutator": Moments.of(snapshots[1])}])
    statistics.write(tmp_path / "statistics.json")
    assert Statistics.read(tmp_path / "statistics.json") == statistics


def test_a_constant_component_is_named(snapshots):
    snapshots[:, 1] = 0.25
    with pytest.raises(DataError, match="component y of velocity is 0.25 everywhere"):
        summarise([{"velocity": Moments.of(snapshot)} for snapshot in snapshots])


def test_a_missing_key_is_named(tmp_path):
    (tmp_path / "statistics.json").write_text('{"fields": {}}')
    with pytest.raises(DataError, match=r"statistics.json: num_snapshots: "):
        Statistics.read(tmp_path / "statistics.json")
