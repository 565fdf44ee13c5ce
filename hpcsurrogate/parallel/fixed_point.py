"""Numbers as integer multiples of a power of two, whose sums do not depend on the order in which they are added.

A floating-point sum rounds after every addition, so it depends on which addends a rank happens to hold. An addend that
is rounded once, to a unit that all ranks know, can be added in any order and grouping: the sum of integers is exact.
"""

import torch
from torch import Tensor

# Exponents of float64 end at -1022: units stay far above, numbers below 2**-900 are rounded away.
_LOWEST_EXPONENT = -900


def units(largest: Tensor, num_addends: int) -> Tensor:
    """Choose the powers of two that numbers are counted in, as fine as a sum in 64 bits allows.

    Parameters
    ----------
    largest : Tensor, float64, >= 0    a bound on every addend's magnitude, inf where one is not finite
    num_addends : int [-]

    Returns
    -------
    Tensor, float64, same shape    no sum of `num_addends` numbers within the bound, counted in it, overflows int64; NaN
                                   where the bound is inf, so that what is counted in it becomes NaN again

    Notes
    -----
    The unit is 62 - ceil(log2(num_addends)) bits below the power of two above `largest`: 50 bits or more for up to 4096
    addends (tests/unit/parallel/test_fixed_point.py).
    """
    bits = 62 - (num_addends - 1).bit_length()
    exponents = torch.frexp(largest).exponent.to(torch.int64).clamp(min=_LOWEST_EXPONENT) - bits
    # A power of two by its bits: the vectorised exp2 and pow are not exact everywhere.
    return torch.where(largest.isfinite(), ((exponents + 1023) << 52).view(torch.float64), torch.nan)


def to_integers(numbers: Tensor, unit: Tensor) -> Tensor:
    """Round numbers to the nearest multiple of the unit; return the multiples, int64.

    Parameters
    ----------
    numbers : Tensor, any floating-point type
    unit : Tensor, float64, powers of two        of a shape that broadcasts; where NaN, the integers have no meaning
    """
    return (numbers.double() / unit).round_().to(torch.int64)


def to_numbers(integers: Tensor, unit: Tensor) -> Tensor:
    """Return integers times units, float64, each rounded once."""
    return integers.double().mul_(unit)
