"""Samples straight from the files, at the speed of the page cache or of the disk.

What the order of samples costs beside the reads themselves is a look-up of all addresses of a batch at once. Checksums
are compared when a chunk is read for the first time; whether a file is still the same one, once an epoch.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache, partial
from itertools import pairwise
from typing import NoReturn, Self

import numpy as np

from hpcsurrogate.core.errors import DataError, ShapeError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.chunks import CHECKSUM_BYTES, CHECKSUM_DIFFERS, REMEDY
from hpcsurrogate.data.field_arrays import LOST
from hpcsurrogate.data.fletcher32 import fletcher32
from hpcsurrogate.data.snapshot_table import SnapshotTable
from hpcsurrogate.data.stores.open_shards import OpenShards
from hpcsurrogate.data.stores.ranges import Buffers, UnreadableError, read_ranges, will_need
from hpcsurrogate.data.stores.samples import find_samples
from hpcsurrogate.data.stores.unpacking import PackedChunk, Unpacker

CHECKED_AT_ONCE = 1 << 20  # bytes, that a second-level cache still holds when their checksums are computed


class StreamStore:
    """A store (data.stores.store.Store) that keeps no samples in memory.

    Parameters
    ----------
    catalogue : Catalogue
    realisations : sequence of int
    fields : sequence of str
    threads : int    that decompress, if the shards are compressed

    Attributes
    ----------
    table : SnapshotTable
    fields : tuple of str

    Raises
    ------
    DataError    if there is no such realisation or field

    Notes
    -----
    Opens a shard when a snapshot of it is read. Equal to ShardReader; damage, a replaced file, a file that ends early,
    more files than descriptors: tests/unit/data/stores/test_stream.py.
    """

    def __init__(self, catalogue: Catalogue, realisations: Sequence[int], fields: Sequence[str], threads: int = 1):
        self.table = SnapshotTable(catalogue, realisations)
        self.fields = tuple(fields)
        self._samples = find_samples(self.table, fields)
        self._open = OpenShards(self.table, fields)
        self._trusted = {name: _Marks(self.table.num_snapshots) for name in fields}
        self._settled: set[str] = set()  # fields of which nothing is left to be checked, unpacked or closed
        self._is_cold = False  # whether a read of this epoch had to wait for the disk
        self._unpackers: dict[str, list[Unpacker]] = {}
        self._threads = threads
        self._pool = ThreadPoolExecutor(max(1, threads - 1), "unpack")  # starts a thread when there is work for it

    def shape(self, field: str) -> tuple[int, ...]:
        """Return the shape of a snapshot, (nx, ny[, nz][, component][, component])."""
        return self._samples[field].shape

    def dtype(self, field: str) -> np.dtype:
        """Return the precision of a field."""
        return self._samples[field].dtype

    def read(self, field: str, snapshots: np.ndarray, out: np.ndarray) -> None:
        """Copy snapshots of a field; see Store.read.

        Raises
        ------
        DataError      also if a shard is missing, or was replaced since the epoch began, naming it
        ConfigError    if the codec of the shards needs the extra `compression`, which is not installed
        """
        self._require_valid(field, snapshots, out)
        if field in self._settled and len(snapshots):
            descriptors, offsets = self._open.addresses[field].take(snapshots, axis=0).T.tolist()
            if 0 not in offsets:
                self._fill(field, snapshots, descriptors, offsets, _rows(out, self._samples[field].num_bytes))
                return
        # A batch may lie in more files than may be open at a time.
        step = len(snapshots) if self._open.is_complete else self._open.capacity
        for start in range(0, len(snapshots), step or 1):
            here = slice(start, start + step)
            self._read(field, snapshots[here], out[here])

    def expect(self, field: str, snapshots: np.ndarray) -> None:
        """Have the snapshots that will be read next brought into the page cache, if others had to be waited for."""
        if self._is_cold and self._open.is_complete and field not in self._open.contents:
            self._open.use(np.unique(self.table.locate(snapshots)[0]).tolist())
            num_bytes = self._samples[field].num_bytes
            addresses = self._open.addresses[field].take(snapshots, axis=0).tolist()
            will_need([(descriptor, offset, num_bytes) for descriptor, offset in addresses])

    def new_epoch(self) -> None:
        """Compare every file that is still needed with what it was, when it is needed next."""
        self._open.look_again()
        self._is_cold = False

    def close(self) -> None:
        """Close all files and end all threads."""
        self._pool.shutdown()
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read(self, field: str, snapshots: np.ndarray, out: np.ndarray) -> None:
        self._open.use(np.unique(self.table.locate(snapshots)[0]).tolist())
        descriptors, offsets = self._open.addresses[field].take(snapshots, axis=0).T.tolist()
        trusted = self._trusted[field]
        if field in self._open.contents:
            self._unpack(field, snapshots, descriptors, offsets, out)
        else:
            is_trusted = trusted.get(snapshots)
            rows = list(zip(descriptors, offsets, _rows(out, self._samples[field].num_bytes), strict=True))
            if is_trusted.any():
                known = [rows[index] for index in np.flatnonzero(is_trusted).tolist()]
                self._fill(field, snapshots[is_trusted], *zip(*known, strict=True))
            self._fill_and_check(field, snapshots, rows, np.flatnonzero(~is_trusted), out)
        trusted.set(snapshots)
        if trusted.are_all and self._open.is_complete and field not in self._open.contents:
            self._settled.add(field)

    def _fill(
        self,
        field: str,
        snapshots: np.ndarray,
        descriptors: Sequence[int],
        offsets: Sequence[int],
        buffers: Sequence[Buffers],
    ) -> None:
        try:
            self._is_cold |= read_ranges(descriptors, offsets, buffers, sum(map(len, buffers[0]))) > 0
        except UnreadableError as error:
            places = zip(descriptors, offsets, strict=True)
            self._refuse(field, snapshots, list(places).index((error.descriptor, error.offset)), str(error))

    def _fill_and_check(
        self,
        field: str,
        snapshots: np.ndarray,
        rows: list[tuple[int, int, Buffers]],
        unchecked: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Fill the unchecked rows of `out`, their checksums beside them."""
        content = out.reshape(len(out), -1).view(np.uint8)
        step = max(1, CHECKED_AT_ONCE // self._samples[field].num_bytes)
        for start in range(0, len(unchecked), step):
            some = unchecked[start : start + step]
            checksums = np.empty(len(some), dtype="<u4")
            descriptors, offsets, buffers = zip(*(rows[index] for index in some.tolist()), strict=True)
            checked = zip(buffers, _rows(checksums, CHECKSUM_BYTES), strict=True)
            self._fill(field, snapshots[some], descriptors, offsets, [row + checksum for row, checksum in checked])
            for index in np.flatnonzero(fletcher32(content[some]) != checksums)[:1]:
                self._refuse(field, snapshots[some], index, CHECKSUM_DIFFERS)
            for index in np.flatnonzero(checksums == 0):  # only that of zeros is
                if not self._open.was_zero(field, snapshots[some[index]]):
                    self._refuse(field, snapshots[some], index, LOST)

    def _unpack(
        self, field: str, snapshots: np.ndarray, descriptors: list[int], offsets: list[int], out: np.ndarray
    ) -> None:
        stored_sizes, are_compressed = self._open.contents[field].take(snapshots, axis=0).T.tolist()
        are_trusted = self._trusted[field].get(snapshots).tolist()
        chunks = list(map(PackedChunk, descriptors, offsets, stored_sizes, are_compressed, are_trusted))
        if field not in self._unpackers:
            codec, itemsize = self._open.codecs[field]
            num_bytes = self._samples[field].num_bytes
            self._unpackers[field] = [Unpacker(codec, itemsize, num_bytes) for _ in range(self._threads)]
        rows = out.reshape(len(out), -1).view(np.uint8)
        ends = [len(chunks) * part // self._threads for part in range(self._threads + 1)]
        parts = [slice(start, stop) for start, stop in pairwise(ends)]

        def unpack(unpacker: Unpacker, part: slice) -> None:
            unpacker.unpack(chunks[part], rows[part], partial(self._place, field, snapshots[part]))

        # This thread is one of them.
        unpackers = self._unpackers[field]
        tasks = [self._pool.submit(unpack, *each) for each in zip(unpackers[1:], parts[1:], strict=True)]
        try:
            unpack(unpackers[0], parts[0])
        finally:
            wait(tasks)  # for all, so that none works on after an error of another
        for task in tasks:
            task.result()

    def _require_valid(self, field: str, snapshots: np.ndarray, out: np.ndarray) -> None:
        sample = self._samples[field]
        shape = (len(snapshots), *sample.shape)
        if out.shape != shape or out.dtype != sample.dtype or not out.flags.c_contiguous:
            raise ShapeError(
                f"{field}: samples go into a C-ordered array of {sample.dtype} of shape {shape}, "
                f"not {out.dtype} of {out.shape}"
            )
        if len(snapshots) and np.minimum.reduce(snapshots) < 0:  # numbers that are too large are refused by `take`
            raise IndexError(f"{field}: there is no snapshot {snapshots.min()}")

    def _place(self, field: str, snapshots: np.ndarray, number: int) -> str:
        (shard,), (index,) = self.table.locate(snapshots[number : number + 1])
        return f"{self.table.shards[shard][1]}: /t{FIELDS[field].rank}_fields/{field}, snapshot {index} of the file"

    def _refuse(self, field: str, snapshots: np.ndarray, number: int, reason: str) -> NoReturn:
        raise DataError(f"{self._place(field, snapshots, number)}: {reason}; {REMEDY}")


class _Marks:
    """A bit for each snapshot, and quick to say that all are set."""

    def __init__(self, number: int):
        self._bits = np.zeros(-(-number // 8), dtype=np.uint8)
        self._missing = number

    def get(self, snapshots: np.ndarray) -> np.ndarray:
        return (self._bits[snapshots >> 3] >> (snapshots & 7).astype(np.uint8) & 1).astype(bool)

    @property
    def are_all(self) -> bool:
        return self._missing == 0

    def set(self, snapshots: np.ndarray) -> None:
        if self._missing:
            new = np.unique(snapshots[~self.get(snapshots)])
            np.bitwise_or.at(self._bits, new >> 3, np.uint8(1) << (new & 7).astype(np.uint8))
            self._missing -= len(new)


def _rows(array: np.ndarray, num_bytes: int) -> list[Buffers]:
    """The bytes of every row; slices of a memoryview are made quicker than rows of an array."""
    if len(array) == 0:
        return []
    return list(zip(map(memoryview(array).cast("B").__getitem__, _slices(len(array), num_bytes))))  # noqa: B905


@lru_cache(maxsize=16)
def _slices(number: int, num_bytes: int) -> tuple[slice, ...]:
    return tuple(slice(row * num_bytes, (row + 1) * num_bytes) for row in range(number))
