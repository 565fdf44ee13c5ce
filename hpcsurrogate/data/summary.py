"""What a data directory holds, as a table for people: from the catalogue alone, no shard is opened."""

from pathlib import Path

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.catalogue import FILE_NAME, Catalogue
from hpcsurrogate.data.entries import Description, RealisationEntry

COLUMNS = ("realisation", "snapshots", "interval [s]", "until [s]", "shards", "size [MB]")


def data_directories(path: str | Path) -> list[Path]:
    """Return the directories with a catalogue: the path itself, or those of the run directory that it is.

    Parameters
    ----------
    path : str or Path    a directory with a catalogue, or with raw/, prepared/, prepared/filter-1/ that have one

    Returns
    -------
    list of Path    in the order of the data; never empty

    Raises
    ------
    DataError    if there is no catalogue
    """
    path = Path(path)
    filters = sorted(path.glob("prepared/filter-*"), key=lambda folder: (len(folder.name), folder.name))
    candidates = [path] if (path / FILE_NAME).is_file() else [path / "raw", path / "prepared", *filters]
    found = [candidate for candidate in candidates if (candidate / FILE_NAME).is_file()]
    if not found:
        raise DataError(f"{path}: holds no {FILE_NAME}, nor does raw/ or prepared/ in it; name a run or data directory")
    return found


def describe_directory(directory: str | Path, realisation: int | None = None) -> str:
    """Return a table of the realisations of a directory, under a head with what they have in common.

    Parameters
    ----------
    directory : str or Path     holds a catalogue
    realisation : int or None   None for all

    Returns
    -------
    str    several lines

    Raises
    ------
    DataError    if the catalogue is damaged, or there is no such realisation
    """
    catalogue = Catalogue.read(directory)
    chosen = catalogue.realisations if realisation is None else (realisation,)
    entries = [catalogue.entry(number) for number in chosen]
    lines = [f"{directory}: {_count(entries)}"]
    # Normally one group. A catalogue may hold more: grids or intervals of different users' files.
    groups: dict[Description, list[RealisationEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.description, []).append(entry)
    for description, members in groups.items():
        lines += ["", *_head(description), "", *_table(members)]
    return "\n".join(lines)


def _count(entries: list[RealisationEntry]) -> str:
    snapshots = sum(entry.num_snapshots for entry in entries)
    shards = sum(len(entry.shards) for entry in entries)
    return f"{len(entries)} realisation(s), {snapshots} snapshots in {shards} shard(s), {_megabytes(entries)} MB"


def _megabytes(entries: list[RealisationEntry]) -> str:
    return f"{sum(shard.size for entry in entries for shard in entry.shards) / 1e6:.1f}"


def _head(data: Description) -> list[str]:
    num_dims = len(data.grid_shape)
    grid = f"{_product(data.grid_shape)} points, {data.layout}, box {_product(data.domain)} m, {data.dtype}"
    filtered = "none" if data.filter_kind == "none" else f"{data.filter_kind}, width {_product(data.filter_width)} m"
    parameters = ", ".join(f"{name} = {value:g}" for name, value in data.parameters.items()) or "none"
    lines = [f"  grid        {grid}", f"  filter      {filtered}", f"  parameters  {parameters}"]
    for index, name in enumerate(data.fields):
        components = ", ".join(FIELDS[name].components_in(num_dims)) or "scalar"
        label = "fields" if index == 0 else ""
        lines.append(f"  {label:<12}{name} {FIELDS[name].symbol} [{FIELDS[name].unit}]: {components}")
    return lines


def _product(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _table(entries: list[RealisationEntry]) -> list[str]:
    rows = [COLUMNS]
    for entry in entries:
        until = (entry.num_snapshots - 1) * entry.snapshot_interval
        numbers = (entry.realisation, entry.num_snapshots, f"{entry.snapshot_interval:g}", f"{until:g}")
        rows.append((*map(str, numbers), str(len(entry.shards)), _megabytes([entry])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
