"""Our factors of units against what LAMMPS itself prints of a gas without forces, in every style."""

import numpy as np
import pytest

from hpcsurrogate.sources.lammps_dump import dump_frames
from hpcsurrogate.sources.lammps_log import thermo_runs
from hpcsurrogate.sources.lammps_units import UNIT_STYLES, UNITS
from tests.lammps_program import run_lammps

GAS = """
units {style}
atom_style atomic
region box block 0 {edge} 0 {edge} 0 {edge}
create_box 1 box
create_atoms 1 random 50 7 box
mass 1 {mass}
velocity all create {temperature} 1 mom no
pair_style zero $({edge}/4)
pair_coeff * *
neighbor $({edge}/10) bin
thermo_style custom step temp press density
thermo_modify format float %.12g
dump atoms all custom 1 atoms.txt id mass vx vy vz
dump_modify atoms format float %.12g
run 0
"""


def test_every_style_has_its_factors():
    assert UNIT_STYLES.keys() == UNITS.keys()


@pytest.mark.parametrize("style", UNIT_STYLES)
def test_gas_of_lammps(tmp_path, style):
    edge, mass, temperature = {"lj": (10, 1, 1.2), "si": (1e-8, 7e-26, 300)}.get(style, (40, 39.95, 300))
    log = run_lammps(tmp_path, GAS.format(style=style, edge=edge, mass=mass, temperature=temperature))
    (frame,), (thermo,) = dump_frames(tmp_path / "atoms.txt"), thermo_runs(log)
    masses, velocity = frame.columns["mass"], frame.vectors(("vx", "vy", "vz"))
    energy, volume, factors = (masses * np.square(velocity).sum(1)).sum(), frame.box.volume, UNIT_STYLES[style]
    printed = dict(zip(thermo.names, thermo.values[0], strict=True))
    # Of LAMMPS's temperature three degrees of freedom are those of the whole; its pressure has them all.
    assert factors.temperature * energy / (3 * 49) == pytest.approx(printed["Temp"], rel=2e-5)
    assert factors.pressure * energy / (3 * volume) == pytest.approx(printed["Press"], rel=2e-5)
    assert factors.density * masses.sum() / volume == pytest.approx(printed["Density"], rel=2e-5)
