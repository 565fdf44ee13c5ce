"""One registry of every physical field that a file, a network or a solver exchanges: rank, components, unit, sign.

Files, artifacts and error messages all speak these names.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PhysicalField:
    """What one field is.

    Attributes
    ----------
    name : str                  the name in files and artifacts
    symbol : str                as in the documentation
    rank : int                  0 scalar, 1 vector, 2 tensor
    components : tuple of str   their order along the component axis; empty for a scalar
    unit : str                  SI; a non-dimensional study reads it as a unit of its own
    description : str           definition with its sign
    """

    name: str
    symbol: str
    rank: int
    components: tuple[str, ...]
    unit: str
    description: str


_ALL = (
    PhysicalField("velocity", "u", 1, ("x", "y"), "m/s", "velocity"),
    PhysicalField("vorticity", "omega", 0, (), "1/s", "dv/dx - du/dy, positive anticlockwise"),
    PhysicalField("pressure", "p", 0, (), "m^2/s^2", "kinematic pressure; the momentum equation gets -grad(p)"),
    PhysicalField(
        "sgs_stress",
        "tau",
        2,
        ("xx", "xy", "yy"),
        "m^2/s^2",
        "filter(u_i u_j) - filter(u_i) filter(u_j); the coarse momentum equation gets -div(tau)",
    ),
    PhysicalField("sgs_force", "f", 1, ("x", "y"), "m/s^2", "-div(tau), added to the coarse momentum equation"),
    PhysicalField(
        "commutator",
        "c",
        1,
        ("x", "y"),
        "m/s^2",
        "P filter(rhs_fine(u)) - rhs_host(filter(u)), added to the host's momentum equation",
    ),
)

FIELDS: dict[str, PhysicalField] = {field.name: field for field in _ALL}
