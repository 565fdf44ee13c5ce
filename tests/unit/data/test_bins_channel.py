"""Slices of a real channel between walls: LAMMPS's own averages, and the balance of momentum, which is exact."""

from pathlib import Path

import numpy as np
import pytest

from hpcsurrogate.core.config_fluid import ChunkIngest, DumpIngest
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.bin_sources import bin_chunks, bin_dump
from hpcsurrogate.data.bins import filled_slices, inner_slices
from hpcsurrogate.data.ingest_slices import samples_of_slices
from tests.lammps_program import run_lammps

CHANNEL = Path(__file__).resolve().parents[3] / "configs/lammps/channel.lmp"
FORCE, WIDTH, WALL_LAYER = 0.1, 1.5, 3.0
VARIABLES = {
    "rho": 0.82, "T": 1.0, "force": FORCE, "height": 9, "cells": 4, "melting": 500, "start": 8000, "steps": 16000,
    "frame": 500, "width": WIDTH,
}  # fmt: skip
DUMP = (
    "compute virial fluid stress/atom NULL virial\n"
    "dump atoms fluid custom 100 atoms.dump id mass x y z vx vy vz c_virial[*]\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("poiseuille")
    given = "".join(f"variable {name} index {value}\n" for name, value in VARIABLES.items())
    deck = given + CHANNEL.read_text()
    # Averages of the same frames as the dump has.
    deck = deck.replace(
        "fluid ave/chunk 10 ${samples} ${frame} wide", "fluid ave/chunk 100 $(v_frame/100) ${frame} wide"
    )
    assert "run ${steps}" in deck and "v_frame/100" in deck
    run_lammps(folder, deck.replace("run ${steps}", DUMP + "run ${steps}"))
    return folder


def test_a_dump_gives_what_lammps_averages(folder):
    ingest = ChunkIngest(kind="chunks")
    theirs = bin_chunks(folder / ingest.file, 1, "lj", ingest.stress)
    assert np.allclose(np.diff(theirs.centres), WIDTH)
    # 161 frames, the first of which comes before the averages; a box of 22.06 by 15 slices.
    ours = bin_dump(folder / "atoms.dump", 1, WIDTH, "lj", DumpIngest(kind="dump", width=WIDTH).virial)
    assert len(ours.number) == 161 and len(ours.centres) == len(theirs.centres) == 15
    theirs, ours = theirs.blocks(32).fields(), ours.blocks(160).fields()
    # Their slices are 1.5 wide, ours a fifteenth of the box, so that edges differ by up to a third of a width. What does
    # not change across the middle agrees within noise: density times width, and the stress across.
    middle = slice(4, 10)
    assert np.allclose(theirs.stress[middle, 3], ours.stress[middle, 3], atol=0.3)
