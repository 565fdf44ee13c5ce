"""Slices of atoms: what they conserve, what moving frames and shear do, and the stress of a fluid at rest in LAMMPS."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.data.bin_sources import NUM_STRETCHES, bin_chunks, bin_dump
from hpcsurrogate.data.bins import filled_slices, inner_slices
from hpcsurrogate.sources.lammps_log import thermo_runs
from tests.lammps_program import FLUID, run_lammps

VIRIAL = [f"c_virial[{number}]" for number in (1, 4, 5, 2, 6, 3)]
EDGES = np.array([3.0, 5.0, 4.0])
FRAME = """ITEM: TIMESTEP
{step}
ITEM: NUMBER OF ATOMS
{atoms}
ITEM: BOX BOUNDS pp {walls} pp
0 3
{low} {high}
0 4
ITEM: ATOMS x y z vx vy vz type {mass}c_virial[1] c_virial[2] c_virial[3] c_virial[4] c_virial[5] c_virial[6]
"""


def write_dump(path, frames, walls="pp", mass="mass ", low=0.0, high=5.0):
    """Frames of columns x y z vx vy vz type mass and the virial in LAMMPS's order, in full precision."""
    with path.open("w") as file:
        for step, atoms in enumerate(frames):
            file.write(FRAME.format(step=step, atoms=len(atoms), walls=walls, mass=mass, low=low, high=high))
            np.savetxt(file, atoms, fmt="%.17g")
    return path


def random_frames(seed, count=4, atoms=60):
    random = np.random.default_rng(seed)
    found = random.standard_normal((count, atoms, 14))
    found[..., :3] = EDGES * random.random((count, atoms, 3))
    types = random.integers(1, 3, (count, atoms))
    found[..., 6], found[..., 7] = types, np.where(types == 1, 1.0, 2.5)
    return found


def summed(slices, name):
    """Of all slices, mean over the stretches, from means per volume."""
    return getattr(slices, name).mean(0).sum(0) * EDGES.prod() / len(slices.centres)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 2]), st.floats(0.3, 6))
def test_sums_of_the_slices_are_those_of_all_atoms(tmp_path_factory, seed, axis, width):
    frames = random_frames(seed)
    slices = bin_dump(write_dump(tmp_path_factory.mktemp("dump") / "a", frames), axis, width, "lj", VIRIAL)
    mass, velocity, virial = frames[..., 7], frames[..., 3:6], frames[..., [8, 11, 12, 9, 13, 10]]
    assert len(slices.centres) == max(1, round(EDGES[axis] / width))
    assert summed(slices, "number") == pytest.approx(60)
    assert summed(slices, "mass") == pytest.approx(mass.sum() / 4)
    assert np.allclose(summed(slices, "momentum"), (mass[..., None] * velocity).sum((0, 1)) / 4)
    flux = np.einsum("ta,tai,taj->ij", mass, velocity, velocity)[np.triu_indices(3)]
    assert np.allclose(summed(slices, "stress"), (virial.sum((0, 1)) - flux) / 4)
    assert summed(slices, "heat") == pytest.approx(np.einsum("ta,tai,tai->", mass, velocity, velocity) / 12)


def test_a_moving_frame_changes_the_velocity_alone(tmp_path):
    frames, shift = random_frames(1), np.array([30.0, -20.0, 10.0])
    moving = frames.copy()
    moving[..., 3:6] += shift
    rest, seen = (
        bin_dump(write_dump(tmp_path / name, atoms), 1, 1.0, "lj", VIRIAL).fields()
        for name, atoms in (("rest", frames), ("moving", moving))
    )
    assert np.allclose(seen.velocity, rest.velocity + shift)
    for field in fields(rest):
        # 30^2 of every mass is taken away again: 1e-16 times some thousands.
        if field.name != "velocity":
            assert np.allclose(getattr(seen, field.name), getattr(rest, field.name), atol=1e-10), field.name


def test_a_shear_has_its_rate_and_brings_no_stress_across(tmp_path):
    """Atoms stand evenly, so that their mean height is the centre of the slice; what flow varies within it is heat."""
    places = np.stack(np.meshgrid(*((np.arange(count) + 0.5) / count for count in (2, 40, 2)), indexing="ij"), -1)
    atoms = np.zeros((160, 14))
    atoms[:, :3], atoms[:, 6:8] = (EDGES * places).reshape(-1, 3), 1
    atoms[:, 3] = 0.7 * atoms[:, 1] - 1.3
    slices = bin_dump(write_dump(tmp_path / "a", [atoms] * 8, "ff"), 1, 0.5, "lj", VIRIAL)
    found = slices.fields()
    assert np.isnan(found.gradient()[[0, -1]]).all()
    assert np.allclose(found.gradient()[1:-1], [0.7, 0, 0])
    assert np.allclose(found.velocity[:, 0], 0.7 * found.centres - 1.3)
    # Four heights in a slice, 1/8 apart: a mean square of 5/64 of a width of 1/2 squared.
    assert np.allclose(found.temperature, 0.7**2 * (5 / 64) * 0.25 / 3)
    assert np.allclose(found.stress[:, 1:], 0)
    rate, error = slices.estimate(lambda fields: fields.gradient()[1:-1, 0])
    assert np.allclose(rate, 0.7) and np.allclose(error, 0)


def test_memory_is_bounded_and_the_mean_is_that_of_all_frames(tmp_path):
    frames = random_frames(2, count=640, atoms=5)
    slices = bin_dump(write_dump(tmp_path / "a", frames), 0, 1.0, "lj", VIRIAL)
    assert NUM_STRETCHES <= len(slices.number) < 2 * NUM_STRETCHES
    assert np.allclose(summed(slices, "momentum"), (frames[..., 7:8] * frames[..., 3:6]).sum((0, 1)) / 640)


def test_types_have_the_masses_that_are_given(tmp_path):
    frames = random_frames(3)
    known = bin_dump(write_dump(tmp_path / "a", frames), 1, 1.0, "lj", VIRIAL)
    typed = write_dump(tmp_path / "b", np.delete(frames, 7, 2), mass="")
    assert np.allclose(bin_dump(typed, 1, 1.0, "lj", VIRIAL, (1.0, 2.5)).stress, known.stress)
    with pytest.raises(DataError, match=r"b: line 1: has no column mass"):
        bin_dump(typed, 1, 1.0, "lj", VIRIAL)
    with pytest.raises(DataError, match=r"b: line 1: has types up to 2, ingest.masses 1; add the others"):
        bin_dump(typed, 1, 1.0, "lj", VIRIAL, (1.0,))


def test_slices_that_move_or_lean_are_refused(tmp_path):
    frame = random_frames(4, count=1)
    path = write_dump(tmp_path / "a", frame, "ss")
    path.write_text(
        path.read_text() + write_dump(tmp_path / "b", frame, "ss", high=5.1).read_text().replace("\n0\n", "\n9\n", 1)
    )
    with pytest.raises(DataError, match=r"line 70: the box has not the place that it had at step 0 along y.*boundary"):
        bin_dump(path, 1, 1.0, "lj", VIRIAL)
    leaning = (
        path.read_text().replace("BOUNDS", "BOUNDS xy xz yz").replace("0 3\n0.0 5.0\n0 4\n", "0 4 1\n0 5 0\n0 4 0\n")
    )
    (tmp_path / "c").write_text(leaning.partition("ITEM: TIMESTEP\n9")[0])
    with pytest.raises(DataError, match="the box leans along axis x: slices across it are not flat"):
        bin_dump(tmp_path / "c", 0, 1.0, "lj", VIRIAL)
    # Across y they are: the volume is the same, and atoms outside the lean of x come in again on the other side.
    assert summed(bin_dump(tmp_path / "c", 1, 1.0, "lj", VIRIAL), "number") == pytest.approx(60)
    (tmp_path / "d").write_text("ITEM: UNITS\nmetal\n" + path.read_text())
    with pytest.raises(DataError, match="is in units metal, not lj; correct simulate.units"):
        bin_dump(tmp_path / "d", 1, 1.0, "lj", VIRIAL)


CHUNKS = """# Chunk-averaged data for fix slices and group all
# Timestep Number-of-chunks Total-count
# Chunk {places} Ncount density/number density/mass vx vy vz temp s1 s2 s3 s4 s5 s6
100 2 30
 1 {first} 10 0.5 0.5 2 0 0 3 -1 0 0 -1 0 -1
 2 {second} 20 1.0 {mass} 0 0 0 1 -1 0 0 -1 0 -1
"""
STRESS = ["s1", "s2", "s3", "s4", "s5", "s6"]


def test_chunks_of_lammps_by_hand(tmp_path):
    path = tmp_path / "slices.txt"
    path.write_text(CHUNKS.format(places="Coord1", first=0.5, second=1.5, mass=1.0))
    found = bin_chunks(path, 2, "lj", STRESS).fields()
    assert found.centres.tolist() == [0.5, 1.5] and found.density.tolist() == [0.5, 1.0]
    # The flow's own energy, 2^2 / 3 of the first temperature, and its flux of momentum, 0.5 2^2, are taken away.
    assert found.temperature == pytest.approx([3 - 4 / 3, 1.0])
    assert found.stress[:, 0] == pytest.approx([-0.5 + 0.5 * 4, -1.0]) and found.stress[:, 3].tolist() == [-0.5, -1.0]


def test_chunks_that_are_no_slices_of_one_mass_are_refused(tmp_path):
    path = tmp_path / "slices.txt"
    path.write_text(CHUNKS.format(places="Coord1", first=0.5, second=1.5, mass=1.1))
    with pytest.raises(DataError, match=r"slices.txt: atoms have several masses.*use ingest.kind: dump"):
        bin_chunks(path, 2, "lj", STRESS)
    path.write_text(CHUNKS.format(places="Coord1 Coord2", first="0.5 0.5", second="1.5 0.5", mass=1.0))
    with pytest.raises(DataError, match=r"slices.txt: line 3: chunks are no slices; use compute chunk/atom bin/1d"):
        bin_chunks(path, 2, "lj", STRESS)


def test_errors_of_independent_stretches(tmp_path):
    """200 draws of ten frames: the jackknife's variance is right to a tenth, for the temperature, which is no sum."""
    found = []
    for seed in range(200):
        slices = bin_dump(write_dump(tmp_path / "a", random_frames(seed, 10, 40)), 1, 5.0, "lj", VIRIAL)
        found.append(np.concatenate(slices.blocks(10).estimate(lambda fields: fields.temperature)))
    values, errors = np.array(found).T
    assert values.std() == pytest.approx(np.sqrt(np.mean(errors**2)), rel=0.15)


def test_the_fluid_and_what_is_away_from_its_ends():
    filling = np.array([0, 0.5, 9, 10, 11, 10, 9, 8, 2, 0])
    filled = filled_slices(filling)
    assert filled.tolist() == [False] * 2 + [True] * 7 + [False]
    assert inner_slices(np.arange(7.0), 2.0).tolist() == [False, False, True, True, True, False, False]
    with pytest.raises(ValueError, match="does not fill a row"):
        filled_slices(np.array([5, 0, 5]))


def test_fluid_at_rest_has_the_pressure_and_temperature_of_lammps(tmp_path):
    deck = FLUID.format(tilt="0 0 0") + (
        "thermo 20\nthermo_style custom step temp pxx pxy pxz pyy pyz pzz\nthermo_modify format float %.12g\n"
        "run 400\nreset_timestep 0\ncompute virial all stress/atom NULL virial\n"
        "dump atoms all custom 20 atoms.dump.gz id mass xs ys zs vx vy vz c_virial[*]\n"
        "dump_modify atoms format float %.12g\nrun 2000\n"
    )
    thermo = list(thermo_runs(run_lammps(tmp_path, deck)))[1].values.mean(0)
    slices = bin_dump(tmp_path / "atoms.dump.gz", 2, 1.5, "lj", VIRIAL)
    whole = bin_dump(tmp_path / "atoms.dump.gz", 2, 100.0, "lj", VIRIAL).fields()
    # Of 256 atoms LAMMPS takes three degrees of freedom for the motion of the whole, which is at rest.
    assert whole.temperature[0] == pytest.approx(thermo[1] * 255 / 256, rel=1e-9)
    assert np.allclose(whole.stress[0], -thermo[2:], rtol=1e-9, atol=1e-9)
    # In every slice they are the same within their errors: 5 slices of six components, all below 4 errors.
    stress, error = slices.blocks(10).estimate(lambda fields: fields.stress)
    assert (np.abs(stress + thermo[2:]) < 4 * error).all() and (error[:, [1, 2, 4]] < 0.3).all()
    ideal = (slices.fields().number * slices.fields().temperature).mean()
    assert (
        abs(ideal + stress[:, [0, 3, 5]].mean()) > 0.1
    )  # so that a virial left out, or of the wrong sign, would be seen


def test_a_dump_in_real_units_has_the_pressure_of_lammps(tmp_path):
    deck = FLUID.replace("prism", "block").format(tilt="")
    for old, new in (
        ("units lj", "units real"), ("fcc 0.8442", "fcc 5.4"), ("mass 1 1.0", "mass 1 39.95"),
        ("create 1.44", "create 200"), ("lj/cut 2.5", "lj/cut 8.5"), ("1 1 1.0 1.0", "1 1 0.238 3.405"), ("0.005", "2"),
    ):  # fmt: skip
        deck = deck.replace(old, new)
    deck += (
        "compute virial all stress/atom NULL virial\ncompute total all stress/atom NULL\n"
        "compute slices all chunk/atom bin/1d y lower 5.4 units box\n"
        "fix slices all ave/chunk 50 1 50 slices density/number density/mass vx vy vz temp c_total[*] file slices.txt\n"
        "dump atoms all custom 50 atoms.dump id type x y z vx vy vz c_virial[*]\n"
        "thermo 50\nthermo_style custom step temp pxx pxy pxz pyy pyz pzz density\nrun 50\nrun 200\n"
    )
    thermo = list(thermo_runs(run_lammps(tmp_path, deck)))[1].values.mean(0)
    # Frame 0 comes before the averages; with 5 blocks it is left over.
    whole, dumped = (
        bin_dump(tmp_path / "atoms.dump", 1, width, "real", VIRIAL, (39.95,)).blocks(5).fields() for width in (99, 5.4)
    )
    # Of the 1900 atm kinetic and virial part have some hundreds each, to six digits of every atom's number.
    assert np.allclose(whole.stress[0], -thermo[2:8], rtol=2e-5, atol=0.02)
    assert whole.density[0] == pytest.approx(thermo[8], rel=2e-5)
    assert whole.temperature[0] == pytest.approx(thermo[1] * 255 / 256, rel=2e-5)
    columns = [name.replace("virial", "total") for name in VIRIAL]
    averaged = bin_chunks(tmp_path / "slices.txt", 1, "real", columns).blocks(5).fields()
    for field in fields(averaged):
        theirs, ours = getattr(averaged, field.name), getattr(dumped, field.name)
        assert np.allclose(theirs, ours, rtol=1e-4, atol=2e-5 * np.abs(ours).max()), field.name
