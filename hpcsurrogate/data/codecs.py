"""From the stored bytes of a compressed chunk to its numbers: the codec and HDF5's byte shuffle, without HDF5.

zlib and numcodecs let other threads run while they work; HDF5 does not. What stored bytes say of their own size is
compared with what is expected before anything is written or allocated.
"""

import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np

from hpcsurrogate.core.errors import ConfigError, DataError

Decompressor = Callable[[memoryview, np.ndarray], None]

VALUES_AT_ONCE = 1 << 16  # of the shuffle: what is in work stays in a cache, and starting a step costs little
WIDER = {1: np.uint16, 2: np.uint32, 4: np.uint64}

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def make_decompressor(codec: str) -> Decompressor:
    """Return the function that takes the compressed bytes of a chunk and an array of uint8 that they must fill.

    It raises DataError if the bytes are damaged or hold another number of bytes; several threads may call it.

    Parameters
    ----------
    codec : str    "gzip", "zstd" or "blosc"

    Raises
    ------
    ConfigError    if the codec needs the extra `compression`, which is not installed
    """
    if codec == "gzip":
        return _inflate
    try:
        from numcodecs import zstd

        decode_blosc = _import_blosc()
    except ImportError:
        raise ConfigError(
            f"reading {codec} needs numcodecs, which is not installed; pip install 'hpcsurrogate[compression]'"
        ) from None
    if codec == "zstd":
        return partial(_decode, zstd.decompress, _zstd_size)
    return partial(_decode, decode_blosc, _blosc_size)


def _import_blosc() -> Callable:
    from numcodecs import blosc

    # Threads are the store's business; with its own, Blosc works on one chunk at a time.
    blosc.use_threads = False
    return blosc.decompress


def _inflate(stored: memoryview, out: np.ndarray) -> None:
    stream = zlib.decompressobj()
    try:
        # One byte more than expected: enough to see that there are more, and no bomb goes off.
        content = stream.decompress(stored, out.nbytes + 1)
    except zlib.error as error:
        raise DataError(f"cannot be decompressed ({error})") from None
    if not stream.eof or stream.unused_data or len(content) != out.nbytes:
        raise DataError(f"does not decompress to {out.nbytes} bytes")
    out[:] = np.frombuffer(content, dtype=np.uint8)


def _decode(decompress: Callable, size_of: Callable, stored: memoryview, out: np.ndarray) -> None:
    if size_of(stored) != out.nbytes:
        raise DataError(f"does not decompress to {out.nbytes} bytes")
    try:
        decompress(stored, out)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"cannot be decompressed ({error})") from None


def _blosc_size(stored: memoryview) -> int | None:
    """Size of the content by the frame's header, None if the frame is not whole (Blosc 1, README_CHUNK_FORMAT)."""
    if len(stored) < 16 or int.from_bytes(stored[12:16], "little") != len(stored):
        return None
    return int.from_bytes(stored[4:8], "little")


def _zstd_size(stored: memoryview) -> int | None:
    """Size of the content by the frame's header, None if it does not say (RFC 8878, section 3.1.1.1)."""
    if bytes(stored[:4]) != _ZSTD_MAGIC or len(stored) < 6:
        return None
    descriptor = stored[4]
    is_single_segment = bool(descriptor & 0x20)
    width = (int(is_single_segment), 2, 4, 8)[descriptor >> 6]
    begin = 5 + (not is_single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if width == 0 or len(stored) < begin + width:
        return None
    return int.from_bytes(stored[begin : begin + width], "little") + (256 if width == 2 else 0)


class ChunkDecoder:
    """Undoes the filters of the chunks of one data set, apart from the checksum.

    Works in memory of its own, so that each thread needs its own one.

    Parameters
    ----------
    codec : str          "none", "gzip", "zstd" or "blosc"
    itemsize : int       bytes of a value that HDF5 shuffled: 4 or 8; 1 if it did not
    num_bytes : int      of a chunk when all is undone

    Raises
    ------
    ConfigError    if the codec needs the extra `compression`, which is not installed

    Notes
    -----
    Equal to what HDF5 reads, for gzip with and without numcodecs (tests/unit/data/test_codecs.py).
    """

    def __init__(self, codec: str, itemsize: int, num_bytes: int):
        self._decompress = make_decompressor(codec) if codec != "none" else None
        self._unshuffle = make_unshuffle(itemsize, num_bytes) if itemsize > 1 else None

    def decode(self, content: memoryview, is_compressed: bool, out: np.ndarray) -> None:
        """Turn the stored bytes of a chunk into its values.

        Parameters
        ----------
        content : memoryview                      without the checksum
        is_compressed : bool                      False if the codec passed the chunk by
        out : ndarray, shape (num_bytes,), uint8

        Raises
        ------
        DataError    if they are damaged or are another number of bytes
        """
        unpacked = out if self._unshuffle is None else self._unshuffle.shuffled
        if is_compressed:
            self._decompress(content, unpacked)
        elif len(content) == len(unpacked):
            unpacked[:] = content
        else:
            raise DataError(f"does not hold {out.nbytes} bytes")
        if self._unshuffle is not None:
            self._unshuffle(out)


class Unshuffle(Protocol):
    """Undoes HDF5's byte shuffle: first bytes of all values, then second ones, ..., back to values."""

    shuffled: np.ndarray  # (num_bytes,) uint8: where the bytes are expected

    def __call__(self, out: np.ndarray) -> None:
        """Write the values of what lies in `shuffled`; (num_bytes,) uint8."""


def make_unshuffle(itemsize: int, num_bytes: int) -> Unshuffle:
    """Return the quicker way if numcodecs is installed; the values are equal."""
    try:
        return BloscUnshuffle(itemsize, num_bytes)
    except ImportError:
        return NumpyUnshuffle(itemsize, num_bytes)


class BloscUnshuffle:
    """By Blosc, whose shuffle is HDF5's: the bytes become a frame of one block that was shuffled and did not shrink.

    The frame: https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst.
    """

    def __init__(self, itemsize: int, num_bytes: int):
        self._decompress = _import_blosc()
        # Format 2, format 1 of the codec; shuffled, not split, LZ4; sizes of value, content, block and frame; then
        # the place of the only block and its size.
        flags = 0x01 | 0x10 | 1 << 5
        header = struct.pack("<4B5I", 2, 1, flags, itemsize, num_bytes, num_bytes, 24 + num_bytes, 20, num_bytes)
        self._frame = np.empty(24 + num_bytes, dtype=np.uint8)
        self._frame[:24] = np.frombuffer(header, dtype=np.uint8)
        self.shuffled = self._frame[24:]

    def __call__(self, out: np.ndarray) -> None:
        self._decompress(self._frame, out)


class NumpyUnshuffle:
    """By whole arrays: neighbouring planes of bytes are joined to planes of words twice as wide, until they are values.

    Copying byte by byte has a stride of the value's size, and takes twice as long.
    """

    def __init__(self, itemsize: int, num_bytes: int):
        self.shuffled = np.empty(num_bytes, dtype=np.uint8)
        self._planes = self.shuffled.reshape(itemsize, -1)
        self._widths = [width for width in WIDER if width < itemsize]
        self._scratch = [
            np.empty((2, itemsize // width // 2, min(VALUES_AT_ONCE, num_bytes // itemsize)), WIDER[width])
            for width in self._widths
        ]

    def __call__(self, out: np.ndarray) -> None:
        values = out.view(f"u{len(self._planes)}")
        for start in range(0, len(values), VALUES_AT_ONCE):
            here = slice(start, start + VALUES_AT_ONCE)
            self._join(self._planes[:, here], values[here])

    def _join(self, planes: np.ndarray, values: np.ndarray) -> None:
        for width, scratch in zip(self._widths, self._scratch, strict=True):
            high, low = scratch[..., : len(values)]
            if len(planes) == 2:
                high = values[None]
            np.copyto(high, planes[1::2])
            np.copyto(low, planes[0::2])
            np.left_shift(high, 8 * width, out=high)
            np.bitwise_or(high, low, out=high)
            planes = high
