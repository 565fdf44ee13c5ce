"""Keep freed memory in the process, so that large temporary arrays do not cost a page fault each time they are made."""

import ctypes

# Parameter numbers of glibc's mallopt, from <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell glibc's allocator never to give arrays of megabytes back to the system between two uses.

    By default each array above a threshold is mapped and unmapped anew, and every page of it faults at first touch; in
    a time step or a backward pass that can cost several times the arithmetic. The peak of memory use is unchanged.

    Returns
    -------
    bool    False where the C library has no mallopt (not glibc): nothing was changed, and nothing else depends on it
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # -1 is the largest threshold there is: a backward pass may free gigabytes at once and want them again.
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 * 2**20))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
