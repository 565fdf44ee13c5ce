"""Reading many ranges of bytes from files: at once what is in the page cache, the rest with all requests under way."""

import os
from collections.abc import Sequence

Buffers = tuple[memoryview, ...]


class UnreadableError(Exception):
    """A range of bytes, given by the descriptor of its file and its offset, could not be read."""

    def __init__(self, descriptor: int, offset: int, reason: str):
        super().__init__(reason)
        self.descriptor, self.offset = descriptor, offset


def read_ranges(descriptors: Sequence[int], offsets: Sequence[int], buffers: Sequence[Buffers], num_bytes: int) -> None:
    """Fill buffers from files.

    Parameters
    ----------
    descriptors : sequence of int, n
    offsets : sequence of int, n
    buffers : sequence of tuples of memoryview, n    each tuple takes num_bytes, one memoryview after the other
    num_bytes : int

    Raises
    ------
    UnreadableError    if a file ends before the last byte, or the system fails to read it
    """
    preadv, from_cache = os.preadv, os.RWF_NOWAIT
    late = []
    # What this loop does is the time that a sample takes beyond its system call.
    for descriptor, offset, buffer in zip(descriptors, offsets, buffers, strict=True):
        try:
            if preadv(descriptor, buffer, offset, from_cache) != num_bytes:
                late.append((descriptor, offset, buffer))
        except OSError:
            # Not in the cache, or the file system cannot tell; a real failure comes again below.
            late.append((descriptor, offset, buffer))
    will_need([(descriptor, offset, num_bytes) for descriptor, offset, _ in late])
    for descriptor, offset, buffer in late:
        try:
            done = preadv(descriptor, buffer, offset)
        except OSError as error:
            raise UnreadableError(descriptor, offset, f"cannot be read ({error.strerror})") from None
        if done != num_bytes:
            raise UnreadableError(descriptor, offset, "the file ends early")


def will_need(ranges: Sequence[tuple[int, int, int]]) -> None:
    """Start reading ranges (descriptor, offset, bytes) into the page cache, all at the same time."""
    for descriptor, offset, num_bytes in ranges:
        os.posix_fadvise(descriptor, offset, num_bytes, os.POSIX_FADV_WILLNEED)
