"""What LAMMPS's styles of units (its command `units`) count the quantities of a fluid's law in.

The LAMMPS manual, "units command". The program's own constants are older values, which differ by less than 2e-5.
"""

from dataclasses import dataclass

UNITS = {
    style: dict(zip(("density", "temperature", "velocity_gradient", "stress"), names, strict=True))
    for style, names in {
        "lj": ("m/sigma^3", "epsilon/k", "1/tau", "epsilon/sigma^3"),
        "real": ("g/cm^3", "K", "1/fs", "atm"),
        "metal": ("g/cm^3", "K", "1/ps", "bar"),
        "si": ("kg/m^3", "K", "1/s", "Pa"),
        "electron": ("amu/Bohr^3", "K", "1/fs", "Pa"),
    }.items()
}

_BOLTZMANN = 1.380649e-23  # [J/K]
_DALTON = 1e-3 / 6.02214076e23  # [kg]
_ANGSTROM, _BOHR = 1e-10, 5.29177210903e-11  # [m]


@dataclass(frozen=True)
class UnitStyle:
    """Factors from masses, lengths and velocities as a script has them to the units of what follows from them.

    Attributes
    ----------
    density : float        of mass / length^3
    pressure : float       of mass velocity^2 / length^3
    temperature : float    of mass velocity^2, per degree of freedom
    """

    density: float = 1.0
    pressure: float = 1.0
    temperature: float = 1.0


def _style(mass: float, length: float, velocity: float, density: float, pressure: float) -> UnitStyle:
    """A style whose units are so much in SI, with temperatures in kelvin."""
    energy = mass * velocity**2
    return UnitStyle(mass / length**3 / density, energy / length**3 / pressure, energy / _BOLTZMANN)


UNIT_STYLES = {
    "lj": UnitStyle(),
    "real": _style(_DALTON, _ANGSTROM, _ANGSTROM / 1e-15, density=1e3, pressure=101325.0),
    "metal": _style(_DALTON, _ANGSTROM, _ANGSTROM / 1e-12, density=1e3, pressure=1e5),
    "si": _style(1.0, 1.0, 1.0, density=1.0, pressure=1.0),
    # The manual says Bohr per atomic unit of time; the program takes and writes Bohr/fs (the test asks it).
    "electron": _style(_DALTON, _BOHR, _BOHR / 1e-15, density=_DALTON / _BOHR**3, pressure=1.0),
}
