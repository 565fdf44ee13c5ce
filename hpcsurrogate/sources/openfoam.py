"""Cases of OpenFOAM: the mesh, the times, and the fields, also of a case that was cut into parts (`processor0`, ...).

A field of a decomposed case is put together here, so that nobody need reconstruct it; its mesh is read whole, from
constant/polyMesh. Cases in the collated format are refused with the command that converts them.

The formats: https://doc.cfd.direct/openfoam/user-guide-v12/basic-file-format and .../mesh-description.
"""

import math
import re
from functools import cached_property
from pathlib import Path

import numpy as np

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.physics.cell_mesh import CellMesh
from hpcsurrogate.sources import openfoam_files as files
from hpcsurrogate.sources.openfoam_mesh import read_mesh

__all__ = ["OpenFoamCase"]


class OpenFoamCase:
    """A case on the disk.

    Parameters
    ----------
    path : str or Path    the folder with constant/ and system/

    Raises
    ------
    DataError    if there is no such case, or it is stored in the collated format

    Notes
    -----
    Ascii, binary, compressed and decomposed forms of one run give the same numbers
    (tests/openfoam/test_ingest.py); what is refused, and how: tests/unit/sources/test_openfoam.py.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / "constant").is_dir():
            raise DataError(f"{path}: is no OpenFOAM case, it has no folder constant; correct the path")
        if any(re.fullmatch(r"processors\d+(_\d+-\d+)?", folder.name) for folder in self.path.iterdir()):
            raise DataError(
                f"{path}: is stored in the collated format, which is not read; convert it: "
                f"`reconstructPar -case {self.path} -fileHandler collated`, then remove the folders processors*"
            )

    @cached_property
    def mesh(self) -> CellMesh:
        """The whole mesh; DataError if a file of it is missing or damaged."""
        return read_mesh(self.path / "constant" / "polyMesh")

    @cached_property
    def parts(self) -> list[Path]:
        """Folders processor0, processor1, ... of a decomposed case, in order."""
        found = [part for part in self.path.glob("processor*") if re.fullmatch(r"processor\d+", part.name)]
        return sorted(found, key=lambda part: int(part.name.removeprefix("processor")))

    @cached_property
    def _cells_of_parts(self) -> list[np.ndarray]:
        """For each part, which cells of the whole mesh it holds."""
        paths = [part / "constant" / "polyMesh" / "cellProcAddressing" for part in self.parts]
        cells = [files.read_labels(path) for path in paths]
        if not np.array_equal(np.sort(np.concatenate(cells)), np.arange(self.mesh.num_cells)):
            raise DataError(
                f"{paths[0]}: the parts together do not hold each of the {self.mesh.num_cells} cells once; "
                "a part is missing, or mesh and parts do not belong together: run decomposePar again"
            )
        return cells

    def times(self, field: str, start: float | None = None, stop: float | None = None) -> list[str]:
        """Return the names of the times from start to stop [s], both included, at which a field is there, in order.

        None stands for the first and the last time that there is.

        Raises
        ------
        DataError    if there is none
        """
        folders = {folder.name for place in (self.path, *self.parts[:1]) for folder in place.iterdir()}
        named = {name: float(name) for name in folders if re.fullmatch(r"\d+(\.\d+)?([eE][-+]?\d+)?", name)}
        start, stop = (-math.inf if start is None else start), (math.inf if stop is None else stop)
        chosen = [name for name, time in named.items() if start <= time <= stop and self.field_files(field, name)]
        if not chosen:
            raise DataError(f"{self.path}: has no field {field} at a time from {start:g} to {stop:g} s; correct them")
        return sorted(chosen, key=named.__getitem__)

    def field_files(self, field: str, time: str) -> list[Path]:
        """Return the files that hold a field at a time: one, or one a part; an empty list if it is not there."""
        for places in ([self.path], self.parts):
            try:
                return [files.existing(place / time / field) for place in places]
            except DataError:
                continue
        return []

    def field(self, field: str, time: str, num_components: int) -> np.ndarray:
        """Read the values of cells.

        Parameters
        ----------
        field : str             such as "U"
        time : str              name of the time's folder
        num_components : int    1, 3, 6 or 9

        Returns
        -------
        ndarray, shape (n, num_components), float64 [the field's unit]

        Raises
        ------
        DataError    if it is missing or damaged, holds NaN or infinity, or does not fit the mesh
        """
        whole = self.path / time / field
        if not self.parts or whole.is_file() or whole.with_name(f"{field}.gz").is_file():
            return files.FieldFile(whole).values(self.mesh.num_cells, num_components)
        values = np.empty((self.mesh.num_cells, num_components))
        for part, cells in zip(self.parts, self._cells_of_parts, strict=True):
            values[cells] = files.FieldFile(part / time / field).values(len(cells), num_components)
        return values
