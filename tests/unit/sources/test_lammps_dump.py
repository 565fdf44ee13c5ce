"""Dumps of a real run in a tilted box: every way of writing the same atoms reads as the same atoms."""

import gzip
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.lammps_dump import dump_frames
from tests.lammps_program import FLUID, run_lammps

DECK = (
    FLUID.format(tilt="1.3 -0.7 0.4")
    + """
dump plain all custom 100 plain.dump id x y z ix iy iz vx
dump scaled all custom 100 scaled.dump.gz iz element vx xs ix ys iy zs id
dump far all custom 100 far.dump yu xu zu id
dump both all custom 100 both.dump xsu ysu zsu id
dump atom all atom 100 atom.dump
dump_modify plain format float %.17g sort id time yes units yes
dump_modify scaled format float %.17g element Ar
dump_modify far format float %.17g
dump_modify both format float %.17g
run 600
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dump")
    run_lammps(folder, DECK)
    return folder


def by_id(frame, values):
    return values[np.argsort(frame.columns["id"])]


def test_all_coordinates_are_the_same_atoms(folder):
    files = [
        dump_frames(folder / name) for name in ("plain.dump", "scaled.dump.gz", "far.dump", "both.dump", "atom.dump")
    ]
    steps = []
    for plain, scaled, far, both, atom in zip(*files, strict=True):
        steps.append(plain.step)
        for other in (scaled, far, both):
            # LAMMPS itself computes each from another: round-off in a box of length 7 with an offset of a few boxes.
            difference = by_id(plain, plain.unwrapped()) - by_id(other, other.unwrapped())
            assert np.abs(difference).max() < 1e-11
        for other in (scaled, far, both, atom):
            tolerance = 1e-5 if other is atom else 1e-11  # which has six digits
            difference = by_id(plain, plain.scaled()) - by_id(other, other.scaled())
            assert np.abs(difference - np.round(difference)).max() < tolerance
            assert ((other.scaled() >= 0) & (other.scaled() < 1)).all()
        assert np.array_equal(by_id(plain, plain.columns["vx"]), by_id(scaled, scaled.columns["vx"]))
        assert "element" not in scaled.columns
        assert plain.columns["id"].dtype == np.int64
    assert steps == [0, 100, 200, 300, 400, 500, 600]
    assert (plain.columns["ix"] != 0).any()  # or the test of unwrapping tests nothing
    assert plain.time == 3.0
    assert plain.units == "lj"


def test_the_box_has_the_density_of_the_lattice(folder):
    for frame in dump_frames(folder / "plain.dump", ["x"]):
        assert np.isclose(frame.num_atoms / frame.box.volume, 0.8442, rtol=1e-12)
        assert list(frame.columns) == ["x"]
        assert frame.box.periodic == (True, True, True)


def test_memory_is_that_of_a_frame(folder, tmp_path):
    frame = (folder / "plain.dump").read_bytes().split(b"ITEM: UNITS")[1]
    body = frame[frame.index(b"ITEM: NUMBER") :].split(b"ITEM: TIME")[0]
    peaks = []
    for number in (600, 1800):  # 5 and 15 MB
        with open(tmp_path / "long.dump", "wb") as file:
            for step in range(number):
                file.write(b"ITEM: TIMESTEP\n%d\n" % step + body)
        tracemalloc.start()
        assert sum(frame.num_atoms for frame in dump_frames(tmp_path / "long.dump")) == 256 * number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]  # where a block ends within a frame makes some difference


FRAME = """ITEM: TIMESTEP
{step}
ITEM: NUMBER OF ATOMS
3
ITEM: BOX BOUNDS pp pp ff
0 1
0 1
0 1
ITEM: ATOMS id type x y z
2 1 0.1 0.2 0.3
1 1 0.1 0.2 0.4
3 1 0.1 0.2 0.5
"""


def read(tmp_path, content, **options):
    (tmp_path / "a.dump").write_text(content)
    return list(dump_frames(tmp_path / "a.dump", **options))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TIMESTEP", "TIMESTAMP", "line 13: expected ITEM: TIMESTEP"),
        ("\n20\n", "\n2O\n", "line 14: '2O' is no whole number"),
        ("\n20\n", "\n10\n", "step 10 does not come after 10"),
        ("NUMBER OF ATOMS\n3", "NUMBER OF ATOMS\n2", "line 24: expected|line 25|line 24"),
        ("NUMBER OF ATOMS\n3", "NUMBER OF ATOMS\n4", "line 25: the file ends 1 rows too early"),
        ("NUMBER OF ATOMS\n3", "NUMBER OF ATOMS\n999999999999", "line 16: 999999999999 atoms cannot be"),
        ("pp pp ff", "pp pq ff", "line 17: expected three of"),
        ("ff\n0 1\n", "ff\n1 0\n", "line 18: the box has no volume"),
        ("ff\n0 1\n0 1\n", "ff\n0 1\n0 1 2\n", "line 19: has 3 columns, expected 2"),
        ("id type x", "id x x", "line 21: names a column twice"),
        ("ITEM: ATOMS", "ITEM: ENTRIES", "line 21: expected ITEM: ATOMS"),
        ("1 1 0.1", "1 1.5 0.1", "line 23: type is not whole"),
        ("1 1 0.1", "2 1 0.1", "line 23: id 2 comes twice"),
        ("1 1 0.1", "9007199254740993 1 0.1", "line 23: id is not whole, or not below 2"),
        ("ff\n0 1\n", "ff\n-1e308 1e308\n", "line 18: the box has no volume"),
        ("2 1 0.1", "0 1 0.1", "line 22: id 0 is not above zero"),
        ("3 1 0.1 0.2 0.5", "3 1 0.1 0.2", "line 24: has 4 columns, expected 5"),
        ("3 1 0.1 0.2 0.5", "3 1 0.1 O.2 0.5", "line 24: O.2 is no number"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path, old, new, message):
    assert len(read(tmp_path, FRAME.format(step=10) + FRAME.format(step=20))) == 2
    with pytest.raises(DataError, match=rf"a\.dump: .*({message})"):
        read(tmp_path, FRAME.format(step=10) + FRAME.format(step=20).replace(old, new))


def test_a_frame_that_is_cut_is_an_error_or_left_out(tmp_path):
    whole = FRAME.format(step=10) + FRAME.format(step=20)
    for end in range(len(FRAME) + 1, len(whole)):
        with pytest.raises(DataError, match=r"a\.dump: line \d+: the file ends"):
            read(tmp_path, whole[:end])
        assert [frame.step for frame in read(tmp_path, whole[:end], drop_cut_frame=True)] == [10]


def test_a_cut_compressed_file_is_an_error(tmp_path):
    content = gzip.compress((FRAME.format(step=10) * 1).encode())
    for end in range(1, len(content)):
        (tmp_path / "a.dump.gz").write_bytes(content[:end])
        with pytest.raises(DataError, match=r"a\.dump\.gz: line \d+: "):
            list(dump_frames(tmp_path / "a.dump.gz"))


def test_what_a_caller_needs_and_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="line 9: has no column vx but id type x y z"):
        read(tmp_path, FRAME.format(step=10), names=["vx"])
    (frame,) = read(tmp_path, FRAME.format(step=10))
    with pytest.raises(DataError, match=r"a\.dump: line 1: has no column ix"):
        frame.unwrapped()
    with pytest.raises(DataError, match="cannot be read"):
        list(dump_frames(tmp_path / "none.dump"))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(place=st.integers(0, 2 * len(FRAME)), removed=st.integers(0, 30), added=st.binary(max_size=12))
def test_random_damage_leads_to_no_other_error(tmp_path_factory, place, removed, added):
    """What still is a dump is read; all else is one line that names the file and a line."""
    whole = (FRAME.format(step=10) + FRAME.format(step=20)).encode()
    path = tmp_path_factory.getbasetemp() / "damaged.dump"
    path.write_bytes(whole[:place] + added + whole[place + removed :])
    try:
        for frame in dump_frames(path):
            assert all(len(values) == frame.num_atoms for values in frame.columns.values())
    except DataError as error:
        assert re.search(r"damaged\.dump: line \d+: ", str(error)) and "\n" not in str(error)
