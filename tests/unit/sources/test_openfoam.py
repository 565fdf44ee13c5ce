"""Cases written by hand, in every form that OpenFOAM writes; what is damaged is one error that names the file."""

import gzip
import shutil

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.openfoam import OpenFoamCase
from hpcsurrogate.sources.openfoam_files import read_labels, read_points
from hpcsurrogate.sources.openfoam_mesh import velocity_on_boundary
from tests.polyhedra import box_mesh, write_case, write_list, write_velocity

EDGES = (np.linspace(0, 1, 4), np.array([0.0, 0.2, 1.0]), np.linspace(0, 2, 3))
NUM_CELLS = 12
VELOCITY = np.random.default_rng(0).standard_normal((NUM_CELLS, 3))
CONDITIONS = (
    '    west { type cyclic; }\n    east { type cyclic; }\n    south { type noSlip; }\n    north { type fixedValue;'
    ' value uniform (1 2 3); }\n    bottom { type symmetryPlane; }\n    top { type zeroGradient; }'
)  # fmt: skip
STYLES = ("ascii", "binary")


@pytest.fixture(params=STYLES)
def style(request):
    return request.param


@pytest.fixture
def case(tmp_path, style):
    folder = write_case(tmp_path / "case", EDGES, periodic=(0,), style=style)
    write_velocity(folder / "0" / "U", VELOCITY, CONDITIONS, style)
    return folder


def read_all(folder):
    """Everything of a case in one array, and its boundary velocity."""
    case = OpenFoamCase(folder)
    velocity = case.field("U", "0", 3)
    boundary = velocity_on_boundary(folder / "0" / "U", case.mesh, velocity)
    gradient = case.mesh.gradient(velocity, boundary)
    return np.concatenate([velocity.ravel(), gradient.ravel(), case.mesh.volume])


def test_mesh_and_field_are_read_bit_for_bit(case):
    found, expected = OpenFoamCase(case), box_mesh(EDGES, periodic=(0,))
    for name in ("area", "face_centre", "owner", "neighbour", "centre", "volume"):
        assert np.array_equal(getattr(found.mesh, name), getattr(expected, name)), name
    assert found.mesh.patches == expected.patches
    assert np.array_equal(found.field("U", "0", 3), VELOCITY)


def test_compressed_files_are_the_same(case):
    plain = read_all(case)
    for path in [*(case / "constant" / "polyMesh").iterdir(), case / "0" / "U"]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert np.array_equal(read_all(case), plain)


def test_parts_are_put_together(case, style):
    cells = np.random.default_rng(1).permutation(NUM_CELLS)
    for number, part in enumerate(np.split(cells, [5])):
        folder = case / f"processor{number}"
        write_list(folder / "constant" / "polyMesh" / "cellProcAddressing", part, style)
        write_velocity(folder / "0.5" / "U", VELOCITY[part], "", style)
    found = OpenFoamCase(case)
    assert found.times("U") == ["0", "0.5"]
    assert np.array_equal(found.field("U", "0.5", 3), VELOCITY)
    shutil.rmtree(case / "processor1")
    with pytest.raises(DataError, match=r"cellProcAddressing: the parts together do not hold each of the 12 cells"):
        OpenFoamCase(case).field("U", "0.5", 3)


def test_uniform_values_are_repeated(case):
    write_velocity(case / "1" / "U", np.array([1.0, -2.0, 0.25]), CONDITIONS)
    assert np.array_equal(OpenFoamCase(case).field("U", "1", 3), np.tile([1.0, -2.0, 0.25], (NUM_CELLS, 1)))


def test_times_are_sorted_as_numbers_and_chosen(case):
    for time in ("10", "9", "1e-05", "0.5"):
        shutil.copytree(case / "0", case / time)
    (case / "20").mkdir()  # no such field there
    (case / "0.orig").mkdir()
    found = OpenFoamCase(case)
    assert found.times("U") == ["0", "1e-05", "0.5", "9", "10"]
    assert found.times("U", 0.5, 9) == ["0.5", "9"]
    with pytest.raises(DataError, match="no field U at a time from 11 to inf s"):
        found.times("U", start=11)


def test_boundary_conditions_are_evaluated(case):
    mesh = OpenFoamCase(case).mesh
    found = velocity_on_boundary(case / "0" / "U", mesh, VELOCITY)
    inside = {patch.name: VELOCITY[mesh.owner[patch.faces]] for patch in mesh.patches}
    assert set(found) == {"south", "north", "bottom", "top"}
    assert not found["south"].any()
    assert np.array_equal(found["north"], np.broadcast_to([1, 2, 3], found["north"].shape))
    assert found["bottom"] == pytest.approx(inside["bottom"] * [1, 1, 0], abs=1e-15)  # across z nothing passes
    assert np.array_equal(found["top"], inside["top"])


@pytest.mark.parametrize("name", ["points", "faces", "owner", "neighbour", "boundary", "U"])
def test_truncated_files_are_refused_or_complete(case, name):
    """A file cut in its last line may still hold everything; all others must be an error with the file's name."""
    path = case / "0" / name if name == "U" else case / "constant" / "polyMesh" / name
    whole, expected = path.read_bytes(), read_all(case)
    refused = 0
    cuts = np.unique(np.linspace(0, len(whole) - 1, 60).astype(int))
    for cut in cuts:
        path.write_bytes(whole[:cut])
        try:
            assert np.array_equal(read_all(case), expected), cut
        except DataError as error:
            assert name in str(error) and "\n" not in str(error)
            refused += 1
    assert refused >= len(cuts) - 2


@pytest.mark.parametrize("name", ["points", "faces", "owner", "neighbour", "boundary", "U"])
def test_garbled_files_raise_nothing_else(case, name):
    """Digits may turn into other digits, which nothing in the format shows; but never into a traceback."""
    path = case / "0" / name if name == "U" else case / "constant" / "polyMesh" / name
    whole, random = path.read_bytes(), np.random.default_rng(4)
    refused = 0
    for _ in range(60):
        garbled = bytearray(whole)
        start = random.integers(len(whole) - 8)
        garbled[start : start + 8] = random.bytes(8)
        path.write_bytes(garbled)
        try:
            assert np.isfinite(read_all(case)).all()
        except DataError as error:
            assert str(case) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 5


def test_compressed_file_cut_short_is_refused(case):
    path = case / "0" / "U"
    compressed = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name("U.gz").write_bytes(compressed[: len(compressed) // 2])
    with pytest.raises(DataError, match=r"U\.gz: cannot be read"):
        OpenFoamCase(case).field("U", "0", 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v[:-1], r"0/U: internalField does not hold 12 cells x 3"),
        (lambda v: v[:, :2] * np.nan, r"0/U: "),
        (lambda v: np.where(v == v[3, 1], np.nan, v), r"0/U: "),
    ],
)
def test_fields_that_do_not_fit_are_refused(case, style, change, message):
    write_velocity(case / "0" / "U", change(VELOCITY), CONDITIONS, style)
    with pytest.raises(DataError, match=message):
        OpenFoamCase(case).field("U", "0", 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("zeroGradient", "inletOutlet", r"U: boundaryField\.top\.type: inletOutlet is not known here"),
        ("(1 2 3)", "5", r"U: boundaryField\.north\.value: is no vector"),
        ("top {", "lid {", r"U: boundaryField\.top is missing"),
    ],
)
def test_conditions_that_cannot_be_evaluated_are_refused(case, old, new, message):
    path = case / "0" / "U"
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    with pytest.raises(DataError, match=message):
        velocity_on_boundary(path, OpenFoamCase(case).mesh, VELOCITY)


def test_collated_cases_are_refused_with_the_command_that_converts(case):
    (case / "processors4").mkdir()
    with pytest.raises(DataError, match=r"collated format.*reconstructPar -case .* -fileHandler collated"):
        OpenFoamCase(case)


def test_a_folder_without_a_case_is_refused(tmp_path):
    with pytest.raises(DataError, match="is no OpenFOAM case"):
        OpenFoamCase(tmp_path)


@pytest.mark.parametrize(("label", "scalar"), [(32, 64), (64, 32), (64, 64)])
def test_numbers_of_every_size_are_read(tmp_path, label, scalar):
    """The header says how long the numbers of a binary file are; nothing is guessed."""
    labels, vectors = np.arange(41, 50), np.arange(12.0).reshape(4, 3) / 8  # 41 is a closing bracket
    head = f'FoamFile {{ format binary; class x; arch "LSB;label={label};scalar={scalar}"; }}\n'
    path = tmp_path / "list"
    path.write_bytes(head.encode() + b"9(" + labels.astype(f"<i{label // 8}").tobytes() + b")\n// end\n")
    assert np.array_equal(read_labels(path), labels)
    path.write_bytes(head.encode() + b"4(" + vectors.astype(f"<f{scalar // 8}").tobytes() + b")\n")
    assert np.array_equal(read_points(path), vectors)


def test_lists_of_equal_values_are_read(case):
    """OpenFOAM writes `12{(1 2 3)}` for them."""
    inner = "nonuniform List<vector> 12{(1 2 3)}"
    text = f"FoamFile {{ format ascii; }}\ninternalField {inner};\nboundaryField {{ }}\n"
    (case / "0" / "U").write_text(text)
    assert np.array_equal(OpenFoamCase(case).field("U", "0", 3), np.tile([1.0, 2.0, 3.0], (12, 1)))


def test_included_files_are_passed_over_where_they_leave_no_choice(case):
    path = case / "0" / "U"
    content = path.read_bytes().replace(b"    west { type cyclic; }", b'    #includeEtc "caseDicts/setConstraintTypes"')
    path.write_bytes(content.replace(b"    east { type cyclic; }", b""))
    assert set(velocity_on_boundary(path, OpenFoamCase(case).mesh, VELOCITY)) == {"south", "north", "bottom", "top"}
