"""Samples of a material's stress: what a constitutive law is trained on. One row for each run, or bin, of MD.

The file is HDF5: every array is one chunk with Fletcher-32, the header a text of fixed length with the SHA-256 of
itself and of the samples, which are compared whenever it is read.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.provenance import digest, provenance
from hpcsurrogate.data.new_file import new_hdf5
from hpcsurrogate.sources.hdf5 import find_array, open_hdf5, read_fixed_text, translated_faults

SCHEMA_VERSION = 1
HEADER = "hpcsurrogate_material"
REMEDY = "run `hpcsurrogate ingest lammps` again"

# Name -> columns and physical dimension; gradients row by row, stresses xx, xy, xz, yy, yz, zz.
COLUMNS = {
    "density": (1, "mass/length^3"),
    "temperature": (1, "temperature"),
    "velocity_gradient": (9, "1/time"),
    "stress": (6, "pressure"),
    "stress_error": (6, "pressure"),
    "state": (1, ""),
    "held_out": (1, ""),
}


@dataclass(frozen=True)
class MaterialSample:
    """One sample, before it has its state; as in MaterialSamples."""

    density: float
    temperature: float
    velocity_gradient: np.ndarray
    stress: np.ndarray
    stress_error: np.ndarray


@dataclass(frozen=True)
class MaterialSamples:
    """Runs, or slices of them, side by side, in the units of the runs.

    Attributes
    ----------
    density : ndarray, shape (n,), float64
    temperature : ndarray, shape (n,), float64
    velocity_gradient : ndarray, shape (n, 9), float64    G_ij = du_i/dx_j, row by row
    stress : ndarray, shape (n, 6), float64               Cauchy stress sigma = -(pressure tensor), positive in tension;
                                                          the momentum equation gets +div(sigma)
    stress_error : ndarray, shape (n, 6), float64         standard error of each mean, from block averages; of a slice,
                                                          that of the gradient times the viscosity is in it
    state : ndarray, shape (n,), int64                    of the state: equal for runs that differ in the seed alone
    held_out : ndarray, shape (n,), bool                  training must not see it
    """

    density: np.ndarray
    temperature: np.ndarray
    velocity_gradient: np.ndarray
    stress: np.ndarray
    stress_error: np.ndarray
    state: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True)
class MaterialFile:
    """What the file says beside the samples.

    Attributes
    ----------
    units : str              style of the LAMMPS scripts: lj, real, metal, si or electron
    runs : tuple of str      name of each row's run; slices of one run share it
    configuration : str      digest of all that decided the contents
    """

    units: str
    runs: tuple[str, ...]
    configuration: str


def write_material(path: Path, samples: MaterialSamples, about: MaterialFile) -> None:
    """Write samples as HDF5; the file is whole or not there.

    Raises
    ------
    OSError    if there is no room
    """
    columns = {name: _stored(name, getattr(samples, name)) for name in COLUMNS}
    content = {"schema_version": SCHEMA_VERSION, "header": asdict(about), "samples": _checksum(columns)}
    content = json.loads(json.dumps(content | {"provenance": provenance()}, allow_nan=False))
    text = json.dumps(content | {"checksum": digest(content)})
    with new_hdf5(path) as file:
        file.attrs[HEADER] = np.bytes_(text)
        for name, values in columns.items():
            file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True, track_times=False)


def read_material(path: str | Path) -> MaterialSamples:
    """Read samples.

    Raises
    ------
    DataError    if the file is missing, damaged or of another version (tests/unit/data/test_material.py)
    """
    return _read(Path(path))[1]


def about_material(path: str | Path) -> MaterialFile:
    """Read what a file says of its samples. Raises DataError as `read_material`."""
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[MaterialFile, MaterialSamples]:
    with open_hdf5(path) as file:
        text = read_fixed_text(path, file, HEADER)
        try:
            content = json.loads(text)
            checksum = content.pop("checksum")
            if checksum != digest(content) or content["schema_version"] != SCHEMA_VERSION:
                raise ValueError("checksum or version do not match")
            about = MaterialFile(**(content["header"] | {"runs": tuple(content["header"]["runs"])}))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: attribute {HEADER} is damaged ({error}); {REMEDY}") from None
        columns = {}
        for name, (width, _) in COLUMNS.items():
            array, expected = find_array(path, file, name), (len(about.runs), width)[: 1 + (width > 1)]
            if array.shape != expected or array.dtype != _dtype(name):
                raise DataError(f"{path}: {name} is not {_dtype(name)} of shape {expected}; {REMEDY}")
            with translated_faults(path, f"reading {name}"):
                columns[name] = array[()]
    if _checksum(columns) != content["samples"]:
        raise DataError(f"{path}: samples are not those that were written; {REMEDY}")
    columns["held_out"] = columns["held_out"].astype(bool)
    return about, MaterialSamples(**columns)


def _dtype(name: str) -> np.dtype:
    return np.dtype(np.int64 if name in ("state", "held_out") else np.float64)


def _stored(name: str, values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=_dtype(name))


def _checksum(columns: dict[str, np.ndarray]) -> str:
    whole = hashlib.sha256()
    for name in COLUMNS:
        whole.update(columns[name].tobytes())
    return whole.hexdigest()
