"""Fine runs of OpenFOAM as samples of cells: every rank reads its own times, averages them onto the coarse mesh, and
writes one file of data/cells.py for each; rank 0 writes the catalogue.

The gradient of a sample is the one that the coarse solver will have: its own scheme (Gauss linear) on its own mesh with
its own boundary conditions, applied to the averaged velocity, and scaled by the shape of the cell. What a flat cell
leaves unresolved is little along its short side: with the gradient alone and one width a closure cannot know that.
"""

import functools
from pathlib import Path

import numpy as np

import hpcsurrogate
from hpcsurrogate.core.config_cells import CellExperiment
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.provenance import digest
from hpcsurrogate.data.cells import CellCatalogue, CellFile, CellSamples, recorded, write_cells
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.cell_averages import CellAverages
from hpcsurrogate.physics.cell_mesh import CellMesh
from hpcsurrogate.sources.openfoam import OpenFoamCase
from hpcsurrogate.sources.openfoam_files import read_number
from hpcsurrogate.sources.openfoam_mesh import velocity_on_boundary

log = get_logger("ingest")

UNCOVERED = 0.01  # of a coarse cell's volume; more is worth a warning
MESH_FILES = ("points", "faces", "owner", "neighbour", "boundary")


def run_ingest(experiment: CellExperiment, directory: Path, world: World) -> CellCatalogue:
    """Write directory/cells-TIME.hdf5 for every time of the fine case, and the catalogue.

    An attempt that follows an interrupted one does only what is missing.

    Parameters
    ----------
    experiment : CellExperiment
    directory : Path
    world : World    its ranks share the times; all must call this

    Raises
    ------
    DataError    if a case is missing or damaged, or is two-dimensional, or the meshes do not fill the same space

    Notes
    -----
    Each rank holds both meshes, and of the fine run one velocity and its deviation from the averages. The files are the
    same for any number of ranks, and after any interruption (tests/openfoam/test_ingest.py).
    """
    fine, coarse = OpenFoamCase(experiment.simulate.case), OpenFoamCase(experiment.prepare.coarse)
    with world.failing_together():
        source = experiment.simulate
        times = fine.times(source.velocity, source.start, source.stop)
        step = read_number(coarse.path / "system" / "controlDict", "deltaT")
        conditions = coarse.path / coarse.times(source.velocity)[0] / source.velocity
        inputs = _state([*_mesh_files(fine), *_mesh_files(coarse), conditions])
    averages = functools.cache(lambda: averages_between(fine, coarse))  # by ranks that have something to average

    def file_of(time: str) -> CellFile:
        path = directory / f"cells-{time}.hdf5"
        files = fine.field_files(source.velocity, time)
        configuration = digest([hpcsurrogate.__version__, source.velocity, inputs, _state(files)])
        if (found := recorded(path, configuration)) is None:
            samples = cell_samples(averages(), coarse.mesh, fine.field(source.velocity, time, 3), conditions)
            found = write_cells(path, samples, float(time), configuration)
            log.info("time %s: %d cells written to %s", time, found.num_cells, path)
        return found

    everywhere = world.map(file_of, times)
    catalogue = CellCatalogue(directory, step, tuple(sorted(everywhere, key=lambda file: file.time)))
    if world.rank == 0:
        _remove_others(directory, {file.name for file in everywhere})
        catalogue.write()
    world.barrier()
    return catalogue


def averages_between(fine: OpenFoamCase, coarse: OpenFoamCase) -> CellAverages:
    """Return the averages from one case's mesh onto the other's.

    Raises
    ------
    DataError    if a mesh is two-dimensional, a fine cell lies in no coarse one, or a coarse one holds none
    """
    for case in (fine, coarse):
        if any(patch.kind in ("empty", "wedge") for patch in case.mesh.patches):
            raise DataError(f"{case.path}: is two-dimensional (a patch is empty or wedge); SGS stresses need three")
    try:
        averages = CellAverages.between(fine.mesh, coarse.mesh)
    except ValueError as error:
        raise DataError(f"{fine.path} onto {coarse.path}: {error}; both must fill the same space") from None
    fraction = averages.covered / coarse.mesh.volume
    worst = int(np.abs(fraction - 1).argmax())
    if abs(fraction[worst] - 1) > UNCOVERED:
        log.warning(
            "the meshes do not nest: the fine cells in coarse cell %d have %.3g times its volume; averages are over the"
            " fine cells whose centres a coarse one holds",
            worst, fraction[worst],
        )  # fmt: skip
    log.info("%d fine cells averaged onto %d", fine.mesh.num_cells, coarse.mesh.num_cells)
    return averages


def cell_samples(averages: CellAverages, mesh: CellMesh, velocity: np.ndarray, conditions: Path) -> CellSamples:
    """Return the samples of one time.

    Parameters
    ----------
    averages : CellAverages
    mesh : CellMesh                           the coarse one, n cells
    velocity : ndarray, shape (N, 3) [m/s]    of the fine cells
    conditions : Path                         the coarse case's velocity file, for its boundary conditions
    """
    mean, stress = averages.velocity_and_stress(velocity)
    gradient = mesh.gradient(mean, velocity_on_boundary(conditions, mesh, mean))
    scaled = gradient @ mesh.shape / mesh.width[:, None, None]
    return CellSamples(scaled.reshape(-1, 9), mesh.width, stress, mesh.volume)


def _mesh_files(case: OpenFoamCase) -> list[Path]:
    folder = case.path / "constant" / "polyMesh"
    return [path for name in MESH_FILES for path in sorted(folder.glob(f"{name}*"))]


def _state(paths: list[Path]) -> list:
    """Size and time stand for contents too large to read for this."""
    found = [path if path.is_file() else path.with_name(f"{path.name}.gz") for path in paths]
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in found]


def _remove_others(directory: Path, names: set[str]) -> None:
    for path in directory.glob("cells-*.hdf5"):
        if path.name not in names:
            path.unlink()
