"""Readers of what a catalogue lists: a shard that must be the one it describes, and a realisation over its shards."""

from bisect import bisect_right
from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

import numpy as np

from hpcsurrogate.core.atomic import sha256_file
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.entries import Description, RealisationEntry, ShardEntry, ShardRecord
from hpcsurrogate.data.shards import ShardHeader, ShardReader

MOST_OPEN = 4  # shards of a realisation at a time
_REMEDY = "run the stage that writes it again"


def shard_path(directory: Path, shard: ShardEntry) -> Path:
    """Return the path of a shard. Raises DataError if it does not lie in the directory of its catalogue."""
    path = directory / shard.file
    if Path(shard.file).name != shard.file or path.resolve().parent != directory.resolve():
        raise DataError(f"{path}: leads out of the directory of its catalogue; put the file into it")
    return path


def check_size(path: Path, shard: ShardEntry) -> None:
    """Raise DataError if the file is missing or has another size than its entry says."""
    if not path.is_file():
        raise DataError(f"{path}: file is missing, the catalogue lists it; {_REMEDY}")
    if path.stat().st_size != shard.size:
        raise DataError(f"{path}: {path.stat().st_size} bytes, the catalogue says {shard.size}; {_REMEDY}")


def verify_shard(path: Path, shard: ShardEntry) -> None:
    """Raise DataError if the file is missing, or its size or SHA-256 differs from its entry; reads the whole file."""
    check_size(path, shard)
    if sha256_file(path) != shard.sha256:
        raise DataError(f"{path}: SHA-256 differs from the catalogue; {_REMEDY}")


def describe(shard: ShardReader) -> Description:
    """Return what a catalogue says of the contents of an open shard. Raises DataError if its fields differ in dtype."""
    header = shard.header
    dtypes = {shard.dataset(name).dtype.name for name in shard.field_names}
    if len(dtypes) != 1:
        raise DataError(f"{shard.path}: fields have dtypes {sorted(dtypes)}, expected one; {_REMEDY}")
    return Description(
        snapshot_interval=header.snapshot_interval,
        grid_shape=header.grid_shape,
        domain=header.domain,
        layout=header.layout,
        fields=tuple(shard.field_names),
        dtype=dtypes.pop(),
        filter_kind=header.filter_kind,
        filter_width=header.filter_width,
        parameters=header.parameters,
    )


class CataloguedShard(ShardReader):
    """A shard that must hold what its catalogue says: its size and all that is in the record are compared on entering.

    Parameters
    ----------
    path : Path
    record : ShardRecord
    first : ShardHeader, optional    of another shard of the realisation, to compare what a catalogue does not hold: the
                                     name of the data set, the digest of what made it

    Raises
    ------
    DataError    if it is missing, damaged, or another one
    """

    def __init__(self, path: Path, record: ShardRecord, first: ShardHeader | None = None):
        super().__init__(path)
        self._record, self._first = record, first

    def __enter__(self) -> Self:
        check_size(self.path, self._record.shard)
        super().__enter__()
        try:
            self._require_the_one_described()
        except DataError:
            self.__exit__(None, None, None)
            raise
        return self

    def _require_the_one_described(self) -> None:
        shard = self._record.shard
        found = {key: getattr(self.header, key) for key in ("realisation", "first_snapshot", "num_snapshots")}
        promised = {
            "realisation": self._record.realisation,
            "first_snapshot": shard.first_snapshot,
            "num_snapshots": shard.num_snapshots,
        }
        require_equal(self.path, found | describe(self).common(), "the catalogue", promised | self._record.common())
        if self._first:
            block = {"first_snapshot": self._first.first_snapshot, "num_snapshots": self._first.num_snapshots}
            require_equal(self.path, asdict(self.header) | block, "the first shard", asdict(self._first))


def require_equal(path: Path, found: dict, witness: str, promised: dict) -> None:
    """Raise DataError on the first key of `found` whose value is not the promised one, saying who promised it."""
    for key, value in found.items():
        if value != promised[key]:
            raise DataError(f"{path}: {key} is {value!a:.80}, {witness} says {promised[key]!a:.80}; {_REMEDY}")


class RealisationReader:
    """Reads one realisation, whichever shards its snapshots lie in; a context manager.

    A shard is opened when a snapshot of it is read, and at most `MOST_OPEN` are open at a time.

    Parameters
    ----------
    directory : Path           of the catalogue
    entry : RealisationEntry
    verify : bool              compare the SHA-256 of a shard before a snapshot of it is read, which reads all of it

    Attributes
    ----------
    path : Path                          directory/realisation-0003, for messages
    header : ShardHeader                 of the whole: first_snapshot 0, num_snapshots of all shards
    field_names : tuple of str
    times : ndarray, shape (num_snapshots,), float64 [s]

    Raises
    ------
    DataError    if a shard is missing, damaged, or not the one the catalogue describes, naming it

    Notes
    -----
    Cut into shards in any way, a realisation reads the same (tests/unit/data/test_readers.py).
    """

    def __init__(self, directory: Path, entry: RealisationEntry, verify: bool = False):
        self.path = directory / f"realisation-{entry.realisation:04d}"
        self._directory, self._entry, self._verify = directory, entry, verify
        self._starts = [shard.first_snapshot for shard in entry.shards]
        self._open: dict[int, CataloguedShard] = {}  # the one used last at the end
        self._verified: set[int] = set()
        self._first: ShardHeader | None = None

    def __enter__(self) -> Self:
        self._first = self._shard(0).header
        self.header: ShardHeader = replace(self._first, num_snapshots=self._entry.num_snapshots)
        self.field_names = self._entry.fields
        self.times = np.arange(self.header.num_snapshots) * self.header.snapshot_interval
        return self

    def __exit__(self, *exception: object) -> None:
        while self._open:
            self._open.popitem()[1].__exit__(*exception)

    def snapshot(self, name: str, index: int) -> np.ndarray:
        """Return one snapshot of a field, shape (component, nx, ny[, nz]); a negative index counts from the end.

        Raises
        ------
        DataError    as `read`, and if there is no such snapshot
        """
        total = self.header.num_snapshots
        if not -total <= index < total:
            raise DataError(f"{self.path}: there is no snapshot {index}; the realisation has {total}")
        return self.read(name, index % total, index % total + 1)[0]

    def read(self, name: str, start: int = 0, stop: int | None = None, step: int = 1) -> np.ndarray:
        """Return snapshots start, start + step, ... before stop; step is positive.

        Returns
        -------
        ndarray, shape (time, component, nx, ny[, nz])    [the field's unit] in the precision of the shards

        Raises
        ------
        DataError    if there is no such field, or a shard cannot be trusted
        """
        wanted = range(self.header.num_snapshots)[start:stop:step]
        if not wanted:
            return self._shard(0).read(name, 0, 0)
        parts = []
        for index in range(self._holder(wanted[0]), self._holder(wanted[-1]) + 1):
            first = self._starts[index]
            here = range(first, first + self._entry.shards[index].num_snapshots)
            offset = max(0, -(-(here.start - wanted.start) // wanted.step))  # of the wanted ones before this shard
            chosen = range(wanted[0] + offset * wanted.step, min(wanted.stop, here.stop), wanted.step)
            if chosen:
                self._verify_once(index)
                parts.append(self._shard(index).read(name, chosen.start - first, chosen.stop - first, wanted.step))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _holder(self, snapshot: int) -> int:
        return bisect_right(self._starts, snapshot) - 1

    def _shard(self, index: int) -> CataloguedShard:
        """An open shard; opening one too many closes the one that was used least recently."""
        reader = self._open.pop(index, None) or self._enter(index)
        self._open[index] = reader
        if len(self._open) > MOST_OPEN:
            self._open.pop(next(iter(self._open))).__exit__(None, None, None)
        return reader

    def _enter(self, index: int) -> CataloguedShard:
        shard = self._entry.shards[index]
        record = ShardRecord(**self._entry.common(), realisation=self._entry.realisation, shard=shard)
        return CataloguedShard(shard_path(self._directory, shard), record, self._first).__enter__()

    def _verify_once(self, index: int) -> None:
        if not self._verify or index in self._verified:
            return
        # Opened again afterwards: what is hashed and what is read shall be the same file.
        if reader := self._open.pop(index, None):
            reader.__exit__(None, None, None)
        shard = self._entry.shards[index]
        verify_shard(shard_path(self._directory, shard), shard)
        self._verified.add(index)
