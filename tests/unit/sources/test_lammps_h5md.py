"""H5MD: a file that LAMMPS wrote holds what its text of the same steps holds; other layouts that the format allows are
read as it says; a damaged file is named with its data set."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.lammps_dump import dump_frames
from hpcsurrogate.sources.lammps_h5md import h5md_frames

# h5md.lmp there says which LAMMPS wrote the two.
WRITTEN = Path(__file__).parent / "h5md"
OF_TEXT_ALONE = {"id"}


def test_what_lammps_wrote_is_what_it_wrote_as_text():
    steps, images = [], []
    for frame, text in zip(dump_frames(WRITTEN / "h5md.h5"), dump_frames(WRITTEN / "h5md.dump"), strict=True):
        steps.append(frame.step)
        assert (frame.step, frame.num_atoms, frame.units) == (text.step, text.num_atoms, None)
        assert np.isclose(frame.time, text.time, rtol=1e-15)
        assert frame.box.periodic == text.box.periodic == (True, True, True)
        assert np.allclose(frame.box.edges, text.box.edges, rtol=0, atol=1e-15)
        forces = {"fx", "fy", "fz"} if frame.step % 40 else set()  # written at every second of the frames
        assert set(text.columns) - set(frame.columns) == OF_TEXT_ALONE | forces
        for name, values in frame.columns.items():
            assert values.dtype == text.columns[name].dtype
            assert np.array_equal(values, text.columns[name])
        # The box begins elsewhere, which moves all atoms alike.
        moved = frame.unwrapped() - text.unwrapped()
        assert np.abs(moved).max() < 1e-14
        images.append(frame.columns["ix"])
    assert steps == [100, 120, 140, 160]
    assert np.any(images)  # or the test of unwrapping tests nothing


def write(path: Path, **changes: object) -> Path:
    """As MDAnalysis and GROMACS do it: a tilted box in single precision, units, texts of any length, an offset."""
    random = np.random.default_rng(0)
    edges = np.array([[2, 0, 0], [0.5, 3, 0], [0.1, 0.2, 4]], "f4")
    content = {
        "position/value": random.uniform(0, 2, (3, 5, 3)).astype("f4"),
        "position/step": np.int64(10),
        "position/time": np.float32(0.5),
        "velocity/value": random.standard_normal((2, 5, 3)),
        "velocity/step": np.array([7, 27], "i4"),
        "box/edges": edges,
        "species": np.array([1, 1, 2, 2, 1], "i4"),
        "mass": np.array([1, 1, 3, 3, 1.0]),
        "id/value": np.array([[5, 4, 3, 2, 1], [1, 2, 3, 4, 5], [1, 2, 3, 5, 4]]),
        "id/step": np.array([7, 17, 27]),
    }
    with h5py.File(path, "w") as file:
        group = file.create_group("particles/atoms")
        for key, values in (content | changes).items():
            if values is not None:
                group[key] = values
        for key, name, value in (
            ("position/step", "offset", 7),
            ("position/time", "offset", 0.25),
            ("position/value", "unit", "Angstrom"),
            ("position/time", "unit", "ps"),
            ("velocity/value", "unit", "Angstrom ps-1"),
        ):
            if key in group:
                group[key].attrs[name] = value
        group.require_group("box").attrs["boundary"] = changes.get("boundary", ["periodic", "none", "periodic"])
    return path


def test_other_layouts_of_the_format(tmp_path):
    frames = list(dump_frames(write(tmp_path / "a.h5md")))
    assert [frame.step for frame in frames] == [7, 17, 27]
    assert [frame.time for frame in frames] == [0.25, 0.75, 1.25]
    assert ["vx" in frame.columns for frame in frames] == [True, False, True]
    assert [frame.columns["id"][0] for frame in frames] == [5, 1, 1]
    for frame in frames:
        assert frame.units == "metal"
        assert np.isclose(frame.box.volume, 24)
        assert frame.box.periodic == (True, False, True)
        assert frame.columns["type"].tolist() == [1, 1, 2, 2, 1]
        assert frame.columns["x"].dtype == frame.columns["mass"].dtype == np.float64
    random = np.random.default_rng(0).uniform(0, 2, (3, 5, 3)).astype("f4")
    assert np.array_equal(frames[1].vectors("xyz"), random[1])
    first = next(dump_frames(tmp_path / "a.h5md", ["vz", "x"]))
    assert list(first.columns) == ["vz", "x"]


def test_other_units_are_listed(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["particles/atoms/position/value"].attrs["unit"] = "nm"
    assert next(dump_frames(path)).units == "nm and ps and Angstrom ps-1"


def test_of_several_groups_one_is_read(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file.create_group("particles/walls")
    with pytest.raises(DataError, match=r"a\.h5: /particles holds atoms and walls"):
        next(dump_frames(path))
    assert next(h5md_frames(path, group="atoms")).num_atoms == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position/value": None}, "there is no array /particles/atoms/position/value"),
        ({"velocity/step": np.array([7, 17, 27])}, "velocity/step is not a finite number for each of 2 frames"),
        ({"velocity/step": np.array([27, 7])}, "velocity/step does not rise"),
        ({"velocity/step": np.array([7.0, 27.0])}, "velocity/step does not rise, from zero or above, in whole"),
        ({"velocity/value": np.zeros((2, 4, 3))}, r"velocity/value holds float64 \(4, 3\), expected \(5, 3\)"),
        ({"velocity/value": np.full((2, 5, 3), np.nan)}, "velocity/value holds a number that is not finite at step 7"),
        ({"species": np.array([1, 1, 2, 2, 1.0])}, "species holds float64"),
        ({"box/edges": None}, "there is no array /particles/atoms/box/edges"),
        ({"box/edges": np.zeros(2)}, r"box/edges is of shape \(2,\)"),
        ({"box/edges": np.zeros(3)}, "at step 7: the box has no volume"),
        ({"boundary": ["periodic", "none"]}, "box has the boundary periodic none"),
        ({"boundary": ["periodic", "fixed", "none"]}, "box has the boundary periodic fixed none"),
        ({"id/value": np.ones((3, 5), int)}, "at step 7: an id comes twice"),
        ({"position/time": np.array([0.0, np.inf, 1.0])}, "position/time is not a finite number"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, message):
    with pytest.raises(DataError, match=rf"a\.h5: .*{message}"):
        list(dump_frames(write(tmp_path / "a.h5", **changes)))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="at step 17: has no column vx but x y z"):
        list(dump_frames(write(tmp_path / "a.h5"), ["x", "y", "z", "vx"]))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_group("particles/atoms")
    with pytest.raises(DataError, match="/particles/atoms holds nothing that changes with time"):
        list(dump_frames(tmp_path / "b.h5"))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(DataError, match="/particles holds no group"):
        list(dump_frames(tmp_path / "c.h5"))
    with pytest.raises(DataError, match="file is missing"):
        list(dump_frames(tmp_path / "none.h5"))


def test_a_truncated_file_is_refused(tmp_path):
    whole = (WRITTEN / "h5md.h5").read_bytes()
    for end in range(0, len(whole), 997):
        (tmp_path / "cut.h5").write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"cut\.h5: "):
            list(dump_frames(tmp_path / "cut.h5"))


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damages=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9)), max_size=4))
def test_a_garbled_file_is_refused_or_of_its_shape(damages, tmp_path):
    """The file has no checksums: a number that became another one is not seen."""
    content = bytearray((WRITTEN / "h5md.h5").read_bytes())
    for share, added in damages:
        place = int(share * len(content))
        content[place : place + len(added)] = added
    path = tmp_path / "garbled.h5"
    path.write_bytes(content)
    try:
        for frame in dump_frames(path):
            assert all(values.shape == (frame.num_atoms,) for values in frame.columns.values())
            assert all(np.isfinite(values).all() for values in frame.columns.values())
    except DataError as error:
        assert re.match(rf"{re.escape(str(path))}: ", str(error)) and "\n" not in str(error)
