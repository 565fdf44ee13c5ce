"""Fine runs of OpenFOAM become samples: what we read and compute is what OpenFOAM itself writes and computes."""

import json
import shutil

import numpy as np
import pytest
import torch

from hpcsurrogate.cli import main as cli
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.data.cells import COLUMNS, CellCatalogue
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.parallel.launch import run_ranks
from hpcsurrogate.sources.openfoam import OpenFoamCase
from hpcsurrogate.sources.openfoam_mesh import velocity_on_boundary
from tests.openfoam.cases import TUTORIALS, WRITTEN, Case, channel

ROUND_OFF = 1e-13  # some tens of operations; sums in another order
COARSE_CELLS, RATIO = (4, 3, 4), 2  # in each half of the channel
FILE = """
name: channel
run_dir: {folder}/run
simulate: {{kind: openfoam, case: fine, start: 0.2}}
prepare: {{coarse: coarse, validation: 0.3}}
train:
  model: {{kind: tensor_basis, channels: 8}}
  epochs: 5
  batch_size: 64
"""


@pytest.fixture(scope="module")
def cavity(tmp_path_factory):
    """20 x 20 cells, made oblique and graded, so that nothing is orthogonal."""
    path = tmp_path_factory.mktemp("cavity") / "cavity"
    shutil.copytree(TUTORIALS / "incompressible/icoFoam/cavity/cavity", path)
    case = Case(path, "icoFoam")
    case.set("system/controlDict", endTime="0.02", deltaT="0.002", writeInterval="10", **WRITTEN)
    case.replace("system/blockMeshDict", r"\(1 1 0\)", "(1.4 1 0)")
    case.replace("system/blockMeshDict", r"\(1 1 0.1\)", "(1.4 1 0.1)")
    case.replace("system/blockMeshDict", r"simpleGrading \(1 1 1\)", "simpleGrading (2 3 1)")
    case.run("blockMesh")
    case.solve()
    return case


@pytest.fixture(scope="module")
def small_channel(tmp_path_factory):
    """768 graded cells between walls, periodic along and across, the velocity noise."""
    case = channel(tmp_path_factory.mktemp("channel") / "channel", 2, cells=(8, 6, 8))
    case.solve()
    return case


@pytest.mark.parametrize(("name", "time"), [("cavity", "0.02"), ("small_channel", "0.4")])
def test_geometry_and_gradient_are_those_of_openfoam(request, name, time):
    case = request.getfixturevalue(name)
    for function in ("writeCellVolumes", "writeCellCentres", "grad(U)"):
        case.run("postProcess", "-func", function, "-time", time)
    found = OpenFoamCase(case.path)
    velocity = found.field("U", time, 3)
    assert np.array_equal(velocity, case.field(time, "U"))
    assert found.mesh.volume == pytest.approx(found.field("V", time, 1)[:, 0], rel=ROUND_OFF)
    size = np.abs(found.mesh.centre).max()
    assert found.mesh.centre == pytest.approx(found.field("C", time, 3), abs=ROUND_OFF * size)
    boundary = velocity_on_boundary(case.path / time / "U", found.mesh, velocity)
    # OpenFOAM's component (j, i) is our G_ij, the derivative of component i along axis j.
    theirs = found.field("grad(U)", time, 9).reshape(-1, 3, 3).transpose(0, 2, 1)
    assert found.mesh.gradient(velocity, boundary) == pytest.approx(theirs, abs=ROUND_OFF * np.abs(theirs).max())


@pytest.mark.parametrize("form", ["binary", "compressed", "decomposed"])
def test_every_form_of_a_case_is_read_alike(small_channel, tmp_path, form):
    """The binary form to the last bit, and so the others, since 17 digits are a double."""
    expected = OpenFoamCase(small_channel.path)
    case = Case(shutil.copytree(small_channel.path, tmp_path / form), "pimpleFoam")
    if form == "decomposed":
        case.run("decomposePar", "-time", "0.4")
        shutil.rmtree(case.path / "0.4")
    else:
        style = {"writeFormat": "binary"} if form == "binary" else {"writeCompression": "on"}
        case.set("system/controlDict", **style)
        case.run("foamFormatConvert", "-time", "0.4")
        shutil.rmtree(case.path / "0")
        faces = (case.path / "constant/polyMesh").glob("faces*")
        assert [path.name for path in faces] == ["faces" if form == "binary" else "faces.gz"]
    found = OpenFoamCase(case.path)
    assert found.times("U", start=0.1) == ["0.4"]
    assert np.array_equal(found.field("U", "0.4", 3), expected.field("U", "0.4", 3))
    assert np.array_equal(found.mesh.volume, expected.mesh.volume)


def test_collated_case_is_read_after_the_command_of_the_message(small_channel, tmp_path):
    case = Case(shutil.copytree(small_channel.path, tmp_path / "case"), "pimpleFoam")
    case.run("decomposePar", "-time", "0.4", "-fileHandler", "collated")
    shutil.rmtree(case.path / "0.4")
    with pytest.raises(DataError, match="reconstructPar") as refused:
        OpenFoamCase(case.path)
    command = str(refused.value).split("`")[1]
    case.run(*command.split())
    shutil.rmtree(case.path / "processors2")
    expected = OpenFoamCase(small_channel.path).field("U", "0.4", 3)
    assert np.array_equal(OpenFoamCase(case.path).field("U", "0.4", 3), expected)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A fine channel of uniform cells with four times, a coarse one that it nests in, and the file that names them."""
    folder = tmp_path_factory.mktemp("nested")
    for name, ratio in (("fine", RATIO), ("coarse", 1)):
        case = channel(folder / name, 4, cells=tuple(ratio * n for n in COARSE_CELLS))
        case.replace("system/blockMeshDict", r"simpleGrading \(1 [\d.]+ 1\)", "simpleGrading (1 1 1)")
        case.run("blockMesh")
        if name == "fine":
            case.set("system/controlDict", writeInterval="1", endTime="0.8")
            case.solve()
    (folder / "channel.yaml").write_text(FILE.format(folder=folder))
    return folder


def call(*arguments):
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
        raise SystemExit(0)
    return left.value.code


def arrays(directory):
    catalogue = CellCatalogue.read(directory)
    found = catalogue.samples(catalogue.files)
    return {name: getattr(found, name) for name in COLUMNS} | {"times": [file.time for file in catalogue.files]}


@pytest.fixture(scope="module")
def ingested(experiment):
    assert call("ingest", "openfoam", experiment / "channel.yaml") in (0, None)
    return experiment


def test_samples_are_those_of_blocks_of_cells(ingested):
    """blockMesh counts x first, then y, then z, block by block: the averages can be taken with numpy alone."""
    found = arrays(ingested / "run/cells")
    assert found["times"] == [0.2, 0.4, 0.6, 0.8]
    velocity = OpenFoamCase(ingested / "fine").field("U", "0.4", 3)
    nx, ny, nz = COARSE_CELLS
    blocks = velocity.reshape(2, nz, RATIO, ny, RATIO, nx, RATIO, 3).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    blocks = blocks.reshape(2 * nx * ny * nz, RATIO**3, 3)
    stress = np.einsum("npi,npj->nij", blocks, blocks) / RATIO**3
    stress -= np.einsum("ni,nj->nij", blocks.mean(1), blocks.mean(1))
    one = slice(len(blocks), 2 * len(blocks))
    rows, columns = np.triu_indices(3)
    # Noise of 0.02 m/s on 0.13: the products cancel by two digits.
    assert found["sgs_stress"][one] == pytest.approx(stress[:, rows, columns], abs=1e-14)
    assert found["filter_width"] == pytest.approx((4 / nx * 1 / ny * 2 / nz) ** (1 / 3), rel=ROUND_OFF)
    assert found["volume"][one].sum() == pytest.approx(4 * 2 * 2, rel=ROUND_OFF)
    # The mean gradient of a periodic box between walls at rest is zero: Gauss' theorem over the whole channel.
    assert np.abs(found["volume"][one] @ found["scaled_velocity_gradient"][one]).max() < ROUND_OFF


def test_an_interrupted_ingest_goes_on_and_ranks_do_not_matter(ingested, tmp_path):
    expected = arrays(ingested / "run/cells")
    run = shutil.copytree(ingested / "run", tmp_path / "run")
    (run / "cells/cells-0.4.hdf5").unlink()
    (run / "cells/cells-0.6.hdf5").write_bytes((run / "cells/cells-0.6.hdf5").read_bytes()[:-99])
    (run / "cells/cells-7.hdf5").write_bytes(b"of a time that is gone")
    kept = (run / "cells/cells-0.8.hdf5").stat().st_mtime_ns
    command = ["ingest", "openfoam", str(ingested / "channel.yaml"), f"run_dir={run}"]
    assert run_ranks(command, ranks=2, threads_per_rank=1) == 0
    assert (run / "cells/cells-0.8.hdf5").stat().st_mtime_ns == kept
    assert not (run / "cells/cells-7.hdf5").exists()
    found = arrays(run / "cells")
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_samples_train_a_closure_that_any_host_can_load(ingested):
    assert call("fit", ingested / "channel.yaml") in (0, None)
    scores = json.loads((ingested / "run/fit.json").read_text())
    assert set(scores["errors"]) == {"learned", "smagorinsky", "gradient"} and len(scores["history"]) == 5
    artifact = load_artifact(ingested / "run/pointwise.pt")
    assert (artifact.metadata.kind, artifact.metadata.dtype) == ("pointwise", "float64")
    assert artifact.metadata.host.time_step == 0.2
    found = arrays(ingested / "run/cells")
    gradient, width = (torch.from_numpy(found[name]) for name in ("scaled_velocity_gradient", "filter_width"))
    num_training = 2 * len(gradient) // 4  # of four times 0.3 rounded up, two, are for validation
    stress, counts = artifact.guarded(gradient[:num_training], width[:num_training])
    assert counts == (0, 0, 0) and stress.shape == (num_training, 6)


def test_what_cannot_be_ingested_is_one_line(ingested, cavity, tmp_path, capsys):
    file = ingested / "channel.yaml"
    for change, code, words in (
        ("simulate.case=nowhere", DataError.exit_code, "is no OpenFOAM case"),
        (f"simulate.case={cavity.path}", DataError.exit_code, "no field U at a time from 0.2"),
        (f"prepare.coarse={cavity.path}", DataError.exit_code, "is two-dimensional"),
        ("simulate.velocity=p", DataError.exit_code, "internalField does not hold 768 cells x 3 components"),
        ("simulate.stop=0.1", ConfigError.exit_code, "stop lies before start"),
    ):
        assert call("ingest", "openfoam", file, f"run_dir={tmp_path}/run", change) == code
        *others, error = capsys.readouterr().err.strip().splitlines()
        assert words in error and all(line.startswith("ingest: ") for line in others), change
