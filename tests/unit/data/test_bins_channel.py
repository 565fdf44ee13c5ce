"""Slices of a real channel between walls: LAMMPS's own averages, and the balance of momentum, which is exact."""

from dataclasses import fields
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
VIRIAL = DumpIngest(kind="dump", width=1).virial
FORCE, WALL_LAYER = 0.1, 3.0
# A fifteenth of the box of 13 fcc cells, and a billionth, so that LAMMPS finds no sixteenth slice.
WIDTH = 13 * (4 / 0.82) ** (1 / 3) / 15 * (1 + 1e-9)
VARIABLES = {
    "rho": 0.82, "T": 1.0, "force": FORCE, "height": 9, "cells": 3, "melting": 500, "start": 8000, "steps": 24000,
    "frame": 500, "width": WIDTH,
}  # fmt: skip
DUMP = (
    "compute virial fluid stress/atom NULL virial\n"
    "dump atoms fluid custom 100 atoms.dump id mass x y z vx vy vz c_virial[*]\n"
    "dump_modify atoms format float %.12g\n"
    "compute same fluid chunk/atom bin/1d y lower ${width} units box\n"
    "fix same fluid ave/chunk 100 5 500 same density/number density/mass vx vy vz temp c_stress[*] file same.txt\n"
)


KEYS = {"wall_layer": WALL_LAYER, "discard": 0.0, "blocks": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("poiseuille")
    given = "".join(f"variable {name} index {value}\n" for name, value in VARIABLES.items())
    deck = given + CHANNEL.read_text()
    assert "run ${steps}" in deck
    run_lammps(folder, deck.replace("run ${steps}", DUMP + "run ${steps}"))
    return folder


def test_a_dump_gives_what_lammps_averages(folder):
    theirs = bin_chunks(folder / "same.txt", 1, "lj", ChunkIngest(kind="chunks").stress)
    ours = bin_dump(folder / "atoms.dump", 1, WIDTH, "lj", VIRIAL)
    assert len(theirs.number) == 48 and len(ours.number) == 241  # the first frame comes before the averages
    theirs, ours = theirs.blocks(8).fields(), ours.blocks(8).fields()
    filled = filled_slices(ours.number)
    assert filled.sum() == 11 and np.allclose(theirs.centres, ours.centres)
    for field in fields(ours):
        if field.name != "axis":
            found, expected = (getattr(part, field.name)[filled] for part in (theirs, ours))
            # Averages have six digits, of parts that cancel.
            assert np.allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()), field.name


def test_the_shear_stress_balances_the_force(folder):
    """d sigma_xy / dy = -n f and d sigma_yy / dy = 0 in a steady channel, whatever the fluid."""
    slices = bin_chunks(folder / "slices.txt", 1, "lj", ChunkIngest(kind="chunks").stress)
    slices = slices.at(filled_slices(slices.number.mean(0)))
    blocks = slices.at(inner_slices(slices.centres, WALL_LAYER)).blocks(8)

    def slopes(found):
        return np.polyfit(found.centres, found.stress[:, [1, 3]], 1)[0]

    (shear, normal), (shear_error, normal_error) = blocks.estimate(slopes)
    force = -FORCE * blocks.fields().number.mean()
    assert abs(shear - force) < 4 * shear_error < 0.16 * abs(force), (shear, force, shear_error)
    # Layers at the walls, where the virial lies at the atoms, reach some thousandths of the pressure into the middle.
    assert abs(normal) < 4 * normal_error + 0.005 < 0.03, (normal, normal_error)


def test_samples_are_the_fluid_of_the_middle(folder):
    samples = samples_of_slices(ChunkIngest(kind="chunks", **KEYS), "lj", folder)
    # Of 11 slices 2 at either wall and one more, which lends its velocity, are left out, and those of the centre-line.
    assert 1 <= len(samples) <= 5
    for sample in samples:
        rate, stress, error = sample.velocity_gradient[1], sample.stress[1], sample.stress_error[1]
        assert (np.delete(sample.velocity_gradient, 1) == 0).all() and abs(rate) > 0.03
        # A Lennard-Jones fluid of this state has a viscosity of 2.4 (docs/lammps.md); the error holds that of the rate.
        assert abs(stress - 2.4 * rate) < 4 * error < 0.2, (rate, stress, error)
        assert sample.density == pytest.approx(0.83, abs=0.04) and sample.temperature == pytest.approx(1.03, abs=0.06)


def test_samples_of_a_dump_are_those_of_the_same_averages(folder):
    samples = samples_of_slices(DumpIngest(kind="dump", width=WIDTH, **KEYS), "lj", folder)
    others = samples_of_slices(ChunkIngest(kind="chunks", file="same.txt", **KEYS), "lj", folder)
    assert len(samples) == len(others) > 0
    for sample, other in zip(samples, others, strict=True):
        assert np.allclose(sample.stress, other.stress, atol=1e-3)
        assert np.allclose(sample.stress_error, other.stress_error, rtol=0.01)


def test_what_gives_no_samples_says_why(folder):
    for keys, words in (
        ({"blocks": 50}, r"slices.txt: 48 averages do not make 50 blocks; take narrower slices, write more"),
        ({"wall_layer": 7.5}, r"\d slices are further than ingest.wall_layer from the ends of the fluid, 3 needed"),
        ({"stress": ("a", "b", "c", "d", "e", "f")}, r"slices.txt: has no column a but Chunk Coord1"),
        ({"flow": "z"}, r"no slice has a rate of 10 of its errors; run longer or drive the flow harder"),
    ):
        ingest = ChunkIngest(**({"kind": "chunks"} | KEYS | keys))
        with pytest.raises(DataError, match=words):
            samples_of_slices(ingest, "lj", folder)
