"""The best value of one positive number, by a bounded number of trials: even ratios first, then golden sections."""

import math
from collections.abc import Callable, Sequence

Merit = tuple[float, ...]  # compared from the left, larger is better

GOLDEN = (3 - math.sqrt(5)) / 2
MAX_EXTENSIONS = 8  # beyond either end of the candidates together
REFINEMENTS = 5


def find_maximum(merit: Callable[[float], Merit], candidates: Sequence[float]) -> dict[float, Merit]:
    """Try the candidates, more where the best is the first or the last, then values between the best's neighbours.

    Parameters
    ----------
    merit : callable         of a positive number
    candidates : sequence    ascending, positive, in about even ratios, at least two

    Returns
    -------
    dict    value -> merit of all that was tried, ascending; at most
            len(candidates) + `MAX_EXTENSIONS` + `REFINEMENTS` values

    Notes
    -----
    Where there is one maximum, each refinement leaves 0.62 of the bracket on a logarithmic scale
    (tests/unit/couple/test_maximum.py); J. Kiefer, Proc. Amer. Math. Soc. 4, 502 (1953). Where there are several, one
    of them is found.
    """
    tried = {value: merit(value) for value in candidates}
    for _ in range(MAX_EXTENSIONS):
        values, best = sorted(tried), max(tried, key=tried.__getitem__)
        if best not in (values[0], values[-1]):
            break
        inner = values[1] if best == values[0] else values[-2]
        further = best * (best / inner)
        tried[further] = merit(further)
    return dict(sorted((tried | _refine(merit, tried)).items()))


def is_at_edge(tried: dict[float, Merit], value: float) -> bool:
    """Whether a value is the smallest or largest of those tried, so that a better one may lie outside."""
    return value in (min(tried), max(tried))


def _refine(merit: Callable[[float], Merit], tried: dict[float, Merit]) -> dict[float, Merit]:
    values = sorted(tried)
    place = values.index(max(tried, key=tried.__getitem__))
    if place in (0, len(values) - 1):
        return {}
    refined: dict[float, Merit] = {}
    low, best, high = values[place - 1 : place + 2]
    best_merit = tried[best]
    for _ in range(REFINEMENTS):
        towards = high if high / best > best / low else low
        value = best * (towards / best) ** GOLDEN
        refined[value] = merit(value)
        outer, inner = (value, best) if refined[value] <= best_merit else (best, value)
        low, high = (low, outer) if outer > inner else (outer, high)
        best, best_merit = inner, max(best_merit, refined[value])
    return refined
