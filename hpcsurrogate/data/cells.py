"""Samples of single cells, of any mesh: what a closure of kind `pointwise` is trained on. One HDF5 file for each time.

Rows are cells, columns what stands in `COLUMNS`. Every array is one chunk with Fletcher-32, the header a text of fixed
length, and `cells.json` beside the files has size and SHA-256 of each, which are compared whenever one is read.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import h5py
import numpy as np

from hpcsurrogate.core.atomic import read_json, sha256_file, write_json_atomic
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.provenance import digest, provenance
from hpcsurrogate.data.new_file import new_hdf5
from hpcsurrogate.sources.hdf5 import find_array, open_hdf5, read_fixed_text, translated_faults

SCHEMA_VERSION = 2
HEADER = "hpcsurrogate_cells"
CATALOGUE = "cells.json"
# Name -> columns and unit; gradients row by row, stresses xx, xy, xz, yy, yz, zz.
COLUMNS = {
    "scaled_velocity_gradient": (9, "1/s"),
    "filter_width": (1, "m"),
    "sgs_stress": (6, "m^2/s^2"),
    "volume": (1, "m^3"),
}


@dataclass(frozen=True)
class CellSamples:
    """Cells side by side.

    Attributes
    ----------
    scaled_velocity_gradient : ndarray, shape (n, 9), float64 [1/s]    row by row, as in core/fields.py
    filter_width : ndarray, shape (n,), float64 [m]
    sgs_stress : ndarray, shape (n, 6), float64 [m^2/s^2]              filter(u_i u_j) - filter(u_i) filter(u_j), whole
    volume : ndarray, shape (n,), float64 [m^3]                        what a cell weighs in a mean
    """

    scaled_velocity_gradient: np.ndarray
    filter_width: np.ndarray
    sgs_stress: np.ndarray
    volume: np.ndarray

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Put samples one after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS))


@dataclass(frozen=True)
class CellFile:
    """What the catalogue says of one file.

    Attributes
    ----------
    name : str
    time : float            [s]
    num_cells : int
    configuration : str     digest of all that decides the contents
    size : int              bytes
    sha256 : str
    """

    name: str
    time: float
    num_cells: int
    configuration: str
    size: int
    sha256: str


def write_cells(path: Path, samples: CellSamples, time: float, configuration: str) -> CellFile:
    """Write the cells of one time; the file is whole or not there. Return what the catalogue says of it.

    Raises
    ------
    OSError    if there is no room
    """
    header = {"num_cells": len(samples.volume), "time": time, "configuration": configuration}
    content = {"schema_version": SCHEMA_VERSION, "header": header, "provenance": provenance()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_hdf5(path) as file:
        file.attrs[HEADER] = np.bytes_(json.dumps(content, allow_nan=False))
        for name, (_, unit) in COLUMNS.items():
            values = getattr(samples, name).astype(np.float64, copy=False)
            array = file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True, track_times=False)
            array.attrs["units"] = np.bytes_(unit)
    return CellFile(path.name, **header, size=path.stat().st_size, sha256=sha256_file(path))


def recorded(path: Path, configuration: str) -> CellFile | None:
    """Return what the catalogue would say of a file, if it is there, whole and of this configuration; else None."""
    try:
        header, _ = _read(path)
    except DataError:
        return None
    if header["configuration"] != configuration:
        return None
    return CellFile(path.name, **header, size=path.stat().st_size, sha256=sha256_file(path))


@dataclass(frozen=True)
class CellCatalogue:
    """All files of a directory, in the order of time.

    Attributes
    ----------
    directory : Path
    time_step : float           [s] of the coarse solver that the closure is meant for
    files : tuple of CellFile
    """

    directory: Path
    time_step: float
    files: tuple[CellFile, ...]

    def write(self) -> None:
        """Write cells.json."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "time_step": self.time_step,
            "files": [asdict(file) for file in self.files],
        }
        write_json_atomic(self.directory / CATALOGUE, content | {"checksum": digest(content)})

    @classmethod
    def read(cls, directory: str | Path) -> Self:
        """Read cells.json.

        Raises
        ------
        DataError    if it is missing, damaged or of another version
        """
        path = Path(directory) / CATALOGUE
        content = read_json(path)
        try:
            checksum = content.pop("checksum")
            if checksum != digest(content) or content["schema_version"] != SCHEMA_VERSION:
                raise ValueError("checksum or version do not match")
            files = tuple(CellFile(**file) for file in content["files"])
            return cls(Path(directory), content["time_step"], files)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: is damaged ({error}); run `hpcsurrogate ingest` again") from None

    def samples(self, files: tuple[CellFile, ...]) -> CellSamples:
        """Read some of the files.

        Returns
        -------
        CellSamples    of all of them, one after the other

        Raises
        ------
        DataError    if one is missing or not as recorded (tests/unit/data/test_cells.py)
        """
        parts = []
        for file in files:
            path = self.directory / file.name
            header, part = _read(path)
            if sha256_file(path) != file.sha256 or header["num_cells"] != file.num_cells:
                raise DataError(f"{path}: is not the file that {CATALOGUE} names; run `hpcsurrogate ingest` again")
            parts.append(part)
        return CellSamples.joined(parts)


def _read(path: Path) -> tuple[dict, CellSamples]:
    with open_hdf5(path) as file:
        text = read_fixed_text(path, file, HEADER)
        try:
            content = json.loads(text)
            version, header = content["schema_version"], content["header"]
            num_cells, _, _ = header["num_cells"], header["time"], header["configuration"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: attribute {HEADER} is damaged ({error}); write the file again") from None
        if version != SCHEMA_VERSION or len(header) != 3:
            raise DataError(f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}; write it again")
        columns = {}
        for name, (width, unit) in COLUMNS.items():
            array = find_array(path, file, name)
            expected = (num_cells,) if width == 1 else (num_cells, width)
            if array.shape != expected or array.dtype != np.float64 or read_fixed_text(path, array, "units") != unit:
                raise DataError(f"{path}: {name} is not {unit} as doubles of shape {expected}; write the file again")
            columns[name] = _whole(path, array)
    return header, CellSamples(**columns)


def _whole(path: Path, array: h5py.Dataset) -> np.ndarray:
    with translated_faults(path, f"reading {array.name}"):
        return array[()]
