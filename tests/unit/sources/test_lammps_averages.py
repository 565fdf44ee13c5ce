"""What fix ave/time and fix ave/chunk write, by a real run, and what is wrong with such files."""

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.lammps_averages import average_frames, find_column, read_averages
from hpcsurrogate.sources.lammps_log import thermo_runs
from tests.lammps_program import FLUID, run_lammps

DECK = (
    FLUID.format(tilt="0 0 0")
    + """
variable pxx equal pxx
compute chunks all chunk/atom bin/1d z lower 0.25 units reduced
fix scalars all ave/time 10 1 10 v_pxx c_thermo_temp file averages.txt
fix vector all ave/time 10 1 10 c_thermo_press mode vector file vector.txt
fix chunks all ave/chunk 10 5 50 chunks vx density/mass temp file chunks.txt
thermo_style custom step temp pxx pyy
thermo 10
run 100
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averages")
    run_lammps(folder, DECK)
    return folder


def test_rows_are_those_of_the_log(folder):
    averages = read_averages(folder / "averages.txt")
    (run,) = thermo_runs(folder / "log.lammps")
    assert averages.names == ("v_pxx", "c_thermo_temp")
    assert np.array_equal(averages.steps, run.values[:, 0])
    # Six digits in the one, eight in the other.
    assert np.allclose(averages.column("thermo_temp"), run.values[:, 1], rtol=1e-5)
    assert np.allclose(averages.column("pxx"), run.values[:, 2], rtol=1e-5)


def test_frames_of_vectors(folder):
    averages, frames = read_averages(folder / "averages.txt"), list(average_frames(folder / "vector.txt"))
    assert [frame.step for frame in frames] == averages.steps.tolist()
    pressure = [frame.values[0, find_column(frame.names, "thermo_press")] for frame in frames]
    assert np.allclose(pressure, averages.column("pxx"), rtol=1e-5)


def test_frames_of_chunks(folder):
    frames = list(average_frames(folder / "chunks.txt"))
    assert [frame.step for frame in frames] == [0, 50, 100][-len(frames) :]
    for frame in frames:
        assert frame.names == ("Chunk", "Coord1", "Ncount", "vx", "density/mass", "temp")
        count = frame.values[:, find_column(frame.names, "Ncount")]
        # The mean over chunks of equal volume is the density of the box; six digits are written.
        assert np.isclose(frame.values[:, 4].mean(), 0.8442, rtol=1e-5)
        assert np.isclose(count.sum(), frame.count, rtol=1e-5)


LOG = """Per MPI rank memory allocation (min/avg/max) = 1 | 1 | 1 Mbytes
Step Temp Press
0 1.5 2
10 1.25 2.5
Loop time of 0.1 on 1 procs for 10 steps with 32 atoms
"""


def logged(tmp_path, content):
    (tmp_path / "log.lammps").write_text(content)
    return list(thermo_runs(tmp_path / "log.lammps"))


def test_a_run_that_was_killed_ends_where_another_begins(tmp_path):
    killed, whole = logged(tmp_path, LOG[: LOG.index("10 1.25")] + LOG)
    assert not killed.is_finished and killed.values.tolist() == [[0, 1.5, 2]]
    assert whole.is_finished and len(whole.values) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Per MPI", "Per XPI", "line 5: ends a table, but the line on memory"),
        ("\n10 1.25", "\nl0 1.25", "line 4: l0 is no number"),
        ("10 1.25", "10 1.2.5", "line 4: 1.2.5 is no number"),
        ("10 1.25", "10 1_25", "line 4: 1_25 is no number"),
        ("10 1.25", "10\x0b1.25", "line 4: has 2 columns, expected 3"),
        ("10 1.25", "-- 1.25", "line 4: -- is no number"),
    ],
)
def test_a_damaged_log_is_refused(tmp_path, old, new, message):
    with pytest.raises(DataError, match=rf"log\.lammps: {message}"):
        logged(tmp_path, LOG.replace(old, new))


def test_a_line_of_many_equals_signs_takes_no_time(tmp_path):
    """There are 9 to the power of 40 ways to split it into names and numbers, none of which is right."""
    begin = "Per MPI rank memory allocation\n---------------- Step 0 ----- CPU = 0.0 (sec) ----------------\n"
    with pytest.raises(DataError, match=r"log\.lammps: line 3: expected entries"):
        logged(tmp_path, begin + "=".join(["9" * 9] * 40) + " =\n")


def test_what_fixes_print_between_rows_is_counted(tmp_path):
    (run,) = logged(tmp_path, LOG.replace("10 1.25", "Angle of the box 90\n10 1.25"))
    assert run.passed_over == 1 and len(run.values) == 2


HEADER = "# Time-averaged data for fix a\n# TimeStep v_a v_b\n"
CHUNKS = "# Chunk-averaged data\n# Timestep Number-of-chunks Total-count\n# Chunk Coord1 vx\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: expected the comments"),
        ("1 2 3\n", "line 1: expected the comments"),
        (HEADER, "line 3: no row follows"),
        (HEADER + "1 2 3\n2 3\n", "line 4: has 2 columns, expected 3"),
        (HEADER + "1 2 3\n2 3 4", "line 4: the file ends in the middle of a line"),
        (HEADER + "1 2 3\n2 3 nan\n", "line 4: holds a number that is not finite"),
        (HEADER + "1 2 3\n1 3 4\n", "line 4: steps must rise"),
        (HEADER + "1.5 2 3\n", "line 3: the step is not whole"),
        (HEADER + "9007199254740993 2 3\n", "line 3: the step is not whole, or not below 2"),
        (HEADER + "1 2 3\n# again\n", "line 4: has 2 columns"),
        (CHUNKS + "1 2 3\n", "line 2: holds frames"),
    ],
)
def test_damaged_averages_are_refused(tmp_path, content, message):
    (tmp_path / "averages.txt").write_text(content)
    with pytest.raises(DataError, match=f"averages.txt: {message}"):
        read_averages(tmp_path / "averages.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + "1 2 3\n", "line 2: holds a row for each step"),
        (CHUNKS + "100 2 8\n 1 0.5 2\n", "line 6: the file ends 1 rows too early"),
        (CHUNKS + "100 2 8\n 1 0.5 2\n 3 0.5 2\n", "line 5: rows of a frame must be numbered"),
        (CHUNKS + "100 1 8\n 1 0.5 2\n100 1 8\n 1 0.5 2\n", "line 6: step 100 does not rise"),
        (CHUNKS + "100 -2 8\n", "line 4: '-2' is no whole number"),
        (CHUNKS + "100 99999999999999 8\n", "line 4: 99999999999999 rows cannot be"),
        (CHUNKS + "100 1\n", "line 4: expected 3 numbers"),
    ],
)
def test_damaged_frames_are_refused(tmp_path, content, message):
    (tmp_path / "chunks.txt").write_text(content)
    with pytest.raises(DataError, match=f"chunks.txt: {message}"):
        list(average_frames(tmp_path / "chunks.txt"))


def test_a_missing_column_is_named(tmp_path):
    (tmp_path / "averages.txt").write_text(HEADER + "1 2 3\n")
    with pytest.raises(DataError, match="has no column c but v_a v_b"):
        read_averages(tmp_path / "averages.txt").column("c")
