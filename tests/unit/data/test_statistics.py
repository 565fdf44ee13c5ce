"""Statistics: the numbers of numpy, whatever the order of merging; a channel that says nothing is an error."""

import functools

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.statistics import Moments, Statistics, merge_all, summarise


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
    np.testing.assert_allclose(velocity.standard_deviation, by_component.std(1), rtol=1e-14)
    np.testing.assert_allclose(velocity.rms, np.sqrt(np.square(by_component).mean(1)), rtol=1e-14)
    assert velocity.minimum == tuple(by_component.min(1)) and velocity.maximum == tuple(by_component.max(1))
    assert velocity.count == by_component.shape[1] and summarise(parts).num_snapshots == 6
    np.testing.assert_allclose(summarise(parts).velocity_rms, np.sqrt(np.square(by_component).mean()), rtol=1e-14)


def test_a_small_variance_beside_a_large_mean_keeps_its_digits():
    """As the difference of two sums of squares it would have none left: 1e12 in float64 ends at the fourth decimal."""
    generator = np.random.default_rng(3)
    values = (1e6 + generator.standard_normal((50, 2, 16, 16))).astype(np.float32)
    found = summarise([{"velocity": Moments.of(snapshot)} for snapshot in values]).fields["velocity"]
    # Of the numbers as float32 has them, in two passes and in extended precision; ten digits, and six are promised.
    expected = np.var(values.astype(np.longdouble), axis=(0, 2, 3)).astype(np.float64)
    np.testing.assert_allclose(np.square(found.standard_deviation), expected, rtol=1e-10)


def test_the_order_of_merging_is_round_off(snapshots):
    parts = [Moments.of(snapshot) for snapshot in snapshots]
    one = functools.reduce(Moments.merge, parts)
    other = functools.reduce(Moments.merge, reversed(parts))
    np.testing.assert_allclose(one.squared_deviations, other.squared_deviations, rtol=1e-14)  # as above
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-14)
    assert one.count == other.count and (one.maximum == other.maximum).all()


def test_moments_pass_through_json_bit_for_bit(snapshots):
    merged = merge_all([{"velocity": Moments.of(snapshot)} for snapshot in snapshots])["velocity"]
    copy = Moments.from_json(merged.to_json())
    assert (copy.num_snapshots, copy.count) == (merged.num_snapshots, merged.count)
    for name in ("mean", "squared_deviations", "minimum", "maximum"):
        assert getattr(copy, name).tobytes() == getattr(merged, name).tobytes()


def test_statistics_are_read_back_equal(snapshots, tmp_path):
    statistics = summarise([{"velocity": Moments.of(snapshots[0]), "commutator": Moments.of(snapshots[1])}])
    statistics.write(tmp_path / "statistics.json")
    assert Statistics.read(tmp_path / "statistics.json") == statistics


def test_a_constant_component_is_named(snapshots):
    snapshots[:, 1] = 0.25
    with pytest.raises(DataError, match="component y of velocity is 0.25 everywhere"):
        summarise([{"velocity": Moments.of(snapshot)} for snapshot in snapshots])


def test_a_component_of_rounding_noise_is_constant():
    """It would be scaled up to noise of size one; in three dimensions the components have other names."""
    generator = np.random.default_rng(4)
    stress = generator.standard_normal((6, 4, 4, 4))
    stress[4] = 1e-9 * stress[0]  # yz
    with pytest.raises(DataError, match="component yz of sgs_stress is .* everywhere"):
        summarise([{"sgs_stress": Moments.of(stress)}], num_dims=3)
    stress[4] = 1e-6 * stress[0]  # small, but float32 can tell
    assert len(summarise([{"sgs_stress": Moments.of(stress)}], num_dims=3).fields["sgs_stress"].rms) == 6


def test_a_missing_key_is_named(tmp_path):
    (tmp_path / "statistics.json").write_text('{"fields": {}}')
    with pytest.raises(DataError, match=r"statistics.json: num_snapshots: "):
        Statistics.read(tmp_path / "statistics.json")
