"""Where the chunks of a shard lie in its file, and how their stored bytes become numbers again, without HDF5.

HDF5 is asked once for all addresses; from then on a sample is a `preadv` of known bytes. A chunk is stored as HDF5's
filters left it: byte shuffle and codec if compressed, then the Fletcher-32 checksum of what is stored, four bytes
little-endian, behind it. A codec may have passed by a chunk that it could not shrink: its filter mask says so.
"""

from functools import cached_property

import h5py
import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.codecs import ChunkDecoder
from hpcsurrogate.data.field_arrays import FILTERS, LOST
from hpcsurrogate.data.fletcher32 import fletcher32
from hpcsurrogate.data.shards import ShardReader
from hpcsurrogate.sources.hdf5 import filter_codes, translated_faults

CHECKSUM_BYTES = 4
CHECKSUM_DIFFERS = "the Fletcher-32 checksum does not match"
REMEDY = "copy the file again or run the stage that writes it"


class ChunkTable:
    """The chunks of one field of a shard: one for each snapshot, in time order.

    Parameters
    ----------
    reader : ShardReader    open; not needed afterwards
    field : str

    Attributes
    ----------
    name : str                                    file and data set, for messages
    offsets : ndarray, shape (T,), int64          of the stored bytes in the file
    stored_sizes : ndarray, shape (T,), int64     [bytes], with the checksum
    is_compressed : ndarray, shape (T,), bool     False where the codec passed by, and without one
    shape : tuple of int                          of a snapshot, (nx, ny[, nz][, component][, component])
    is_zero : ndarray, shape (T,), bool           whether a snapshot was zero everywhere when it was written
    dtype : dtype
    itemsize : int                                [bytes]
    num_bytes : int                               of a snapshot in memory
    codec : str                                   "none", "gzip", "zstd" or "blosc"
    shuffled_itemsize : int                       bytes of a value that HDF5 shuffled, 1 if it did not

    Raises
    ------
    DataError    if the shard has no such field, a chunk is missing, lies outside the file or has an impossible size or
                 filter mask, naming file, data set and snapshot

    Notes
    -----
    The addresses are those of HDF5, impossible ones are refused (tests/unit/data/test_chunks.py).
    """

    def __init__(self, reader: ShardReader, field: str):
        array = reader.dataset(field)
        codes = filter_codes(array)[:-1]  # the last one is Fletcher-32, as ShardReader made sure
        self.name = f"{reader.path}: {array.name}"
        self.shape, self.dtype, self.itemsize = array.shape[2:], array.dtype, array.dtype.itemsize
        self.num_bytes = array.nbytes // array.shape[1]
        self.is_zero = reader.is_zero(field)
        self.codec = next(codec for codec, filters in FILTERS.items() if filters == codes)
        self.shuffled_itemsize = self.itemsize if h5py.h5z.FILTER_SHUFFLE in codes else 1
        with translated_faults(reader.path, f"listing the chunks of {array.name}"):
            self.offsets, self.stored_sizes, masks = _list_chunks(array)
        self.is_compressed = (masks == 0) & (self.codec != "none")
        codec_passed_by = 1 << (len(codes) - 1) if codes else 0
        self._refuse((masks != 0) & (masks != codec_passed_by), "did not pass the filters of its data set")
        self._refuse_impossible_places(reader.path.stat().st_size)

    def place(self, index: int) -> str:
        """Return file, data set and number of a snapshot in the file, for messages."""
        return f"{self.name}, snapshot {index} of the file"

    def decode(self, stored: bytes | bytearray | memoryview, out: np.ndarray, index: int) -> None:
        """Check the stored bytes of a chunk and turn them into numbers; for one thread at a time.

        Parameters
        ----------
        stored : bytes-like    as in the file, with the checksum
        out : ndarray          shape and dtype of a snapshot, C-contiguous; written
        index : int            the snapshot, by its number in the shard

        Raises
        ------
        DataError      if the checksum does not match or the bytes do not become a snapshot, naming it
        ConfigError    if the codec needs the extra `compression`, which is not installed

        Notes
        -----
        Equal to what HDF5 reads; a changed bit is noticed (tests/unit/data/test_chunks.py).
        """
        try:
            content = checked_content(memoryview(stored), bool(self.is_zero[index]))
            self._decoder.decode(content, bool(self.is_compressed[index]), out.reshape(-1).view(np.uint8))
        except DataError as error:
            raise DataError(f"{self.place(index)}: {error}; {REMEDY}") from None

    @cached_property
    def _decoder(self) -> ChunkDecoder:
        return ChunkDecoder(self.codec, self.shuffled_itemsize, self.num_bytes)

    def _refuse(self, is_wrong: np.ndarray, what: str) -> None:
        for index in np.flatnonzero(is_wrong)[:1]:
            raise DataError(f"{self.place(index)}: {what}; {REMEDY}")

    def _refuse_impossible_places(self, file_size: int) -> None:
        self._refuse(self.stored_sizes == 0, "was never written")
        outside = (self.offsets <= 0) | (self.stored_sizes < 0) | (self.stored_sizes > file_size - self.offsets)
        self._refuse(outside, "lies outside the file")
        as_they_are = ~self.is_compressed & (self.stored_sizes != self.num_bytes + CHECKSUM_BYTES)
        self._refuse(as_they_are | (self.stored_sizes <= CHECKSUM_BYTES), "has an impossible size")


def _list_chunks(array: h5py.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, stored sizes and filter masks of all chunks; sizes of chunks that HDF5 does not list are 0."""
    offsets, sizes, masks = np.zeros((3, array.shape[1]), dtype=np.int64)

    def remember(chunk: h5py.h5d.StoreInfo) -> None:
        index = chunk.chunk_offset[1]
        offsets[index], sizes[index], masks[index] = chunk.byte_offset, chunk.size, chunk.filter_mask

    array.id.chunk_iter(remember)
    return offsets, sizes, masks


def checked_content(stored: memoryview, may_be_zero: bool = False) -> memoryview:
    """Return the stored bytes of a chunk without their checksum.

    Raises
    ------
    DataError    if it does not match, or all is zero and may not be: the checksum of zeros is zero
    """
    content, checksum = stored[:-CHECKSUM_BYTES], int.from_bytes(stored[-CHECKSUM_BYTES:], "little")
    if fletcher32(np.frombuffer(content, dtype=np.uint8)[None])[0] != checksum:
        raise DataError(CHECKSUM_DIFFERS)
    if checksum == 0 and not may_be_zero:
        raise DataError(LOST)
    return content
