"""Classical closures: each is one callable, `closure(velocity) -> acceleration`, for either layout."""

from hpcsurrogate.physics.closures.build import make_classical
from hpcsurrogate.physics.closures.damping import Hyperviscosity, NoClosure
from hpcsurrogate.physics.closures.dynamic import DynamicSmagorinsky
from hpcsurrogate.physics.closures.dynamic_momentum import DynamicSmagorinsky3D
from hpcsurrogate.physics.closures.eddy_viscosity import Leith, Smagorinsky
from hpcsurrogate.physics.closures.gradient import Gradient, Mixed
from hpcsurrogate.physics.closures.stress_closure import StressClosure
from hpcsurrogate.physics.closures.wale_vreman import Vreman, Wale

__all__ = [
    "DynamicSmagorinsky",
    "DynamicSmagorinsky3D",
    "Gradient",
    "Hyperviscosity",
    "Leith",
    "Mixed",
    "NoClosure",
    "Smagorinsky",
    "StressClosure",
    "Vreman",
    "Wale",
    "make_classical",
]
