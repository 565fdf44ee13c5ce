"""Classical closures: each is one callable, `closure(velocity_bcxy) -> acceleration_bcxy`, for either layout."""

from hpcsurrogate.physics.closures.build import make_classical
from hpcsurrogate.physics.closures.damping import Hyperviscosity, NoClosure
from hpcsurrogate.physics.closures.dynamic import DynamicSmagorinsky
from hpcsurrogate.physics.closures.eddy_viscosity import Leith, Smagorinsky
from hpcsurrogate.physics.closures.gradient import Gradient
from hpcsurrogate.physics.closures.stress_closure import StressClosure

__all__ = [
    "DynamicSmagorinsky",
    "Gradient",
    "Hyperviscosity",
    "Leith",
    "NoClosure",
    "Smagorinsky",
    "StressClosure",
    "make_classical",
]
