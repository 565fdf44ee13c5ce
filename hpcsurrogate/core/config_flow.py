"""The sections `flow` and `host` of the experiment file: the physical problem, and the coarse solver of the closure."""

from typing import Annotated, Literal

from pydantic import Field

from hpcsurrogate.core.section import Lengths, NonNegativeFloat, PositiveFloat, PositiveInt, Section, Shape

# --- the flow -------------------------------------------------------------------------------------------------


class NoForcing(Section):
    """Decaying flow."""

    kind: Literal["none"] = "none"


class KolmogorovForcing(Section):
    """Body force amplitude * sin(2 pi wavenumber y / Ly) along x."""

    kind: Literal["kolmogorov"]
    wavenumber: PositiveInt = Field(4, description="number of waves across the domain in y")
    amplitude: PositiveFloat = Field(1.0, description="peak body force [m/s^2]")


class RingForcing(Section):
    """Steady, divergence-free body force with random phases on the modes with |k| L/2pi within 1/2 of `wavenumber`.

    A ring of modes in two dimensions, a shell in three.
    """

    kind: Literal["ring"]
    wavenumber: PositiveInt = 4
    amplitude: PositiveFloat = Field(1.0, description="root mean square of the body force [m/s^2]")
    seed: int = 0


class ConstantPowerForcing(Section):
    """Body force in proportion to the largest scales of the velocity, which feeds them energy at a constant rate."""

    kind: Literal["constant_power"]
    wavenumber: PositiveInt = Field(2, description="largest |k| L/2pi of the modes that are driven")
    power: PositiveFloat = Field(description="energy injected per mass and time [m^2/s^3]")


Forcing = Annotated[NoForcing | KolmogorovForcing | RingForcing | ConstantPowerForcing, Field(discriminator="kind")]


class Flow(Section):
    """The physical problem: incompressible flow in a periodic box of two or three dimensions, shared by all stages."""

    domain: Lengths = Field((6.283185307179586, 6.283185307179586), description="Lx, Ly[, Lz] [m]")
    viscosity: NonNegativeFloat = Field(description="kinematic viscosity nu [m^2/s]")
    drag: NonNegativeFloat = Field(0.0, description="linear (Rayleigh) drag [1/s]")
    forcing: Forcing = NoForcing()


# --- the host solver that will use the closure ------------------------------------------------------------------


ClosureCalls = Annotated[
    Literal["stage", "step"],
    Field(description="the closure is called at every Runge-Kutta stage, or once a step and held"),
]


class FiniteVolumeHost(Section):
    """Staggered finite volume, orders 2, 4, 6, pressure projection, explicit Runge-Kutta."""

    kind: Literal["finite_volume"]
    grid: Shape
    order: Literal[2, 4, 6] = 2
    advection: Literal["central", "upwind"] = Field(
        "central", description="central conserves kinetic energy; upwind: interpolation biased upstream, of order - 1"
    )
    time_step: PositiveFloat = Field(description="[s]")
    closure_calls: ClosureCalls = "stage"


class Hyperviscosity(Section):
    """Damping rate (k/kmax)^(2 power) of every mode, in the spectral host's linear term."""

    rate: NonNegativeFloat = Field(4.0, description="damping of the highest mode along an axis [1/s]")
    power: PositiveInt = 4


class SpectralHost(Section):
    """Pseudo-spectral. `shift` keeps all modes and shifts the grid half a cell on alternate stages."""

    kind: Literal["spectral"]
    grid: Shape
    dealias: Literal["two_thirds", "shift"] = "two_thirds"
    hyperviscosity: Hyperviscosity | None = None
    time_step: PositiveFloat = Field(description="[s]")
    closure_calls: ClosureCalls = "stage"


Host = Annotated[FiniteVolumeHost | SpectralHost, Field(discriminator="kind")]
