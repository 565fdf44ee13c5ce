"""Learning rate and window length as pure functions of the iteration, so that a resumed run repeats them."""

import math

WARM_UP_ITERATIONS = 10  # Adam's second moments are poor estimates during its first steps
FINAL_FRACTION = 0.01  # of the peak, where the cosine ends


def learning_rate(iteration: int, num_iterations: int, peak: float) -> float:
    """Linear warm-up to `peak`, then a cosine down to one hundredth of it.

    Parameters
    ----------
    iteration : int [-]         0 <= iteration < num_iterations
    num_iterations : int [-]    length of the phase
    peak : float [-]

    Returns
    -------
    float [-]    positive, never above peak (tests/unit/train/test_schedule.py)
    """
    warm_up = min(WARM_UP_ITERATIONS, max(1, num_iterations // 10))
    if iteration < warm_up:
        return peak * ((iteration + 1) / warm_up)
    fraction = (iteration - warm_up) / max(1, num_iterations - warm_up)
    return peak * (FINAL_FRACTION + (1.0 - FINAL_FRACTION) * 0.5 * (1.0 + math.cos(math.pi * fraction)))


def curriculum(num_iterations: int, lengths: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Split the iterations into equal shares, one for every window length.

    Parameters
    ----------
    num_iterations : int [-]
    lengths : tuple of int [-]    window lengths in snapshot intervals, in the order of training

    Returns
    -------
    list of (first, last, length)    iterations first <= i < last see windows of `length`; the shares cover every
                                     iteration once (tests/unit/train/test_schedule.py); empty shares are left out
    """
    bounds = [num_iterations * share // len(lengths) for share in range(len(lengths) + 1)]
    shares = zip(bounds[:-1], bounds[1:], lengths, strict=True)
    return [(first, last, length) for first, last, length in shares if last > first]
