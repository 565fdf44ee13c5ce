"""What fix ave/chunk writes of a real Couette flow, read as one array, and what is wrong with such files."""

from pathlib import Path

import numpy as np
import pytest

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.sources.lammps_chunks import read_chunk_averages
from tests.lammps_program import run_lammps

CHANNEL = Path(__file__).parents[3] / "configs/lammps/channel.lmp"
SPEED = 1.5
VARIABLES = {
    "rho": 0.8442,
    "T": 0.9,
    "speed": SPEED,
    "height": 4,
    "cells": 3,
    "melting": 200,
    "start": 300,
    "steps": 400,
    "frame": 100,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("couette")
    given = "".join(f"variable {name} index {value}\n" for name, value in VARIABLES.items())
    run_lammps(folder, given + CHANNEL.read_text())
    return folder


def test_blocks_of_a_couette_flow(folder):
    found = read_chunk_averages(folder / "profile.txt")
    assert found.columns == ("Chunk", "Coord1", "Ncount", "density/number", "vx", "v_heat")
    assert found.steps.tolist() == [100, 200, 300, 400]
    assert found.values.shape == (4, len(found.column("Coord1")[0]), 6)
    assert np.allclose(np.diff(found.column("Coord1")[0]), 0.5)
    # Number density times the volume of a slice is its count; both are written with six digits.
    width = 3 * (4 / 0.8442) ** (1 / 3)
    assert np.allclose(found.column("density/number") * 0.5 * width**2, found.column("Ncount"), rtol=1e-5)
    # The walls drag the fluid: its lower half goes the one way, the upper the other.
    momentum = (found.column("vx") * found.column("Ncount")).mean(0)
    middle = len(momentum) // 2
    assert momentum[:middle].sum() < 0 < momentum[middle:].sum()
    assert 0 < np.abs(found.column("vx")).max() < 3 * SPEED


def test_every_number_is_that_of_the_file(folder):
    """Python's own conversion, line by line, by the other way round."""
    lines = (folder / "profile.txt").read_text().splitlines()[3:]
    found = read_chunk_averages(folder / "profile.txt")
    rows = found.values.shape[1]
    for block, step in enumerate(found.steps):
        heading, *body = lines[block * (rows + 1) : (block + 1) * (rows + 1)]
        assert heading.split()[:2] == [str(step), str(rows)]
        assert found.values[block].tolist() == [[float(word) for word in line.split()] for line in body]


def test_a_missing_column_is_named(folder):
    with pytest.raises(DataError, match=r"profile\.txt: has no column vz but Chunk Coord1"):
        read_chunk_averages(folder / "profile.txt").column("vz")


def test_a_file_that_is_cut_is_an_error_or_ends_with_a_block(folder, tmp_path):
    whole = (folder / "profile.txt").read_bytes()
    complete = read_chunk_averages(folder / "profile.txt").values
    ends = [whole.index(b"\n%d " % step) + 1 for step in (200, 300, 400)]
    for end in {*ends, *range(0, len(whole), 7)}:
        (tmp_path / "cut.txt").write_bytes(whole[:end])
        if end in ends:
            found = read_chunk_averages(tmp_path / "cut.txt").values
            assert np.array_equal(found, complete[: ends.index(end) + 1])
        else:
            with pytest.raises(DataError, match=r"cut\.txt: line \d+: "):
                read_chunk_averages(tmp_path / "cut.txt")


HEADER = "# Chunk-averaged data\n# Timestep Number-of-chunks Total-count\n# Chunk Coord1 vx\n"
BLOCK = "100 2 8\n 1 0.5 2\n 2 1.5 3\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER, "line 4: no block"),
        (HEADER + BLOCK + "200 1 8\n 1 0.5 2\n", "line 7: 1 chunks, but 2 at step 100"),
        (HEADER + BLOCK + "200 2 8\n 1 0.5 2\n 2 1.75 3\n", "line 7: chunk 2 is not where it was at step 100"),
        (HEADER.replace("Chunk Coord1", "Row a") + BLOCK, "line 4: rows are named Row, expected Chunk"),
        (HEADER + BLOCK + "200 2 8\n 1 0.5 2\n", "line 9: the file ends 1 rows too early"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path, content, message):
    (tmp_path / "chunks.txt").write_text(content)
    with pytest.raises(DataError, match=rf"chunks\.txt: {message}"):
        read_chunk_averages(tmp_path / "chunks.txt")
