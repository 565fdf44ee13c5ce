"""Reading many ranges of bytes from files: at once what is in the page cache, the rest with all requests under way."""

import os
from collections.abc import Sequence
from itertools import repeat

Buffers = tuple[memoryview, ...]


class UnreadableError(Exception):
    """A range of bytes, given by the descriptor of its file and its offset, could not be read."""

    def __init__(self, descriptor: int, offset: int, reason: str):
        super().__init__(reason)
        self.descriptor, self.offset = descriptor, offset


def read_ranges(descriptors: Sequence[int], offsets: Sequence[int], buffers: Sequence[Buffers], num_bytes: int) -> int:
    """Fill buffers from files.

    Parameters
    ----------
    descriptors : sequence of int, n
    offsets : sequence of int, n
    buffers : sequence of tuples of memoryview, n    each tuple takes num_bytes, one memoryview after the other
    num_bytes : int

    Returns
    -------
    int    how many of them were not in the page cache

    Raises
    ------
    UnreadableError    if a file ends before the last byte, or the system fails to read it
    """
    try:
        # By `map`, because what Python does for each range is time that a sample takes beyond its system call.
        done = list(map(os.preadv, descriptors, buffers, offsets, repeat(os.RWF_NOWAIT, len(offsets))))
        if done.count(num_bytes) == len(offsets):
            return 0
    except OSError:
        pass  # one is not in the cache, or the file system cannot tell; a real failure comes again below
    late = [each for each in zip(descriptors, offsets, buffers, strict=True) if not _is_cached(*each, num_bytes)]
    will_need([(descriptor, offset, num_bytes) for descriptor, offset, _ in late])
    for descriptor, offset, buffer in late:
        try:
            done = os.preadv(descriptor, buffer, offset)
        except OSError as error:
            raise UnreadableError(descriptor, offset, f"cannot be read ({error.strerror})") from None
        if done != num_bytes:
            raise UnreadableError(descriptor, offset, "the file ends early")
    return len(late)


def _is_cached(descriptor: int, offset: int, buffer: Buffers, num_bytes: int) -> bool:
    """Whether a range was in the page cache; if so, the buffer holds it."""
    try:
        return os.preadv(descriptor, buffer, offset, os.RWF_NOWAIT) == num_bytes
    except OSError:
        return False


def will_need(ranges: Sequence[tuple[int, int, int]]) -> None:
    """Start reading ranges (descriptor, offset, bytes) into the page cache, all at the same time."""
    for descriptor, offset, num_bytes in ranges:
        os.posix_fadvise(descriptor, offset, num_bytes, os.POSIX_FADV_WILLNEED)
