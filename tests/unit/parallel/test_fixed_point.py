"""Sums of integers that stand for floating-point numbers: any order, no overflow, finer than the numbers themselves."""

import pytest
import torch

from hpcsurrogate.parallel.fixed_point import to_integers, to_numbers, units


def numbers(num_addends, dtype=torch.float64, seed=0):
    """Numbers of very different magnitudes and both signs, one row an addend."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(num_addends, 50, generator=generator, dtype=torch.float64)
    return (values * 10.0 ** torch.randint(-12, 12, (50,), generator=generator)).to(dtype)


def unit_of(addends):
    return units(addends.abs().amax(dim=0).double(), len(addends))


@pytest.mark.parametrize("num_addends", [1, 2, 3, 8, 4096])
@pytest.mark.parametrize("largest", [1.0, 1.9999999, 3e38, 1e-45])
def test_the_unit_is_fine_and_no_sum_overflows(num_addends, largest):
    largest = torch.tensor([largest], dtype=torch.float64)
    unit = units(largest, num_addends)
    assert largest.item() / unit.item() >= 2.0**49  # 50 bits, the leading one among them
    assert abs(to_integers(largest, unit).item()) * num_addends < 2**63


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sum_is_exact_to_half_a_unit_an_addend(dtype):
    """Rounding moves each addend by half a unit at most; float32 has 24 bits, so there nothing at all is lost beyond
    what lies 59 bits below the largest. The sum in float64 that is compared with errs by 1e-16 of the largest."""
    addends = numbers(8, dtype)
    unit = unit_of(addends)
    total = to_numbers(to_integers(addends, unit).sum(0), unit)
    bound = 8 * 0.5 * unit + 8 * 2.0**-52 * addends.abs().amax(0).double()
    assert ((total - addends.double().sum(0)).abs() <= bound).all()


def test_the_order_and_the_grouping_do_not_matter():
    """The same in floating point does: else this test would show nothing."""
    addends = numbers(8, torch.float32)
    unit = unit_of(addends)
    for values, is_equal in ((to_integers(addends, unit), True), (addends, False)):
        forwards, backwards = sum(values), sum(values.flip(0))
        in_pairs = sum(first + second for first, second in values.view(4, 2, 50))
        assert torch.equal(forwards, backwards) == torch.equal(forwards, in_pairs) == is_equal


def test_powers_of_two_are_exact_and_zero_stays_zero():
    addends = torch.tensor([[2.0**100, 2.0**-140, 0.0, -(2.0**-1060)]], dtype=torch.float64)
    unit = unit_of(addends)
    result = to_numbers(to_integers(addends, unit), unit)
    assert torch.equal(result[0, :3], addends[0, :3])
    assert result[0, 3] == 0.0  # far below what any type of gradient but float64 can hold


def test_what_is_not_finite_becomes_nan():
    largest = torch.tensor([float("inf"), 1.0], dtype=torch.float64)
    unit = units(largest, 8)
    assert unit[0].isnan() and unit[1].item() == 2.0**-58
    result = to_numbers(to_integers(torch.tensor([float("-inf"), 0.5]), unit), unit)
    assert result[0].isnan() and result[1].item() == 0.5
