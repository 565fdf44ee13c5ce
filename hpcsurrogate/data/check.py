"""Looks over data directories and says what is wrong, all of it, without stopping at the first fault."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import h5py
import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import AXES
from hpcsurrogate.data.catalogue import FILE_NAME, Catalogue
from hpcsurrogate.data.entries import ShardRecord
from hpcsurrogate.data.readers import CataloguedShard, shard_path, verify_shard
from hpcsurrogate.data.shards import ShardReader
from hpcsurrogate.sources.hdf5 import find_array, open_hdf5, translated_faults

ROUNDING = 1e-6  # relative; times and coordinates are stored in float32
DATA_FOLDERS = ("raw", "prepared")  # of a run directory
MORE_FILTERS = "filter-*"  # folders in prepared/, complete in themselves


@dataclass(frozen=True)
class Finding:
    """One fault: the file, the data set in it (empty if the whole file is meant), and what is wrong in one line."""

    file: str
    dataset: str
    message: str

    def __str__(self) -> str:
        return self.message


def check_directory(path: str | Path, deep: bool) -> list[Finding]:
    """Check the shards of a directory and of the further filters in it, or those in raw/ and prepared/ of a run.

    Parameters
    ----------
    path : str or Path
    deep : bool    False: catalogue, sizes and headers. True: also SHA-256, and every value is read and must be finite

    Returns
    -------
    list of Finding    empty if all is well

    Notes
    -----
    A cut, changed, missing, extra or unwritten part is found (tests/unit/data/test_check.py).
    """
    path = Path(path)
    roots = [path] if (path / FILE_NAME).is_file() else [path / name for name in DATA_FOLDERS if (path / name).is_dir()]
    if not roots:
        return [
            Finding(
                str(path), "", f"{path}: holds neither {FILE_NAME} nor raw/ nor prepared/; name a run or data directory"
            )
        ]
    folders = [folder for root in roots for folder in (root, *sorted(root.glob(MORE_FILTERS))) if folder.is_dir()]
    # A fault that two checks meet is one finding.
    return list(dict.fromkeys(finding for folder in folders for finding in _check_folder(folder, deep)))


def _check_folder(folder: Path, deep: bool) -> Iterator[Finding]:
    try:
        catalogue = Catalogue.read(folder)
    except DataError as error:
        yield Finding(str(folder / FILE_NAME), "", str(error))
        return
    records = [catalogue.record(row) for realisation in catalogue.realisations for row in catalogue.rows(realisation)]
    listed = {record.shard.file for record in records}
    for path in sorted(folder.glob("*.hdf5")):
        if path.name not in listed:
            yield Finding(str(path), "", f"{path}: not in the catalogue; remove it or run the stage again")
    for _, of_realisation in groupby(records, key=lambda record: record.realisation):
        yield from _check_realisation(folder, of_realisation, deep)


def _check_realisation(folder: Path, records: Iterable[ShardRecord], deep: bool) -> Iterator[Finding]:
    first = None
    for record in records:
        name = str(folder / record.shard.file)
        try:
            if deep:
                verify_shard(shard_path(folder, record.shard), record.shard)
        except DataError as error:
            yield Finding(name, "", str(error))
            # A changed file may still open: go on, to say what in it is changed.
        try:
            with CataloguedShard(shard_path(folder, record.shard), record, first) as shard:
                first = first or shard.header
                yield from _check_axes(shard)
                if deep:
                    yield from _check_values(shard)
        except DataError as error:
            yield Finding(name, "", str(error))


def _check_axes(shard: ShardReader) -> Iterator[Finding]:
    """Times and coordinates against the header."""
    header = shard.header
    offset = 0.5 if header.layout == "staggered" else 0.0
    expected = {"time": shard.times}
    for axis, length, points in zip(AXES[: header.num_dims], header.domain, header.grid_shape, strict=True):
        expected[axis] = (np.arange(points) + offset) * length / points
    with open_hdf5(shard.path) as file:
        for axis, values in expected.items():
            key = f"dimensions/{axis}"
            found = _read(shard.path, file, key)
            if found.shape != values.shape or not np.allclose(
                found, values, rtol=ROUNDING, atol=ROUNDING * np.ptp(values)
            ):
                yield Finding(str(shard.path), key, f"{shard.path}: {key} contradicts the header; write the file again")


def _read(path: Path, file: h5py.File, key: str) -> np.ndarray:
    array = find_array(path, file, key)
    with translated_faults(path, f"reading {key}"):
        return array[()]


def _check_values(shard: ShardReader) -> Iterator[Finding]:
    """Every chunk through its checksum, every value finite; one finding a field."""
    for name in shard.field_names:
        for index in range(shard.header.num_snapshots):
            if fault := _fault_of_snapshot(shard, name, index):
                yield Finding(str(shard.path), name, fault)
                break


def _fault_of_snapshot(shard: ShardReader, name: str, index: int) -> str:
    try:
        if np.isfinite(shard.snapshot(name, index)).all():
            return ""
    except DataError as error:
        return f"{error} (snapshot {index})"
    return f"{shard.path}: {name}, snapshot {index} holds NaN or infinity; run the stage again"
