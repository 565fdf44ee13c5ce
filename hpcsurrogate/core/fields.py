"""One registry of every physical field that a file, a network or a solver exchanges: rank, components, unit, sign.

Files, artifacts and error messages all speak these names.
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement, product

AXES = ("x", "y", "z")


@dataclass(frozen=True)
class PhysicalField:
    """What one field is.

    Attributes
    ----------
    name : str           the name in files and artifacts
    symbol : str         as in the documentation
    rank : int           0 scalar, 1 vector, 2 tensor
    unit : str           SI; a study in other units, or without dimensions, has a unit of its own
    description : str    definition with its sign
    symmetric : bool     whether a tensor is its own transpose, so that half of it is kept
    """

    name: str
    symbol: str
    rank: int
    unit: str
    description: str
    symmetric: bool = True

    def components_in(self, num_dims: int) -> tuple[str, ...]:
        """Return the names of the components in their order along the component axis; none for a scalar.

        Parameters
        ----------
        num_dims : int    2 or 3 dimensions of space

        Returns
        -------
        tuple of str    of a vector x, y[, z]; of a symmetric tensor xx, xy, yy or xx, xy, xz, yy, yz, zz; of any other
                        all, row by row
        """
        if self.rank == 0:
            return ()
        axes = AXES[:num_dims]
        choices = combinations_with_replacement(axes, self.rank) if self.symmetric else product(axes, repeat=self.rank)
        return tuple("".join(choice) for choice in choices)

    def num_components_in(self, num_dims: int) -> int:
        """Return the length of the component axis in memory, which a scalar has too: 1."""
        return len(self.components_in(num_dims)) or 1


_ALL = (
    PhysicalField("velocity", "u", 1, "m/s", "velocity"),
    PhysicalField(
        "velocity_gradient", "G", 2, "1/s", "G_ij = du_i/dx_j: row i is the gradient of component i", symmetric=False
    ),
    PhysicalField(
        "scaled_velocity_gradient",
        "G L / Delta",
        2,
        "1/s",
        "velocity differences across a cell along its axes, over Delta: the velocity gradient on cubic cells. L is the"
        " symmetric root of twelve times the second moment of the cell, of a box the diagonal matrix of its sides",
        symmetric=False,
    ),
    PhysicalField("filter_width", "Delta", 0, "m", "width of the filter that separates coarse from fine"),
    PhysicalField("density", "rho", 0, "kg/m^3", "mass density"),
    PhysicalField("temperature", "T", 0, "K", "temperature"),
    PhysicalField(
        "stress", "sigma", 2, "Pa", "Cauchy stress, positive in tension; the momentum equation gets +div(sigma)"
    ),
    PhysicalField(
        "stress_error", "s", 2, "Pa", "standard deviation of what a law says of each component of the stress"
    ),
    PhysicalField("vorticity", "omega", 0, "1/s", "dv/dx - du/dy, positive anticlockwise"),
    PhysicalField("pressure", "p", 0, "m^2/s^2", "kinematic pressure; the momentum equation gets -grad(p)"),
    PhysicalField(
        "sgs_stress",
        "tau",
        2,
        "m^2/s^2",
        "filter(u_i u_j) - filter(u_i) filter(u_j); the coarse momentum equation gets -div(tau)",
    ),
    PhysicalField("sgs_force", "f", 1, "m/s^2", "-div(tau), added to the coarse momentum equation"),
    PhysicalField("body_force", "f", 1, "m/s^2", "acceleration of a cell, added to the momentum equation"),
    PhysicalField("turbulent_energy", "k", 0, "m^2/s^2", "half the mean of u'_i u'_i, u' being the fluctuations"),
    PhysicalField("dissipation", "epsilon", 0, "m^2/s^3", "rate at which k becomes heat"),
    PhysicalField("reynolds_stress", "R", 2, "m^2/s^2", "mean of u'_i u'_j; the mean momentum equation gets -div(R)"),
    PhysicalField(
        "commutator",
        "c",
        1,
        "m/s^2",
        "P filter(rhs_fine(u)) - rhs_host(filter(u)), added to the host's momentum equation",
    ),
)

FIELDS: dict[str, PhysicalField] = {field.name: field for field in _ALL}
