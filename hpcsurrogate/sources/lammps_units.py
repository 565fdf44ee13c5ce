"""What the numbers of LAMMPS mean: each style's units in SI.

The LAMMPS manual, "units command". In style electron it gives velocities in Bohr per 1.03275 fs; the program takes and
writes Bohr/fs, and so does this table.
"""

from dataclasses import dataclass, fields

from hpcsurrogate.core.errors import DataError

BOLTZMANN = 1.380649e-23  # [J/K]
_GRAM_PER_MOLE = 1e-3 / 6.02214076e23
_ANGSTROM = 1e-10
_ELECTRON_VOLT = 1.602176634e-19


@dataclass(frozen=True)
class UnitStyle:
    """What 1 of each quantity is in SI; in style lj all is reduced, and each is 1.

    Attributes
    ----------
    mass : float           [kg]
    length : float         [m]
    time : float           [s]
    energy : float         [J]
    velocity : float       [m/s]
    pressure : float       [Pa]
    density : float        [kg/m^3]
    boltzmann : float      [energy/temperature] in the style's own units; temperatures are in K, or reduced
    """

    mass: float = 1.0
    length: float = 1.0
    time: float = 1.0
    energy: float = 1.0
    velocity: float = 1.0
    pressure: float = 1.0
    density: float = 1.0
    boltzmann: float = 1.0

    @property
    def kinetic_energy(self) -> float:
        """[energy] of a mass of 1 times a velocity of 1 squared."""
        return self.mass * self.velocity**2 / self.energy

    @property
    def kinetic_pressure(self) -> float:
        """[pressure] of a mass of 1 times a velocity of 1 squared in a volume of 1."""
        return self.mass * self.velocity**2 / self.length**3 / self.pressure

    @property
    def mass_density(self) -> float:
        """[density] of a mass of 1 in a volume of 1."""
        return self.mass / self.length**3 / self.density

    def factor(self, dimension: str) -> float:
        """Return what 1 of a quantity is in SI.

        Parameters
        ----------
        dimension : str    as in data/material.py: mass/length^3, temperature, 1/time, pressure, ...

        Raises
        ------
        KeyError    if it is not known
        """
        known = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "boltzmann"}
        known |= {"": 1.0, "temperature": 1.0, "1/time": 1 / self.time, "mass/length^3": self.density}
        return known[dimension]


STYLES = {
    "lj": UnitStyle(),
    "real": UnitStyle(
        mass=_GRAM_PER_MOLE,
        length=_ANGSTROM,
        time=1e-15,
        energy=4184 / 6.02214076e23,  # kcal/mol
        velocity=_ANGSTROM / 1e-15,
        pressure=101325.0,
        density=1e3,
        boltzmann=BOLTZMANN / (4184 / 6.02214076e23),
    ),
    "metal": UnitStyle(
        mass=_GRAM_PER_MOLE,
        length=_ANGSTROM,
        time=1e-12,
        energy=_ELECTRON_VOLT,
        velocity=_ANGSTROM / 1e-12,
        pressure=1e5,
        density=1e3,
        boltzmann=BOLTZMANN / _ELECTRON_VOLT,
    ),
    "si": UnitStyle(boltzmann=BOLTZMANN),
    "electron": UnitStyle(
        mass=_GRAM_PER_MOLE,
        length=5.29177210903e-11,
        time=1e-15,
        energy=4.3597447222071e-18,  # Hartree
        velocity=5.29177210903e-11 / 1e-15,
        pressure=1.0,
        density=_GRAM_PER_MOLE / 5.29177210903e-11**3,
        boltzmann=BOLTZMANN / 4.3597447222071e-18,
    ),
}


def unit_style(name: str) -> UnitStyle:
    """Return a style by its name in LAMMPS's command `units`.

    Raises
    ------
    DataError    if there is no such style here

    Notes
    -----
    Energies, temperatures, pressures and densities of a gas that LAMMPS itself prints in each style follow from its
    masses and velocities to 2e-5: LAMMPS has older values of the constants (tests/unit/sources/test_lammps_units.py).
    """
    if name not in STYLES:
        raise DataError(f"units {name}: is not one of {', '.join(STYLES)}; convert the files to one of them")
    return STYLES[name]
