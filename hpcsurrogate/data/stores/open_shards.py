"""Which shards a process has open, and where in them the bytes of every snapshot lie."""

import mmap
import os
import resource
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.chunks import REMEDY, ChunkTable
from hpcsurrogate.data.snapshot_table import SnapshotTable

# Two splits, the libraries and the program's own files share the descriptors of a process.
SHARE_OF_DESCRIPTORS = 4
MOST_PLACES = 1 << 22  # snapshots times fields of all open shards: 64 MiB, or 128 MiB if they are compressed
MOST_CHUNKS = 1 << 22  # in the tables of shards that are not open, too: 68 MiB
CHUNKS_PER_TABLE = 128  # what a table takes in memory however short it is, in chunks


class Identity(NamedTuple):
    """What tells a file from one that replaced it, as far as the file system knows."""

    device: int
    inode: int
    size: int
    modified: int  # [ns]


class OpenShards:
    """The open shards of a table: those used last, as many as descriptors and memory allow.

    Parameters
    ----------
    table : SnapshotTable
    fields : sequence of str

    Attributes
    ----------
    capacity : int                                    shards that may be open at the same time
    is_complete : bool                                whether all shards of the table may
    addresses : dict of ndarray, (snapshot, 2) int64  by field: descriptor of the file, offset in it; 0 if not open
    contents : dict of ndarray, (snapshot, 2) int64   by field, once known to be compressed: stored bytes, with the
                                                      checksum; 1 if the codec did not pass the chunk by
    codecs : dict                                     by field, once one is open: codec, bytes of what HDF5 shuffled

    Notes
    -----
    More shards than descriptors, one replaced meanwhile: tests/unit/data/stores/test_stream.py.
    """

    def __init__(self, table: SnapshotTable, fields: Sequence[str]):
        self._table, self._fields = table, tuple(fields)
        longest = int(np.diff(table.shard_starts).max(initial=1))
        self.capacity = max(1, min(_own_descriptors(), MOST_PLACES // (longest * len(self._fields))))
        self.is_complete = table.num_shards <= self.capacity
        self._rows = [_Rows(table.num_snapshots) for _ in self._fields]
        self.addresses = {name: rows.values for name, rows in zip(self._fields, self._rows, strict=True)}
        self.contents: dict[str, np.ndarray] = {}
        self.codecs: dict[str, tuple[str, int]] = {}
        self._descriptors: OrderedDict[int, int] = OrderedDict()  # the one used last at the end
        self._known: set[int] = set()  # shards whose places are filled in: looked at in this epoch
        self._paths: dict[int, Path] = {}  # of shards that were open once, and what their files were then
        self._identities: dict[int, Identity] = {}
        self._tables: OrderedDict[int, dict[str, ChunkTable]] = OrderedDict()
        self._num_chunks = 0

    def use(self, shards: Iterable[int]) -> None:
        """Have shards open, at most `capacity`, closing others where necessary.

        Raises
        ------
        DataError    if one is missing, damaged, not the one of the catalogue, or was replaced since it was first opened
        """
        shards = list(shards)
        for shard in shards:
            if shard in self._descriptors:
                self._descriptors.move_to_end(shard)
        for shard in shards:
            if shard not in self._known:
                self._open(shard)

    def was_zero(self, field: str, snapshot: int) -> bool:
        """Whether a snapshot was zero everywhere when it was written; its shard is open."""
        (shard,), (index,) = self._table.locate(np.array([snapshot]))
        return bool(self._chunk_tables(int(shard))[field].is_zero[index])

    def look_again(self) -> None:
        """Compare every file with what it was when it is used next."""
        for shard in self._known:
            self._forget_places(shard)
        self._known.clear()

    def close(self) -> None:
        """Close all files."""
        self.look_again()
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def _open(self, shard: int) -> None:
        path = self._paths.get(shard) or self._table.shards[shard][1]
        try:
            if shard not in self._descriptors:
                self._open_new(shard, path)
            tables = self._chunk_tables(shard)
            # Last, so that a file that was replaced while it was opened is noticed too.
            found = [_identity(os.fstat(self._descriptors[shard])), _identity(os.stat(path))]
        except OSError as error:
            raise DataError(f"{path}: cannot be opened ({error.strerror}); {REMEDY}") from None
        known = self._identities.setdefault(shard, found[0])
        if found != [known, known]:
            raise DataError(f"{path}: was replaced or changed while it was in use; start the program again")
        self._paths[shard] = path
        self._fill_places(shard, self._descriptors[shard], tables)
        self._known.add(shard)

    def _open_new(self, shard: int, path: Path) -> None:
        while len(self._descriptors) >= self.capacity:
            self._close_oldest()
        self._descriptors[shard] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _chunk_tables(self, shard: int) -> dict[str, ChunkTable]:
        """Return the chunk tables of a shard, by field, from memory if it was open before. Raises DataError."""
        tables = self._tables.pop(shard, None)
        if tables is None:
            with self._table.open_shard(shard) as reader:
                tables = {name: ChunkTable(reader, name) for name in self._fields}
            self._num_chunks += _num_chunks(tables)
        self._tables[shard] = tables
        while self._num_chunks > MOST_CHUNKS and len(self._tables) > 1:
            self._num_chunks -= _num_chunks(self._tables.popitem(last=False)[1])
        return tables

    def _fill_places(self, shard: int, descriptor: int, tables: dict[str, ChunkTable]) -> None:
        here = self._snapshots(shard)
        for name, table in tables.items():
            self._require_codec(name, table)
            if name in self.contents:
                self.contents[name][here, 0] = table.stored_sizes
                self.contents[name][here, 1] = table.is_compressed
            self.addresses[name][here, 0] = descriptor
            self.addresses[name][here, 1] = table.offsets

    def _require_codec(self, field: str, table: ChunkTable) -> None:
        found = table.codec, table.shuffled_itemsize
        if field not in self.codecs:
            self.codecs[field] = found
            if table.codec != "none":
                self._rows.append(_Rows(self._table.num_snapshots))
                self.contents[field] = self._rows[-1].values
        elif self.codecs[field] != found:
            raise DataError(f"{table.name}: is not compressed as in other shards; {REMEDY}")

    def _close_oldest(self) -> None:
        shard, descriptor = self._descriptors.popitem(last=False)
        self._forget_places(shard)
        self._known.discard(shard)
        os.close(descriptor)

    def _forget_places(self, shard: int) -> None:
        here = self._snapshots(shard)
        for rows in self._rows:
            rows.clear(here)

    def _snapshots(self, shard: int) -> slice:
        return slice(*self._table.shard_starts[shard : shard + 2].tolist())


class _Rows:
    """Rows of two int64, zero at first; those cleared again take no memory."""

    BYTES = 16

    def __init__(self, num_rows: int):
        self._memory = mmap.mmap(-1, max(1, num_rows * self.BYTES), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.values = np.frombuffer(self._memory, dtype=np.int64, count=2 * num_rows).reshape(num_rows, 2)

    def clear(self, rows: slice) -> None:
        self.values[rows] = 0
        begin = -(-rows.start * self.BYTES // mmap.PAGESIZE) * mmap.PAGESIZE
        end = rows.stop * self.BYTES // mmap.PAGESIZE * mmap.PAGESIZE
        if end > begin:
            self._memory.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def _own_descriptors() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_PLACES if limit == resource.RLIM_INFINITY else limit // SHARE_OF_DESCRIPTORS


def _identity(status: os.stat_result) -> Identity:
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _num_chunks(tables: dict[str, ChunkTable]) -> int:
    return sum(CHUNKS_PER_TABLE + len(table.offsets) for table in tables.values())
