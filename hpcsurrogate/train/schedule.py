"""Learning rate and window length as pure functions of the iteration, so that a resumed run repeats them."""

import math

from hpcsurrogate.core.config import LearningRateScaling

FINAL_FRACTION = 0.01  # of the peak, where the cosine ends


def scaled_rate(rate: float, batch_size: int, scaling: LearningRateScaling | None) -> float:
    """Carry a learning rate over from the batch that it was chosen for to another.

    Parameters
    ----------
    rate : float [-]              as it stands in the experiment file
    batch_size : int [-]          samples per step of the phase, over all ranks
    scaling : LearningRateScaling or None    None leaves the rate as it is

    Returns
    -------
    float [-]    rate times the ratio of the batches (Goyal et al. 2017, arXiv:1706.02677), or its square root, which
                 suits Adam (Malladi et al. 2022, arXiv:2205.10287) (tests/unit/train/test_schedule.py)
    """
    if scaling is None:
        return rate
    ratio = batch_size / scaling.batch_size
    return rate * (ratio if scaling.rule == "linear" else math.sqrt(ratio))


def learning_rate(iteration: int, num_iterations: int, peak: float, warm_up: int) -> float:
    """Linear warm-up to `peak`, then a cosine down to one hundredth of it.

    Adam's second moments are poor estimates during its first steps, and a large batch needs a gentle start.

    Parameters
    ----------
    iteration : int [-]         0 <= iteration < num_iterations
    num_iterations : int [-]    length of the phase
    peak : float [-]
    warm_up : int [-]           iterations until the peak is reached; at most a tenth of the phase is used

    Returns
    -------
    float [-]    positive, never above peak (tests/unit/train/test_schedule.py)
    """
    warm_up = min(warm_up, max(1, num_iterations // 10))
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
