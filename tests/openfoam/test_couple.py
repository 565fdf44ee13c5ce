"""The verdict: coarse runs of real OpenFOAM with a trained closure and with its own models, from one start."""

import html
import shutil

import numpy as np
import pytest

from hpcsurrogate.cli import main as cli
from hpcsurrogate.core.atomic import read_json
from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.couple.cell_profiles import wall_shear_stress
from hpcsurrogate.parallel.launch import run_ranks
from hpcsurrogate.sources.openfoam import OpenFoamCase
from hpcsurrogate.sources.openfoam_files import FieldFile, read_values
from hpcsurrogate.sources.openfoam_mesh import velocity_on_boundary
from tests.openfoam.cases import Case, channel

FILE = """
name: channel
run_dir: {folder}/run
simulate: {{kind: openfoam, case: fine, start: 0.2}}
prepare: {{coarse: coarse, run: [blockMesh], validation: 0.5}}
train:
  model: {{kind: tensor_basis, channels: 4}}
  epochs: 1
couple:
  models: [none, Smagorinsky, learned]
  library: {library}
  discard: 0.4
  average_over: [x, z]
calibrate: {{backscatter: [0, 1]}}
"""
MODELS = {
    "none": "simulationType laminar;",
    "Smagorinsky": "simulationType LES; LES { LESModel Smagorinsky; turbulence on; DELTA }",
    "learned": "simulationType LES; LES { LESModel hpcsurrogate; turbulence on; DELTA"
    ' hpcsurrogateCoeffs { artifact "constant/pointwise.pt"; } }',
}
HEADER = "FoamFile { version 2.0; format ascii; class dictionary; object turbulenceProperties; }\n"
NU = 2e-5  # [m^2/s] of the tutorial


def write_models(case):
    for name, text in MODELS.items():
        text = text.replace("DELTA", "delta cubeRootVol; cubeRootVolCoeffs { deltaCoeff 1; }")
        (case.path / f"constant/turbulenceProperties.{name}").write_text(HEADER + text + "\n")
    (case.path / "constant/turbulenceProperties").unlink()


def make_uniform(case):
    case.replace("system/blockMeshDict", r"simpleGrading \(1 [\d.]+ 1\)", "simpleGrading (1 1 1)")
    case.run("blockMesh")


@pytest.fixture(scope="module")
def experiment(library, tmp_path_factory):
    """A fine channel with twenty times, a coarse one without a mesh, and the file that names them."""
    folder = tmp_path_factory.mktemp("coupled")
    fine = channel(folder / "fine", 20, cells=(8, 6, 8))
    fine.set("system/controlDict", writeInterval="1")
    make_uniform(fine)
    fine.solve()
    coarse = channel(folder / "coarse", 12, cells=(4, 3, 4))
    coarse.set("system/controlDict", writeInterval="1")
    make_uniform(coarse)
    coarse.replace("0/U", r"internalField[^;]*;", "internalField uniform (0.1335 0 0);")
    shutil.rmtree(coarse.path / "constant/polyMesh")
    write_models(coarse)
    (folder / "channel.yaml").write_text(FILE.format(folder=folder, library=library))
    return folder


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv("WM_PROJECT_DIR", "/usr/share/openfoam")  # of OpenFOAM's bashrc


@pytest.fixture(scope="module")
def coupled(experiment):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WM_PROJECT_DIR", "/usr/share/openfoam")
        cli.main(["run", str(experiment / "channel.yaml")])
    return experiment


def times_of_logs(folder):
    return {log: log.stat().st_mtime_ns for log in sorted((folder / "run/couple").glob("*/log.1"))}


def test_one_command_ends_with_a_verdict_and_a_page(coupled):
    paths = RunPaths(coupled / "run")
    outcome = read_json(paths.coupling)
    assert set(outcome["models"]) == set(MODELS) and not any("failed" in model for model in outcome["models"].values())
    assert outcome["models"]["learned"]["fallback_share"] is not None
    assert outcome["models"]["none"]["fallback_share"] is None
    assert outcome["reference"]["times"] == 10 and outcome["models"]["none"]["times"] == 10
    assert html.escape(outcome["verdict"]) in paths.report.read_text()
    assert (paths.figures / "profiles.png").is_file()


def test_the_gains_are_the_best_of_those_tried_and_act(coupled):
    paths = RunPaths(coupled / "run")
    calibration = read_json(paths.calibration)
    errors = {run["backscatter"]: run["error"] for run in calibration["runs"]}
    assert set(errors) == {0.0, 1.0} and errors[0.0] != errors[1.0]
    assert calibration["best"] == {"dissipation": 1.0, "backscatter": min(errors, key=errors.__getitem__), "rest": 1.0}
    used = coupled / "run/couple/learned/constant/pointwise.pt"
    assert used.read_bytes() == paths.calibrated.read_bytes() != paths.pointwise.read_bytes()
    page = paths.report.read_text()
    assert all(f"dissipation 1, backscatter {gain:g}, rest 1" in page for gain in errors)


def test_all_models_start_from_the_averaged_fine_run(coupled):
    """At the first time that training did not see; volume is conserved in averages, and so is momentum."""
    fine = OpenFoamCase(coupled / "fine")
    momentum = fine.mesh.volume @ fine.field("U", "2.2", 3)
    starts = []
    for model in MODELS:
        case = OpenFoamCase(coupled / "run/couple" / model)
        starts.append(case.field("U", "0", 3))
        assert case.mesh.volume @ starts[-1] == pytest.approx(momentum, rel=1e-12, abs=1e-15)
    assert np.array_equal(starts[0], starts[1]) and np.array_equal(starts[0], starts[2])


def test_wall_shear_stress_is_openfoams(coupled):
    path = coupled / "run/couple/none"
    case = OpenFoamCase(path)
    time = case.times("U")[-1]
    velocity = case.field("U", time, 3)
    ours = wall_shear_stress(case.mesh, NU, velocity, velocity_on_boundary(path / "0/U", case.mesh, velocity))
    Case(path, "pimpleFoam").run("pimpleFoam", "-postProcess", "-func", "wallShearStress", "-time", time)
    conditions = FieldFile(path / time / "wallShearStress").conditions
    # Both walls have as many faces, all of one size; OpenFOAM's is what the wall does to the flow.
    theirs = np.concatenate([read_values(conditions[wall]["value"], 16, 3) for wall in ("bottomWall", "topWall")])
    # Along the walls; their divergence, which is not zero in a cell, makes a normal part that we leave out.
    assert ours[[0, 2]] == pytest.approx(-theirs.mean(0)[[0, 2]], rel=1e-5, abs=1e-11)


def test_what_is_done_is_kept_and_what_changed_is_run_again(coupled):
    before = times_of_logs(coupled)
    model = coupled / "coarse/constant/turbulenceProperties.Smagorinsky"
    model.write_text(model.read_text().replace("deltaCoeff 1", "deltaCoeff 1.1"))
    assert run_ranks(["couple", str(coupled / "channel.yaml")], ranks=2, threads_per_rank=1) == 0
    after = times_of_logs(coupled)
    changed = [log.parent.name for log in after if after[log] != before[log]]
    assert changed == ["Smagorinsky"]


def test_a_model_that_fails_is_said_and_the_others_are_scored(coupled):
    files = [coupled / f"coarse/constant/turbulenceProperties.{name}" for name in ("none", "Smagorinsky")]
    kept = [file.read_text() for file in files]
    try:
        files[0].write_text(HEADER + "simulationType nonsense;\n")
        cli.main(["couple", str(coupled / "channel.yaml")])
        outcome = read_json(coupled / "run/couple.json")
        assert "nonsense" in outcome["models"]["none"]["failed"] and outcome["best_classical"] == "Smagorinsky"
        files[1].write_text(HEADER + "simulationType nonsense;\n")
        with pytest.raises(SystemExit) as left:
            cli.main(["couple", str(coupled / "channel.yaml")])
        assert left.value.code == DataError.exit_code
    finally:
        for file, text in zip(files, kept, strict=True):
            file.write_text(text)


@pytest.mark.parametrize(
    ("command", "change", "words"),
    [
        ("couple", "couple.models=[none, WALE, learned]", "turbulenceProperties.WALE: is missing"),
        ("couple", "couple.models=[none, WALE]", "`learned` is one of them"),
        ("calibrate", "couple.library=nowhere.so", "nowhere.so: is missing; build it by `make openfoam`"),
        ("calibrate", "couple.discard=2", "times are too few to score"),
        ("calibrate", "couple.run=[none-such]", "none-such: is no program here"),
    ],
)
def test_what_cannot_be_judged_is_one_line(coupled, capsys, command, change, words):
    with pytest.raises(SystemExit) as left:
        cli.main([command, str(coupled / "channel.yaml"), change])
    assert left.value.code == ConfigError.exit_code
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
