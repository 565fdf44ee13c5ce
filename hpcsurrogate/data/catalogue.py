"""The catalogue beside the shards: which realisation lies in which files, with sizes and SHA-256.

Readers open shards through the catalogue, so that a file that was exchanged, cut short or left over is noticed. It may
list a hundred thousand: in memory it is columns of numbers, and entries are made of the few that are asked for.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable
from itertools import groupby
from pathlib import Path

from hpcsurrogate.core.atomic import sha256_file
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.catalogue_file import read_entries, write_entries
from hpcsurrogate.data.entries import Description, RealisationEntry, ShardEntry, ShardRecord, shard_name
from hpcsurrogate.data.readers import RealisationReader, describe, require_equal, shard_path, verify_shard
from hpcsurrogate.data.shard_columns import ShardColumns
from hpcsurrogate.data.shards import ShardReader
from hpcsurrogate.data.snapshot_table import SnapshotTable
from hpcsurrogate.parallel.world import World

__all__ = ["Catalogue", "RealisationEntry", "ShardEntry", "ShardRecord", "SnapshotTable", "shard_name"]

FILE_NAME = "catalogue.json"
ALONE = World()
MOST_NAMED = 20  # realisations in a message
_REMEDY = "run the stage that writes it again"


class Catalogue:
    """The shards of one directory.

    Parameters
    ----------
    directory : str or Path
    entries : iterable of RealisationEntry

    Attributes
    ----------
    directory : Path
    columns : ShardColumns    what the entries say

    Raises
    ------
    DataError    if a realisation is listed twice, or its shards do not follow each other from snapshot 0 on
    """

    def __init__(self, directory: str | Path, entries: Iterable[RealisationEntry]):
        self.directory = Path(directory)
        self.columns = ShardColumns()
        try:
            for entry in sorted(entries, key=lambda entry: entry.realisation):
                self.columns.add(entry)
        except ValueError as error:
            raise DataError(f"{self._path}: {error}; {_REMEDY}") from None

    @property
    def realisations(self) -> tuple[int, ...]:
        """Numbers of the realisations, in order."""
        return tuple(self.columns.realisations)

    @classmethod
    def read(cls, directory: str | Path, world: World = ALONE) -> "Catalogue":
        """Read the catalogue of a directory. Collective: rank 0 reads the file and sends the others what it holds.

        Raises
        ------
        DataError    on every rank, if it is missing, is no JSON, was changed since it was written, or a key is missing,
                     unknown or of a wrong type, naming file and key

        Notes
        -----
        Only rank 0 opens the file (tests/parallel/test_catalogue_broadcast.py).
        """
        found: Catalogue | DataError | None = None
        if world.rank == 0:
            found = cls(directory, ())
            try:
                read_entries(found._path, found.columns.add)
            except DataError as error:
                found = error
        found = world.bcast(found)
        if isinstance(found, DataError):
            raise found
        return found

    @classmethod
    def from_shards(cls, directory: str | Path, records: Iterable[ShardRecord]) -> "Catalogue":
        """Make a catalogue of what the writers say of their shards, in any order.

        Raises
        ------
        DataError    if shards of one realisation differ in anything but their snapshots, or these have gaps or overlap
        """
        in_order = sorted(records, key=lambda record: (record.realisation, record.shard.first_snapshot))
        entries = []
        for realisation, group in groupby(in_order, key=lambda record: record.realisation):
            first, *others = group
            for other in others:
                require_equal(Path(directory) / other.shard.file, other.common(), first.shard.file, first.common())
            shards = tuple(record.shard for record in (first, *others))
            entries.append(RealisationEntry(**first.common(), realisation=realisation, shards=shards))
        return cls(directory, entries)

    def write(self) -> None:
        """Write the catalogue into its directory: afterwards the file is the old one or the new one."""
        write_entries(self._path, map(self.entry, self.realisations))

    def entry(self, realisation: int) -> RealisationEntry:
        """Return all there is to know about a realisation. Raises DataError if there is none."""
        common = self.description(realisation).common()
        shards = tuple(map(self.columns.shard, self.rows(realisation)))
        return RealisationEntry(**common, realisation=realisation, shards=shards)

    def description(self, realisation: int) -> Description:
        """Return what the shards of a realisation have in common. Raises DataError if there is none."""
        return self.columns.description(self.place(realisation))

    def rows(self, realisation: int) -> range:
        """Return the places of a realisation's shards among all shards. Raises DataError if there is none."""
        return self.columns.rows(self.place(realisation))

    def record(self, row: int) -> ShardRecord:
        """Return all there is to know about a shard, given by its place among all shards."""
        owner = self.columns.owner(row)
        common = self.columns.description(owner).common()
        return ShardRecord(**common, realisation=self.columns.realisations[owner], shard=self.columns.shard(row))

    def path(self, shard: ShardEntry) -> Path:
        """Return the path of a shard. Raises DataError if it does not lie in the catalogue's own directory."""
        return shard_path(self.directory, shard)

    def verify(self, realisation: int) -> None:
        """Compare size and SHA-256 of all shards of a realisation with the catalogue.

        Raises
        ------
        DataError    if a file is missing or differs, naming it
        """
        for shard in self.entry(realisation).shards:
            verify_shard(self.path(shard), shard)

    def open(self, realisation: int, verify: bool = False) -> RealisationReader:
        """Return the reader of a realisation, a context manager that checks every shard it opens against its entry.

        Parameters
        ----------
        realisation : int
        verify : bool    compare the SHA-256 of a shard before its first snapshot is read, which reads all of it

        Raises
        ------
        DataError    if there is no such realisation
        """
        return RealisationReader(self.directory, self.entry(realisation), verify)

    def place(self, realisation: int) -> int:
        """Return the place of a realisation in `columns`. Raises DataError if there is none."""
        numbers = self.columns.realisations
        place = bisect_left(numbers, realisation)
        if place == len(numbers) or numbers[place] != realisation:
            listed = ", ".join(map(str, numbers[:MOST_NAMED])) or "none"
            more = ", ..." if len(numbers) > MOST_NAMED else ""
            raise DataError(f"{self._path}: there is no realisation {realisation}, only {listed}{more}")
        return place

    @property
    def _path(self) -> Path:
        return self.directory / FILE_NAME


def catalogue_shard(path: str | Path) -> ShardRecord:
    """Return the record of a finished shard, reading it back: size and SHA-256 of the file, the rest from within."""
    path = Path(path)
    with ShardReader(path) as shard:
        header, description = shard.header, describe(shard)
    entry = ShardEntry(path.name, path.stat().st_size, sha256_file(path), header.first_snapshot, header.num_snapshots)
    return ShardRecord(**description.common(), realisation=header.realisation, shard=entry)


def clear_shards(directory: str | Path, keep: Collection[str] = ()) -> None:
    """Remove the catalogue and the shards of a directory: what another configuration left must not be mixed in.

    Parameters
    ----------
    directory : str or Path
    keep : collection of str    names of shards to leave where they are
    """
    directory = Path(directory)
    (directory / FILE_NAME).unlink(missing_ok=True)
    for pattern in ("realisation-*.hdf5", ".partial-realisation-*.hdf5"):
        for path in directory.glob(pattern):
            if path.name not in keep:
                path.unlink()
