"""The catalogue beside the shards: which realisation lies in which file, with size and SHA-256.

Readers open a shard through the catalogue, so that a file that was exchanged, cut short or left over is noticed.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hpcsurrogate.core.atomic import read_json, sha256_file, write_json_atomic
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.shards import ShardReader

SCHEMA_VERSION = 1
FILE_NAME = "catalogue.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CatalogueEntry(_Model):
    """One shard: its file and what must be found in it."""

    file: str
    size: int
    sha256: str
    realisation: int
    num_snapshots: int
    snapshot_interval: float
    grid_shape: tuple[int, int]
    layout: str
    fields: tuple[str, ...]


class _Content(_Model):
    schema_version: Literal[1]
    entries: tuple[CatalogueEntry, ...]


class Catalogue:
    """The shards of one directory.

    Parameters
    ----------
    directory : str or Path
    entries : iterable of CatalogueEntry

    Raises
    ------
    DataError    if a realisation is listed twice
    """

    def __init__(self, directory: str | Path, entries: Iterable[CatalogueEntry]):
        self.directory = Path(directory)
        self.entries = tuple(sorted(entries, key=lambda entry: entry.realisation))
        self.realisations = tuple(entry.realisation for entry in self.entries)
        if len(set(self.realisations)) != len(self.realisations):
            raise DataError(
                f"{self.directory / FILE_NAME}: a realisation is listed twice; run the stage that writes it again"
            )

    @classmethod
    def read(cls, directory: str | Path) -> "Catalogue":
        """Read the catalogue of a directory.

        Raises
        ------
        DataError    if it is missing, is no JSON, or a key is missing, unknown or of a wrong type, naming file and key
        """
        path = Path(directory) / FILE_NAME
        try:
            content = _Content.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{path}: {key}: {first['msg']}; run the stage that writes it again") from None
        return cls(directory, content.entries)

    def write(self) -> None:
        """Write the catalogue into its directory, old state or new one."""
        content = _Content(schema_version=SCHEMA_VERSION, entries=self.entries)
        write_json_atomic(self.directory / FILE_NAME, content.model_dump(mode="json"))

    def entry(self, realisation: int) -> CatalogueEntry:
        """Return the entry of a realisation. Raises DataError if there is none."""
        for entry in self.entries:
            if entry.realisation == realisation:
                return entry
        raise DataError(
            f"{self.directory / FILE_NAME}: there is no realisation {realisation}, only {list(self.realisations)}"
        )

    def path(self, realisation: int) -> Path:
        """Return the file of a realisation.

        Raises
        ------
        DataError    if there is none, or it does not lie in the catalogue's own directory
        """
        name = self.entry(realisation).file
        path = self.directory / name
        if Path(name).name != name or path.resolve().parent != self.directory.resolve():
            raise DataError(f"{self.directory / FILE_NAME}: {name} leads out of the directory; put the file into it")
        return path

    def verify(self, realisation: int) -> None:
        """Compare size and SHA-256 of a shard with the catalogue.

        Raises
        ------
        DataError    if the file is missing or differs, naming it
        """
        entry, path = self.entry(realisation), self.path(realisation)
        check_size(entry, path)
        if sha256_file(path) != entry.sha256:
            raise DataError(f"{path}: SHA-256 differs from the catalogue; run the stage that writes it again")

    def open(self, realisation: int, verify: bool = False) -> ShardReader:
        """Return the reader of a realisation, a context manager that checks the shard against its entry on entering.

        Parameters
        ----------
        realisation : int
        verify : bool    compare the SHA-256 first, which reads the whole file

        Raises
        ------
        DataError    if the shard is missing or is not the one the catalogue describes
        """
        if verify:
            self.verify(realisation)
        else:
            check_size(self.entry(realisation), self.path(realisation))
        return _CataloguedReader(self.path(realisation), self.entry(realisation))


class _CataloguedReader(ShardReader):
    """A shard that must hold what its entry says."""

    def __init__(self, path: Path, entry: CatalogueEntry):
        super().__init__(path)
        self._entry = entry

    def __enter__(self) -> Self:
        super().__enter__()
        found = describe(self)
        promised = self._entry.model_dump(include=set(found))
        if found != promised:
            self.__exit__(None, None, None)
            key = next(name for name in found if found[name] != promised[name])
            raise DataError(
                f"{self.path}: {key} is {found[key]}, the catalogue says {promised[key]};"
                " run the stage that writes it again"
            )
        return self


def describe(shard: ShardReader) -> dict:
    """Return what a catalogue entry says of the contents of an open shard."""
    header = shard.header
    return {
        "realisation": header.realisation,
        "num_snapshots": header.num_snapshots,
        "snapshot_interval": header.snapshot_interval,
        "grid_shape": header.grid_shape,
        "layout": header.layout,
        "fields": shard.field_names,
    }


def catalogue_shard(path: str | Path) -> CatalogueEntry:
    """Return the entry of a finished shard, reading it back: size and SHA-256 of the file, the rest from its header."""
    path = Path(path)
    with ShardReader(path) as shard:
        contents = describe(shard)
    return CatalogueEntry(file=path.name, size=path.stat().st_size, sha256=sha256_file(path), **contents)


def check_size(entry: CatalogueEntry, path: Path) -> None:
    """Raise DataError if the file is missing or has another size than its entry says."""
    if not path.is_file():
        raise DataError(f"{path}: file is missing, the catalogue lists it; run the stage that writes it again")
    if path.stat().st_size != entry.size:
        raise DataError(
            f"{path}: {path.stat().st_size} bytes, the catalogue says {entry.size}; run the stage that writes it again"
        )


def shard_name(realisation: int) -> str:
    """Return the file name of a realisation."""
    return f"realisation-{realisation:04d}.hdf5"


def clear_shards(directory: str | Path) -> None:
    """Remove the catalogue and all shards of a directory: what another configuration left must not be mixed in."""
    directory = Path(directory)
    (directory / FILE_NAME).unlink(missing_ok=True)
    for pattern in ("realisation-*.hdf5", ".partial-realisation-*.hdf5"):
        for path in directory.glob(pattern):
            path.unlink()
