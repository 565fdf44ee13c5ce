"""Reading and unpacking compressed chunks, for several threads at the same time."""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.chunks import CHECKSUM_BYTES, REMEDY, checked_content
from hpcsurrogate.data.codecs import ChunkDecoder
from hpcsurrogate.data.stores.ranges import will_need

READ_AHEAD = 16  # chunks that are under way from the disk for each thread


class PackedChunk(NamedTuple):
    """Where a chunk is stored, and how."""

    descriptor: int
    offset: int
    stored_size: int
    is_compressed: bool
    is_trusted: bool  # its checksum matched before


class Unpacker:
    """Unpacks the chunks of one field; a thread's own.

    Parameters
    ----------
    codec : str        "gzip", "zstd" or "blosc"
    itemsize : int     bytes of a value that HDF5 shuffled, 1 if it did not
    num_bytes : int    of a chunk in memory

    Raises
    ------
    ConfigError    if the codec needs the extra `compression`, which is not installed
    """

    def __init__(self, codec: str, itemsize: int, num_bytes: int):
        self._decoder = ChunkDecoder(codec, itemsize, num_bytes)
        self._buffer = memoryview(bytearray())

    def unpack(self, chunks: Sequence[PackedChunk], out: np.ndarray, place: Callable[[int], str]) -> None:
        """Read chunks and write their numbers.

        Parameters
        ----------
        chunks : sequence of PackedChunk, n
        out : ndarray, shape (n, num_bytes), uint8    written
        place : callable                              index of a chunk -> what messages call it

        Raises
        ------
        DataError    if one cannot be read, its checksum does not match, or it is not a snapshot, naming it
        """
        for index, (chunk, row) in enumerate(zip(chunks, out, strict=True)):
            try:
                stored = self._read(chunks[index : index + READ_AHEAD])
                content = stored[:-CHECKSUM_BYTES] if chunk.is_trusted else checked_content(stored)
                self._decoder.decode(content, chunk.is_compressed, row)
            except DataError as error:
                raise DataError(f"{place(index)}: {error}; {REMEDY}") from None

    def _read(self, chunks: Sequence[PackedChunk]) -> memoryview:
        """The stored bytes of the first of these chunks; if not in the page cache, the others are asked for too."""
        descriptor, offset, size = chunks[0][:3]
        if len(self._buffer) < size:
            self._buffer = memoryview(bytearray(size))
        stored = self._buffer[:size]
        try:
            if os.preadv(descriptor, (stored,), offset, os.RWF_NOWAIT) == size:
                return stored
        except OSError:
            pass  # not in the cache, or the file system cannot tell; a real failure comes again below
        will_need([chunk[:3] for chunk in chunks])
        try:
            done = os.preadv(descriptor, (stored,), offset)
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from None
        if done != size:
            raise DataError("the file ends early")
        return stored
